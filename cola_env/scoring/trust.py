"""How far an imagined frame can be trusted, told without the real one.

A second model imagines the same actions beside the dream. Where the two agree, both are mostly
right; where they do not, at least one is wrong. A model of latents without such a second one is
asked whether it knows its own frames again: they are encoded anew and compared with the latents
that they were decoded from. A model of pixels encodes nothing: the less is left of the first, real
frame, the more there was to get wrong.

Each comparison is in dB, and a straight line makes of it the PSNR that the imagined frame probably
has to the real one. The lines of the first two were fitted by benchmarks/measurements/trust.py of
commit 334672c, whose results are docs/results/trust.json, that of the third in docs/play.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.inputs import check_number, to_bytes
from cola_env.models.autoencoders.autoencoder import Pixels
from cola_env.models.dream_state import DreamState
from cola_env.models.loading import load_model
from cola_env.models.precision import autocast
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
        self,
        memory: DreamState,
        imagined: DreamState | None,
        frames: Tensor,
        actions: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[DreamState, Tensor]:
        """Its dreams a step on, and the PSNR (B,) of its frames and these.

        noise: that its prediction begins with, (B, C, h, w); None is the same at every call.
        """
        generator = torch.Generator().manual_seed(int(memory.seen[0]))
        memory = self.second.step(memory, actions, noise=generator if noise is None else noise)
        return memory, frame_psnr(self.second.frames(memory), frames)


class TrustPenalty:
    """What a dream's reward loses where a second model does not agree: an agent that exploits one
    model's errors gains less by them.

    weight: what a frame loses for each dB that it is expected to lie below `TRUSTED`, above 0.
    """

    def __init__(self, agreement: Agreement, weight: float) -> None:
        self.agreement = agreement
        self.weight = weight

    def begin(self, frames: Tensor, actions: Tensor | None) -> DreamState:
        """The second model's dreams behind `frames` (B, C, S, S, 3), or behind the last of them
        where it needs the `actions` between them and there are none."""
        second = self.agreement.second
        if actions is None and second.config.conditioning == "direct":
            frames = frames[:, -1:]
        return self.agreement.begin(frames, actions)

    def step(
        self, memory: DreamState, frames: Tensor, actions: Tensor, noise: Tensor
    ) -> tuple[DreamState, Tensor]:
        """The second model's dreams a step on, and the PSNR (B,) in dB that is expected of the
        dream's `frames` (B, S, S, 3) uint8, imagined under `actions` (B, A).

        noise: that its prediction begins with, (B, C, h, w).
        """
        memory, compared = self.agreement.step(memory, None, frames, actions, noise)
        return memory, self.agreement.line(compared)

    def rollout(self, memory: DreamState, frames: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """The expected PSNR (B, N, H) of frames (B, N, H, S, S, 3) uint8, imagined under `actions`
        (B, N, H, A); `noise` is (H, B, C, h, w)."""
        made = to_bytes(self.agreement.second.rollout(memory, actions, noise=noise))
        return self.agreement.line(frame_psnr(made, frames))

    def cost(self, expected: Tensor) -> Tensor:
        """What the reward loses, of the shape of `expected`."""
        return self.weight * (TRUSTED - expected).clamp(min=0)


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


class Change:
    """Since the first frame, which was real."""

    name, line = "change", Line(10.4, 0.58)

    def begin(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """The last of the frames (B, C, S, S, 3) uint8."""
        return frames[:, -1]

    def step(
        self, memory: Tensor, imagined: DreamState, frames: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same memory, and the PSNR (B,) in dB of `frames` (B, S, S, 3) uint8 and it."""
        return memory, frame_psnr(frames, memory.to(frames.device))


def find_penalty(
    model: ColaWorldModel, action_mode: str, world: WorldInfo, weight: float
) -> TrustPenalty | None:
    """The penalty of dreams of `model`; None for a weight of 0.

    Raises ColaWorldError for a weight that is no number from 0 on, and where no second model knows
    such frames and actions.
    """
    if check_number("trust_penalty", weight, least=0) == 0:
        return None
    signal = find_signal(model, action_mode, world)
    if not isinstance(signal, Agreement):
        raise ColaWorldError(
            "trust_penalty compares with a second model, and none is shipped for such frames and "
            "actions: leave it at 0."
        )
    return TrustPenalty(signal, weight)


def find_signal(model: ColaWorldModel, action_mode: str, world: WorldInfo) -> TrustSignal:
    """The best signal that there is for dreams of `model`: agreement with the world's shipped model
    of the other conditioning where that knows such frames and actions, else recognition or, for a
    model of pixels, change."""
    alone: TrustSignal = Change() if isinstance(model.coder, Pixels) else Recognition(model)
    if action_mode == "latent" or world is OWN:
        return alone
    other = "cola" if model.config.conditioning == "direct" else "direct"
    try:
        second = load_model(other, model.device, world)
    except ColaWorldError:
        return alone
    shared = ("image_size", "rendering", "action_dim")
    if any(second.config[name] != model.config[name] for name in shared):
        return alone
    return Agreement(second)
