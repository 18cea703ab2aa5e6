"""Convolutions around the Transformer, and the picture put together from the one before.

What moves between two frames is mostly what was there before, elsewhere. So the network may say
where each pixel comes from, and paint only what is new: Finn et al., "Unsupervised Learning for
Physical Interaction through Video Prediction" (2016, arXiv 1605.07157), has the masks; here every
pixel has flows of its own in place of shared kernels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

POSITION_CHANNELS = 8
"""Of a learned map beside the input: a resting camera sees the same table in all videos."""
STAYS = 2.0
"""What the mask of the unmoved picture is ahead of the others at first."""


class ModulatedBlock(nn.Module):
    """Two convolutions beside the identity; noise level and action scale and shift what is between
    them, as adaptive layer norm does in the Transformer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = nn.GroupNorm(8, channels)
        last = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.leave = nn.Sequential(nn.SiLU(), last)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (N, channels, h, w), modulation (N, 2 * channels)."""
        changed = self.norm(self.enter(x))
        scale, shift = modulation.to(changed.dtype)[..., None, None].chunk(2, dim=1)
        return x + self.leave(changed * (1 + scale) + shift)


def modulation_size(channels: tuple[int, ...]) -> int:
    """Of what modulates a pyramid of these channels, on the way down and then up."""
    return 2 * sum(2 * width for width in channels)


class Pyramid(nn.Module):
    """Convolutions at a half, a quarter, ... of the resolution, down to where the Transformer's
    tokens are cut from, and up again past what they make of it.

    seen, made: channels of the input and the output, of the resolution `size`.
    channels: of the features at each level, each of which has a block on the way down and another
        on the way up; what modulates them all has the size `modulation_size(channels)`.
    """

    def __init__(self, seen: int, made: int, size: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.modulations = [2 * width for width in channels]
        side, steps = size // 2, list(pairwise(channels))
        self.position = nn.Parameter(0.1 * torch.randn(POSITION_CHANNELS, side, side))
        self.unshuffle = nn.PixelUnshuffle(2)
        self.first = nn.Conv2d(4 * seen + POSITION_CHANNELS, channels[0], 3, padding=1)
        self.before = nn.ModuleList([ModulatedBlock(width) for width in channels])
        self.shrink = nn.ModuleList([nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in steps])
        self.after = nn.ModuleList([ModulatedBlock(width) for width in channels])
        self.grow = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2))
                for fine, coarse in steps
            ]
        )
        last = nn.Conv2d(channels[0], 4 * made, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.last = nn.Sequential(nn.GroupNorm(8, channels[0]), nn.SiLU(), last, nn.PixelShuffle(2))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def down(self, images: Tensor, modulation: Tensor) -> list[Tensor]:
        """images (N, seen, H, W) -> features (N, channels, H / 2, W / 2), (.. / 4), ..."""
        images = self.unshuffle(images.to(self.position.dtype))
        places = self.position.expand(len(images), -1, -1, -1)
        images = torch.cat([images, places], dim=1).contiguous(memory_format=torch.channels_last)
        first, *others = modulation.chunk(2, dim=1)[0].split(self.modulations, dim=1)
        features = [self.before[0](self.first(images), first)]
        for shrink, block, mods in zip(self.shrink, self.before[1:], others, strict=True):
            features.append(block(shrink(features[-1]), mods))
        return features

    def up(self, features: list[Tensor], change: Tensor, modulation: Tensor) -> Tensor:
        """What `down` returned, and the change (N, channels, h, w) of the coarsest of it ->
        (N, made, H, W)."""
        *finer, coarse = features
        *others, last = modulation.chunk(2, dim=1)[1].split(self.modulations, dim=1)
        change = change.contiguous(memory_format=torch.channels_last)
        x: Tensor = self.after[-1](coarse + change, last)
        rest = zip(finer, self.grow, self.after[:-1], others, strict=True)
        for there, grow, block, mods in reversed(list(rest)):
            x = block(grow(x) + there, mods)
        return self.last(x)


def composite_channels(channels: int, flows: int) -> int:
    """Channels of what `composite` takes."""
    return channels + 2 * flows + flows + 2 + channels


def composite(made: Tensor, previous: Tensor, flows: int) -> Tensor:
    """A picture of `flows` moved copies of the one before, itself, and new pixels, under masks that
    sum to one, and a change of it. New pixels are for what comes into view, the change for a lamp
    that goes on: where little ever moves, the masks soon let no new pixel through to learn from.

    Args:
        made: (N, composite_channels, H, W): new pixels, the flows (x and y of where a pixel comes
            from, in quarters of the picture's side), the masks' logits, and the change.
        previous: (N, C, H, W).

    Returns:
        (N, C, H, W) float32.
    """
    count, channels, height, width = previous.shape
    parts = [channels, 2 * flows, flows + 2, channels]
    new, moves, logits, change = made.float().split(parts, dim=1)
    x, y = (((2 * torch.arange(n, device=made.device) + 1) / n - 1) for n in (width, height))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    source = places + 0.5 * moves.unflatten(1, (flows, 2)).movedim(2, -1)
    before = previous.float()
    moved = grid_sample(
        before, source.flatten(1, 2), padding_mode="border", align_corners=False
    ).unflatten(2, (flows, height))
    favour = torch.zeros(flows + 2, device=made.device)
    favour[flows] = STAYS
    masks = (logits + favour[:, None, None]).softmax(dim=1)
    copies = torch.cat([moved, before[:, :, None], new[:, :, None]], dim=2)
    return (masks[:, None] * copies).sum(dim=2) + change
