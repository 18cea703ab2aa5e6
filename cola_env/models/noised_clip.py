"""Clips whose frames are noised, each at a level of its own, and Euler's method on all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from cola_env.models.latent_action_diffusion import LatentActionDiffusion
from cola_env.models.rectified_flow import add_noise, shift_levels


@dataclass(frozen=True)
class NoisedClip:
    """What the network is shown of B clips of T frames.

    Attributes:
        latents: (B, T, C, h, w), partly noised.
        t: their noise levels (B, T) in [0, 1]; frames at 0 are clean, the context of the others.
        actions: vectors (B, T, tokens * code_size) that led to each frame.
        previous: clean latents of the frame before each, shaped as ``latents``.
    """

    latents: Tensor
    t: Tensor
    actions: Tensor
    previous: Tensor

    @classmethod
    def of(cls, clean: Tensor, noise: Tensor, t: Tensor, actions: Tensor) -> Self:
        """clean, noise (B, T, C, h, w); actions (B, T - 1, D) between the frames."""
        actions = torch.cat([torch.zeros_like(actions[:, :1]), actions], dim=1)
        previous = torch.cat([clean[:, :1], clean[:, :-1]], dim=1)
        return cls(add_noise(clean, noise, t), t, actions, previous)

    def velocity(self, model: LatentActionDiffusion, guidance_scale: float = 1.0) -> Tensor:
        """Velocity (B, T, C, h, w) from noise to data: v_u + s (v_c - v_u), where v_u knows no
        actions of the noised frames."""
        time = model.clip_context(self.t.shape[1])
        if guidance_scale == 1:
            return model.velocity(self.latents, self.t, self.actions, self.previous, time)[0]
        free = self.actions.masked_fill((self.t > 0)[..., None], 0)
        velocity, _ = model.velocity(
            self.latents.repeat(2, 1, 1, 1, 1),
            self.t.repeat(2, 1),
            torch.cat([self.actions, free]),
            self.previous.repeat(2, 1, 1, 1, 1),
            time,
        )
        with_action, without = velocity.chunk(2)
        return without + guidance_scale * (with_action - without)

    def mean_velocity(
        self,
        model: LatentActionDiffusion,
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
