"""The temporal VAE of Open-Sora v1.2 (VAE_Temporal): 4 frames of 2D latents become one.

Parameter names are the published ones. Convolutions are causal in time, but group norms pool over
it, so a latent depends on every frame of the chunk that is encoded with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from cola_env.models.autoencoders.from_diffusers import from_diffusers

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


@dataclass(frozen=True)
class TemporalVAEConfig:
    """Published sizes: 309,687,144 parameters. ``temporal_downsample``: where between the stages
    time is halved."""

    channels: int = 4
    filters: int = 128
    num_res_blocks: int = 4
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    num_groups: int = 32

    @property
    def frames_per_latent(self) -> int:
        return int(2 ** sum(self.temporal_downsample))


class CausalConv3d(nn.Module):
    """Convolution over (T, H, W), zero-padded in front in time; ``stride`` is that of time."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.padding = (*(kernel // 2,) * 4, kernel - stride, 0)
        self.conv = nn.Conv3d(channels, out, kernel, stride=(stride, 1, 1), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, self.padding))


class ResBlock(nn.Module):
    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = CausalConv3d(channels, out, 3, bias=False)
        self.norm2 = nn.GroupNorm(groups, out)
        self.conv2 = CausalConv3d(out, out, 3, bias=False)
        self.conv3 = None if channels == out else CausalConv3d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h)))
        return h + (x if self.conv3 is None else self.conv3(x))


def res_blocks(config: TemporalVAEConfig, channels: int, out: int) -> nn.Sequential:
    widths = [channels] + [out] * config.num_res_blocks
    return nn.Sequential(*(ResBlock(a, b, config.num_groups) for a, b in pairwise(widths)))


class Encoder(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = [config.filters * factor for factor in config.channel_multipliers]
        self.conv_in = CausalConv3d(config.channels, widths[0], 3, bias=False)
        self.block_res_blocks, self.conv_blocks = nn.ModuleList(), nn.ModuleList()
        previous = widths[0]
        for i, width in enumerate(widths):
            self.block_res_blocks.append(res_blocks(config, previous, width))
            if i < len(widths) - 1:
                halve = config.temporal_downsample[i]
                conv = CausalConv3d(width, width, 3, stride=2) if halve else nn.Identity()
                self.conv_blocks.append(conv)
            previous = width
        self.res_blocks = res_blocks(config, previous, previous)
        self.norm1 = nn.GroupNorm(config.num_groups, previous)
        self.conv2 = CausalConv3d(previous, 2 * config.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for i, blocks in enumerate(self.block_res_blocks):
            x = blocks(x)
            if i < len(self.conv_blocks):
                x = self.conv_blocks[i](x)
        x = self.res_blocks(x)
        return self.conv2(silu(self.norm1(x)))


class Decoder(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = [config.filters * factor for factor in config.channel_multipliers]
        previous = widths[-1]
        self.conv1 = CausalConv3d(config.channels, previous, 3)
        self.res_blocks = res_blocks(config, previous, previous)
        stages, convs = [], []
        for i, width in reversed(list(enumerate(widths))):
            stages.append(res_blocks(config, previous, width))
            if i > 0:
                double = config.temporal_downsample[i - 1]
                convs.append(CausalConv3d(width, 2 * width, 3) if double else nn.Identity())
            previous = width
        self.block_res_blocks = nn.ModuleList(reversed(stages))
        self.conv_blocks = nn.ModuleList(reversed(convs))
        self.norm1 = nn.GroupNorm(config.num_groups, previous)
        self.conv_out = CausalConv3d(previous, config.channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(z))
        for i in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[i](x)
            if i > 0:
                channels = x.shape[1]
                x = self.conv_blocks[i - 1](x)
                x = rearrange(x, "b (c s) t h w -> b c (t s) h w", c=channels)
        return self.conv_out(silu(self.norm1(x)))


class TemporalVAE(nn.Module):
    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = CausalConv3d(2 * config.channels, 2 * config.channels, 1)
        self.post_quant_conv = CausalConv3d(config.channels, config.channels, 1)

    def encode(self, x: Tensor) -> DiagonalGaussianDistribution:
        """x (B, C, T, H, W) -> the posterior over latents (B, C, ceil(T / 4), H, W).

        T is zero-padded in front to a multiple of 4: 1, 5, 9, ... frames give 1, 2, 3, ... latents.
        """
        x = pad(x, (0, 0, 0, 0, self._missing(x.shape[2]), 0))
        posterior = from_diffusers("models.autoencoders.vae").DiagonalGaussianDistribution
        return posterior(self.quant_conv(self.encoder(x)))

    def decode(self, z: Tensor, frames: int) -> Tensor:
        """z (B, C, ceil(frames / 4), H, W) -> x (B, C, frames, H, W)."""
        return self.decoder(self.post_quant_conv(z))[:, :, self._missing(frames) :]

    def _missing(self, frames: int) -> int:
        return -frames % self.config.frames_per_latent
