"""Clips for training, drawn from episodes held in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.episode_source import DamageReport, Unreadable

ENCODED_PIXELS = 64 * 256**2
"""Of a batch, so many are encoded together: at 256 x 256 a large one would take all memory."""


class TrainingData(Protocol):
    """What clips are drawn from: ``Clips``, a ``Stream`` or a ``Mixture`` of them.

    What is drawn is a pure function of the generator's state (and of which files are damaged).
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    @property
    def workers(self) -> int:
        """Processes that should draw from it; 0: it is quick."""
        ...

    @property
    def num_frames(self) -> int: ...

    @property
    def has_actions(self) -> bool: ...

    @property
    def damage_report(self) -> DamageReport: ...

    def with_actions(self) -> TrainingData:
        """What of it has actions."""
        ...

    def num_clips(self, length: int) -> int:
        """How many clips of ``length`` frames there are (of a mixture: in its least part)."""
        ...

    def sample(self, count: int, length: int, generator: torch.Generator) -> ClipBatch:
        """``count`` random clips of ``length`` frames."""
        ...

    def sample_frames(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` single frames (count, S, S, 3) uint8."""
        ...

    def first(self, episodes: int) -> Self:
        """The first ``episodes`` (of each source)."""
        ...


@dataclass(frozen=True)
class Clips:
    """Episodes of equal length in memory.

    Attributes:
        frames: (E, T + 1, S, S, 3) uint8.
        actions: (E, T, A) float32 in [-1, 1]; A is 0 where there are none.
        latents: (E, T + 1, C, h, w) float16 of the frames, None until an autoencoder is trained.
    """

    frames: Tensor
    actions: Tensor
    latents: Tensor | None = None

    name: ClassVar[str] = "The clips in memory"
    workers: ClassVar[int] = 0
    damage_report: ClassVar[DamageReport] = DamageReport()  # nothing in memory is damaged

    @property
    def episodes(self) -> int:
        return self.frames.shape[0]

    @property
    def num_frames(self) -> int:
        return self.frames.shape[0] * self.frames.shape[1]

    @property
    def has_actions(self) -> bool:
        return self.actions.shape[-1] > 0

    def with_actions(self) -> Clips:
        return self

    def num_clips(self, length: int) -> int:
        return self.episodes * max(0, self.frames.shape[1] - length + 1)

    def first(self, episodes: int) -> Clips:
        """The first ``episodes`` of them, not encoded."""
        return Clips(self.frames[:episodes], self.actions[:episodes])

    def encode(self, model: ColaWorldModel) -> Clips:
        """The same clips with the latents of all frames."""
        parts = self.frames.split(clips_at_once(self.frames))
        latents = torch.cat([encode(model, part).half().cpu() for part in parts])
        return Clips(self.frames, self.actions, latents)

    def sample_frames(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` single frames (count, S, S, 3) uint8."""
        flat = self.frames.flatten(0, 1)
        return flat[torch.randint(len(flat), (count,), generator=generator)]

    def sample(self, count: int, length: int, generator: torch.Generator) -> ClipBatch:
        """``count`` random clips of ``length`` frames.

        Raises Unreadable when the episodes are shorter.
        """
        if not self.num_clips(length):
            raise Unreadable(f"{self.name} have no episode of {length} frames.")
        episode = torch.randint(self.episodes, (count,), generator=generator)
        last_start = self.frames.shape[1] - length
        start = torch.randint(last_start + 1, (count,), generator=generator)
        time = start[:, None] + torch.arange(length)
        return ClipBatch(
            self.frames[episode[:, None], time],
            torch.empty(count, 0)
            if self.latents is None
            else self.latents[episode[:, None], time].float(),
            self.actions[episode[:, None], time[:, :-1]],
        )


@dataclass(frozen=True)
class ClipBatch:
    """frames (B, T, S, S, 3) uint8, latents (B, T, C, h, w) float32, empty until they are encoded,
    actions (B, T - 1, A), where A is 0 without any."""

    frames: Tensor
    latents: Tensor
    actions: Tensor

    def to(self, device: torch.device) -> ClipBatch:
        return ClipBatch(self.frames.to(device), self.latents.to(device), self.actions.to(device))

    def encoded(self, model: ColaWorldModel) -> ClipBatch:
        """With latents: those that it has, or new ones, made of few clips at a time."""
        if self.latents.numel():
            return self
        parts = [encode(model, part) for part in self.frames.split(clips_at_once(self.frames))]
        return replace(self, latents=torch.cat(parts))


def clips_at_once(frames: Tensor) -> int:
    """How many of the clips (B, T, S, S, 3) to encode together."""
    return max(1, ENCODED_PIXELS // frames[0, ..., 0].numel())


def encode(model: ColaWorldModel, frames: Tensor) -> Tensor:
    """The latents of frames, on the model's device."""
    with torch.no_grad(), autocast(model.device):
        return model.encode(frames.to(model.device))


def fixed_batch(
    clips: TrainingData, model: ColaWorldModel, count: int, length: int, seed: int = 0
) -> ClipBatch:
    """``count`` clips, the same ones in every call, encoded, on the model's device."""
    batch = clips.sample(count, length, torch.Generator().manual_seed(seed))
    return batch.to(model.device).encoded(model)


def random_crops(batch: ClipBatch, scale: float, generator: torch.Generator) -> ClipBatch:
    """Every clip cut to a random square with at least ``scale`` of its area, the same in all its
    frames, and brought back to its size. Without latents, which belong to the whole frames."""
    clips, frames = batch.frames.shape[:2]
    area, *corner = torch.rand(3, clips, generator=generator)
    side = (scale + (1 - scale) * area).sqrt()
    x, y = (2 * (1 - side) * (share - 0.5) for share in corner)  # of the centre, -1 to 1
    zero = torch.zeros(clips)
    rows = torch.stack([side, zero, x, zero, side, y], -1).view(clips, 2, 3)
    images = batch.frames.movedim(-1, 2).flatten(1, 2).float()
    grid = affine_grid(rows.to(images), [*images.shape], align_corners=False)
    cut = grid_sample(images, grid, padding_mode="border", align_corners=False)
    cut = cut.round().to(torch.uint8).unflatten(1, (frames, 3)).movedim(2, -1)
    return ClipBatch(cut, torch.empty(len(cut), 0), batch.actions)
