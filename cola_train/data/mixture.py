"""Training data from several sources, each with its share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_train.data.clips import ClipBatch, TrainingData
from cola_train.data.episode_source import DamageReport, Unreadable

T = TypeVar("T")


@dataclass(frozen=True)
class Mixture:
    """Every clip is drawn from ``parts[i]`` with probability ``weights[i] / sum(weights)``.

    A part of which nothing can be read leaves its share to the others.
    """

    parts: Sequence[TrainingData]
    weights: Sequence[float]

    @property
    def name(self) -> str:
        return ", ".join(part.name for part in self.parts)

    @property
    def workers(self) -> int:
        return max(part.workers for part in self.parts)

    @property
    def num_frames(self) -> int:
        return sum(part.num_frames for part in self.parts)

    @property
    def has_actions(self) -> bool:
        return any(part.has_actions for part in self.parts)

    @property
    def damage_report(self) -> DamageReport:
        """That of the streams among the parts, which share one."""
        return next((p.damage_report for p in self.parts if p.workers), self.parts[0].damage_report)

    def with_actions(self) -> TrainingData:
        rows = [i for i, part in enumerate(self.parts) if part.has_actions]
        parts = [self.parts[i].with_actions() for i in rows]
        return mixture(parts, [self.weights[i] for i in rows])

    def num_clips(self, length: int) -> int:
        return min(part.num_clips(length) for part in self.parts)

    def first(self, episodes: int) -> Mixture:
        return replace(self, parts=[part.first(episodes) for part in self.parts])

    def sample(self, count: int, length: int, generator: torch.Generator) -> ClipBatch:
        rows, drawn = self._shared(
            count, lambda part, share: part.sample(share, length, generator), generator
        )
        frames = torch.cat([batch.frames for batch in drawn])[rows]
        latents, actions = torch.empty(count, 0), torch.zeros(count, length - 1, 0)
        if all(batch.latents.numel() for batch in drawn):
            latents = torch.cat([batch.latents for batch in drawn])[rows]
        if len({batch.actions.shape[-1] for batch in drawn}) == 1:
            actions = torch.cat([batch.actions for batch in drawn])[rows]
        return ClipBatch(frames, latents, actions)

    def sample_frames(self, count: int, generator: torch.Generator) -> Tensor:
        rows, drawn = self._shared(
            count, lambda part, share: part.sample_frames(share, generator), generator
        )
        return torch.cat(drawn)[rows]

    def _shared(
        self, count: int, draw: Callable[[TrainingData, int], T], generator: torch.Generator
    ) -> tuple[Tensor, list[T]]:
        """What each part draws for its random share of ``count``, and the rows, in the order of
        the shares, that undo the sorting by parts."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        while weights.sum() > 0:
            picks = torch.multinomial(weights, count, replacement=True, generator=generator)
            drawn = []
            for i, part in enumerate(self.parts):
                try:
                    if share := int((picks == i).sum()):
                        drawn.append(draw(part, share))
                except Unreadable:
                    weights[i] = 0
                    break
            else:
                return picks.argsort(stable=True).argsort(), drawn
        raise Unreadable(f"Nothing can be read of {self.name}: {self.damage_report.summary()}")


def mixture(parts: Sequence[TrainingData], weights: Sequence[float]) -> TrainingData:
    """One part as it is, several as a ``Mixture``.

    Raises ColaWorldError for a weight that is no positive number.
    """
    for part, weight in zip(parts, weights, strict=True):
        if not weight > 0:
            raise ColaWorldError(
                f"The weight of {part.name} is {weight}: give a positive one, or leave it out."
            )
    return parts[0] if len(parts) == 1 else Mixture(parts, weights)


def check_length(data: TrainingData, length: int) -> None:
    """Raises ColaWorldError when a part of the data has no clip of ``length`` frames."""
    parts = data.parts if isinstance(data, Mixture) else [data]
    for part in parts:
        if not part.num_clips(length):
            raise ColaWorldError(
                f"{part.name}: no episode (or what is held out of it) has the {length} frames of a "
                "clip: give longer or more episodes, raise fps, or ask for shorter clips (clip "
                "of a phase; length and horizon of a measure)."
            )
