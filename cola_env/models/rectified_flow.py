"""Rectified flow (Liu et al., arXiv 2209.03003), as the world model learns it and samples from it.

``t`` in [0, 1] is the noise level: 0 is data, 1 is noise; the velocity points from noise to data.
Conventions are Open-Sora v1.2's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from cola_env.models.transformer import KeyValue, SharedPast, TemporalContext


def add_noise(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t eps; clean and noise (B, T, C, H, W), t (B, T)."""
    t = t[:, :, None, None, None]
    return (1 - t) * clean + t * noise


def velocity_to_clean(clean: Tensor, noised: Tensor, t: Tensor) -> Tensor:
    """The velocity (x_0 - x_t) / t that leads from ``noised`` to ``clean``; t (B, T) in (0, 1]."""
    return (clean - noised) / t[:, :, None, None, None].clamp_min(1e-3)


def shift_factor(height: int, width: int, frames: int) -> float:
    """r = sqrt(H W / 512^2) sqrt(T) of clips of H x W pixels with T latent frames.

    Larger and longer clips need more noise to hide what they show. Open-Sora v1.2 takes T from the
    number of frames before compression in time, and so gets 0 for clips shorter than 17.
    """
    return (height * width / 512**2 * frames) ** 0.5


def shift_levels(t: Tensor, shift: float) -> Tensor:
    """t' = r t / (1 + (r - 1) t), which moves noise levels in [0, 1] towards 1 for r > 1."""
    return shift * t / (1 + (shift - 1) * t)


def euler_scheduler(
    num_inference_steps: int, shift: float = 1.0
) -> FlowMatchEulerDiscreteScheduler:
    """diffusers' Euler scheduler on Open-Sora's grid t_i = 1 - i / N (its output is -velocity)."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(
        sigmas=[1 - i / num_inference_steps for i in range(num_inference_steps)]
    )
    return scheduler


class Denoiser(Protocol):
    """What is sampled from; see ``ColaWorldModel``."""

    residual: bool
    head_dim: int

    def velocity(
        self,
        noised: Tensor,
        t: Tensor,
        actions: Tensor,
        previous: Tensor,
        time: TemporalContext,
        past: Sequence[SharedPast] | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]: ...

    def clip_context(self, frames: int) -> TemporalContext: ...


def guided_velocity(
    model: Denoiser,
    scale: float,
    noised: Tensor,
    t: Tensor,
    actions: Tensor,
    no_actions: Tensor,
    previous: Tensor,
    time: TemporalContext,
    past: Sequence[SharedPast] | None = None,
) -> Tensor:
    """v_u + s (v_c - v_u): v_c under ``actions``, v_u under ``no_actions``, in one batch.

    Arguments are those of ``ColaWorldModel.velocity``; with a scale s other than 1, ``time`` and
    ``past`` are of the conditional rows and then of the unconditional ones.
    """
    if scale == 1:
        return model.velocity(noised, t, actions, previous, time, past)[0]
    velocity, _ = model.velocity(
        noised.repeat(2, 1, 1, 1, 1),
        t.repeat(2, 1),
        torch.cat([actions, no_actions]),
        previous.repeat(2, 1, 1, 1, 1),
        time,
        past,
    )
    conditional, unconditional = velocity.chunk(2)
    return unconditional + scale * (conditional - unconditional)


@dataclass(frozen=True)
class NoisedClip:
    """B clips of T frames, each frame noised at a level of its own.

    Attributes:
        latents: (B, T, C, h, w), partly noised.
        t: their noise levels (B, T) in [0, 1]; frames at 0 are clean, the context of the others.
        actions: vectors (B, T, tokens * code_size) that led to each frame, zero for the first.
        previous: clean latents of the frame before each, shaped as ``latents``.
    """

    latents: Tensor
    t: Tensor
    actions: Tensor
    previous: Tensor

    @classmethod
    def of(cls, clean: Tensor, noise: Tensor, t: Tensor, actions: Tensor) -> Self:
        """clean, noise (B, T, C, h, w); actions (B, T - 1, D) between the frames."""
        first = actions.new_zeros(actions.shape[0], 1, actions.shape[2])
        previous = torch.cat([clean[:, :1], clean[:, :-1]], dim=1)
        return cls(add_noise(clean, noise, t), t, torch.cat([first, actions], dim=1), previous)

    @torch.no_grad()
    def behind_predictions(self, model: Denoiser, chosen: Tensor) -> Self:
        """The same, but that ``previous`` of the ``chosen`` frames (B, T) is what the model
        predicts of the frame before, in one step from its noise level, unless that was clean. Done
        again, what it predicts is behind predictions itself."""
        length = self.t[..., None, None, None]
        predicted = self.latents + length * self.velocity(model)
        before = torch.cat([self.previous[:, :1], predicted[:, :-1]], dim=1)
        return replace(
            self, previous=torch.where(chosen[..., None, None, None], before, self.previous)
        )

    def velocity(self, model: Denoiser, guidance_scale: float = 1.0) -> Tensor:
        """Guided velocity (B, T, C, h, w); the unconditional one knows no actions of the noised
        frames."""
        actions, time = self.actions, model.clip_context(self.t.shape[1])
        no_actions = actions.masked_fill((self.t > 0)[..., None], 0)
        return guided_velocity(
            model, guidance_scale, self.latents, self.t, actions, no_actions, self.previous, time
        )

    def mean_velocity(
        self,
        model: Denoiser,
        end: Tensor,
        steps: int,
        shift: float = 1.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """The one velocity that leads where ``steps`` of Euler's method lead.

        Args:
            end: noise levels (B, T) to go to, at most ``t``.
            steps: of equal length for levels that are not shifted by ``shift``.

        Returns:
            (B, T, C, h, w); 0 for frames that are already at ``end``.
        """
        first, last = (shift_levels(level, 1 / shift) for level in (self.t, end))
        moved, level = torch.zeros_like(self.latents), self.t
        for i in range(steps):
            after = shift_levels(torch.lerp(first, last, (i + 1) / steps), shift)
            here = replace(self, latents=self.latents + moved, t=level)
            length = (level - after)[..., None, None, None]
            moved = moved + length * here.velocity(model, guidance_scale)
            level = after
        whole = (self.t - level)[..., None, None, None]
        return moved / torch.where(whole > 0, whole, 1.0)
