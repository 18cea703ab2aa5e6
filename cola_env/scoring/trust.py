"""How far an imagined frame can be trusted, told without the real one.

A second model imagines the same actions beside the dream. Where the two agree, both are mostly
right; where they do not, at least one is wrong. A model without such a second one is asked whether
it knows its own frames again: they are encoded anew and compared with the latents that they were
decoded from.

Either comparison is in dB, and a straight line makes of it the PSNR that the imagined frame
probably has to the real one. The lines were fitted by benchmarks/measurements/trust.py of commit
334672c, whose results are docs/results/trust.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.inputs import to_bytes
from cola_env.models.loading import load_model
from cola_env.models.precision import autocast
from cola_env.models.sampler import DreamState
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import frame_psnr, psnr
from cola_env.worlds import OWN, WorldInfo

TRUSTED = 20.0
"""dB that a frame should be expected to have; below, a dream has mostly left what it knows."""


@dataclass(frozen=True)
class Line:
    """intercept + slope * x."""

    intercept: float
    slope: float

    def __call__(self, x: Tensor) -> Tensor:
        """The value (...) at each x (...)."""
        return self.intercept + self.slope * x


class TrustSignal(Protocol):
    """Follows B dreams of one model; what it remembers of them is the caller's to keep."""

    name: str
    line: Line

    def begin(self, frames: Tensor, actions: Tensor | None = None) -> Any:
        """The memory of dreams that begin behind frames (B, C, S, S, 3) uint8, with the real
        actions (B, C - 1, A) between them where there are several."""
        ...

    def step(
        self, memory: Any, imagined: DreamState, frames: Tensor, actions: Tensor
    ) -> tuple[Any, Tensor]:
        """The next memory, and the comparison in dB (B,) for frames (B, S, S, 3) uint8, which were
        decoded from `imagined` after `actions` (B, A).

        `line` makes of it the expected PSNR to the real frames.
        """
        ...


class Agreement:
    """With a second model, which dreams on beside the first under the same real actions."""

    name, line = "agreement", Line(7.82, 0.521)

    def __init__(self, second: ColaWorldModel) -> None:
        self.second = second

    def begin(self, frames: Tensor, actions: Tensor | None = None) -> DreamState:
        """The second model's dreams from the same frames."""
        return self.second.begin(frames, actions)

    def step(
        self, memory: DreamState, imagined: DreamState, frames: Tensor, actions: Tensor
    ) -> tuple[DreamState, Tensor]:
        """Its dreams a step on, and the PSNR (B,) of its frames and these."""
        generator = torch.Generator().manual_seed(int(memory.seen[0]))
        memory = self.second.step(memory, actions, noise=generator)
        return memory, frame_psnr(self.second.frames(memory), frames)


class Recognition:
    """Of the model's own frames when they are encoded again, against that of the first real one."""

    name, line = "recognition", Line(26.57, 1.156)

    def __init__(self, model: ColaWorldModel) -> None:
        self.model = model

    @torch.no_grad()
    def begin(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """What the first frames are recognised at, dB (B,)."""
        with autocast(self.model.device):
            latents = self.model.encode(frames[:, -1].to(self.model.device))
            return self._recognised(latents, to_bytes(self.model.decode(latents)))

    @torch.no_grad()
    def step(
        self, memory: Tensor, imagined: DreamState, frames: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same memory, and how much worse these frames are recognised, dB (B,)."""
        with autocast(self.model.device):
            return memory, self._recognised(imagined.latents, frames) - memory

    def _recognised(self, latents: Tensor, frames: Tensor) -> Tensor:
        return psnr((self.model.encode(frames) - latents).square().flatten(1).mean(1))


def find_signal(model: ColaWorldModel, action_mode: str, world: WorldInfo) -> TrustSignal:
    """The best signal that there is for dreams of `model`: agreement with the world's shipped model
    of the other conditioning where that knows such frames and actions, else recognition."""
    if action_mode == "latent" or world is OWN:
        return Recognition(model)
    other = "cola" if model.config.conditioning == "direct" else "direct"
    try:
        second = load_model(other, model.device, world)
    except ColaWorldError:
        return Recognition(model)
    shared = ("image_size", "rendering", "action_dim")
    if any(second.config[name] != model.config[name] for name in shared):
        return Recognition(model)
    return Agreement(second)
