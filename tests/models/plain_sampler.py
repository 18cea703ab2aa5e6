"""What rollouts are compared with: whole sequences without a cache, as Open-Sora's loop does.

It checks `cola_env.models.sampler` and so shares no code with it: guidance and Euler's method are
written out again, on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel


@torch.no_grad()
def plain_rollout(
    model: ColaWorldModel,
    frames: Tensor,
    actions: Tensor,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    seed: int,
) -> Tensor:
    """What ``model.rollout(model.begin(frames), actions, seed=seed, ...)`` gives, computed plainly.

    Every candidate has a copy of its context, and every evaluation sees its whole sequence, once
    with and once without actions. A model that sees the clean frame before each frame
    (``residual``) has to go frame by frame, and later frames see an imagined one as it was last
    denoised, with its noise level; any other denoises the horizon together.

    Args:
        frames: (B, C, S, S, 3) uint8; no more than the model's window.
        actions: (B, N, H, A) real actions.

    Returns:
        Frames (B, N, H, S, S, 3) float32 in [0, 1].
    """
    with autocast(model.device):
        samples, horizon = actions.shape[1:3]
        clean = model.encode(frames.to(model.device))
        between, _ = model.context_actions(frames, clean, None)
        known = clean.shape[1]
        clean, between = (x.repeat_interleave(samples, dim=0) for x in (clean, between))
        actions = actions.to(model.device).flatten(0, 1)
        generator = torch.Generator(model.device).manual_seed(seed)
        shape = horizon, len(frames), *clean.shape[2:]
        noise = torch.randn(shape, generator=generator, device=model.device)
        noise = noise.repeat_interleave(samples, dim=1).transpose(0, 1)
        frame_by_frame = model.sees_frames("real")
        whole = model.window if frame_by_frame else known + horizon
        shift = model.noise_shift(whole)
        vectors = torch.cat([between.new_zeros(len(clean), 1, between.shape[2]), between], dim=1)
        seen, levels = clean, clean.new_zeros(clean.shape[:2])
        latents, at_once = clean, 1 if frame_by_frame else horizon
        for t in range(0, horizon, at_once):
            now = actions[:, t : t + at_once]
            latest = latents[:, -1] if frame_by_frame else None
            acting, _ = model.condition(now.flatten(0, 1), latest, model.action_modes[0])
            vectors = torch.cat([vectors, acting.unflatten(0, now.shape[:2])], dim=1)
            start = torch.cat([seen, noise[:, t : t + at_once]], dim=1)
            previous = torch.cat([latents[:, :1], latents, start[:, known + t + 1 :]], dim=1)
            velocity = GuidedVelocity(model, vectors, previous, levels, guidance_scale)
            found = euler(velocity, start, velocity.noised, num_inference_steps, shift)
            latents = torch.cat([latents, found[:, known + t :]], dim=1)
            seen, levels = velocity.input, velocity.level
            if not model.residual:
                seen, levels = latents, latents.new_zeros(latents.shape[:2])
        return model.decode(latents[:, known:]).unflatten(0, (-1, samples))


class GuidedVelocity:
    """v_u + s (v_c - v_u) of whole sequences; v_u knows no actions of the frames being denoised.

    ``previous``: clean frames before each; ``levels`` (R, L): noise levels of the L past frames.
    """

    def __init__(
        self, model: ColaWorldModel, vectors: Tensor, previous: Tensor, levels: Tensor, scale: float
    ) -> None:
        length = vectors.shape[1]
        self.model, self.scale, self.levels = model, scale, levels
        self.noised = torch.arange(length, device=model.device).expand(len(vectors), -1)
        self.noised = self.noised >= levels.shape[1]
        free = vectors.masked_fill(self.noised[..., None], 0)
        self.vectors = torch.cat([vectors, free])
        self.previous = previous.repeat(2, 1, 1, 1, 1)
        self.time = model.clip_context(length)

    def __call__(self, latents: Tensor, level: Tensor) -> Tensor:
        known = self.levels.shape[1]
        level = torch.cat([self.levels, level[:, known:]], dim=1)
        self.input, self.level = latents, level
        found, _ = self.model.velocity(
            latents.repeat(2, 1, 1, 1, 1),
            level.repeat(2, 1),
            self.vectors,
            self.previous,
            self.time,
        )
        conditional, unconditional = found.chunk(2)
        return unconditional + self.scale * (conditional - unconditional)


def euler(
    velocity: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    noised: Tensor,
    steps: int,
    shift: float,
) -> Tensor:
    """Denoise the frames of clips together, around clean frames that stay as they are.

    Args:
        velocity: of clips (B, T, C, H, W) at noise levels (B, T) in [0, 1].
        start: noise (B, T, C, H, W), and clean latents where ``noised`` (B, T) is False.
        steps: on levels 1 - i / N, then shifted.
    """
    even = [1 - i / steps for i in range(steps + 1)]
    levels = [shift * t / (1 + (shift - 1) * t) for t in even]
    latents, mask = start, noised[:, :, None, None, None]
    for now, after in pairwise(levels):
        moved = latents + (now - after) * velocity(latents, noised * now)
        latents = torch.where(mask, moved, start)
    return latents
