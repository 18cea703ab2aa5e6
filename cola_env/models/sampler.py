"""How the world model imagines: the next frames behind a cached past, from noise."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from cola_env.models.dream_state import Candidates
from cola_env.models.rectified_flow import Denoiser, NoisedClip, euler_scheduler, guided_velocity

Model = TypeVar("Model", bound=Denoiser)


@dataclass(frozen=True)
class Sampler(Generic[Model]):
    """Euler's method from noise to data: ``steps`` on levels shifted by ``shift``, under guidance;
    a scale of 1 is none."""

    model: Model
    steps: int
    guidance_scale: float = 1.0
    shift: float = 1.0

    @property
    def guided(self) -> bool:
        return self.guidance_scale != 1

    def denoise(
        self, candidates: Candidates, frame: int, noise: Tensor, actions: Tensor, previous: Tensor
    ) -> Tensor:
        """Latents (R, T, C, h, w) of T frames of R candidates, from ``frame`` of the horizon on.

        Args:
            noise: to start from (R, T, C, h, w).
            actions: vectors that lead to each frame (R, T, tokens * code_size).
            previous: clean latents of the frame before each (R, T, C, h, w), which only
                ``residual`` models see.
        """
        model, scale, no_actions = self.model, self.guidance_scale, torch.zeros_like(actions)
        latents, count = noise, noise.shape[1]
        time = candidates.time(model.head_dim, frame, count)
        past = candidates.past_of(frame, count)
        scheduler = euler_scheduler(self.steps, self.shift)
        for timestep in scheduler.timesteps:
            t = latents.new_full(latents.shape[:2], float(timestep) / 1000)
            velocity = guided_velocity(
                model, scale, latents, t, actions, no_actions, previous, time, past
            )
            latents = scheduler.step(-velocity, timestep, latents, return_dict=False)[0]
        return latents

    def next_frame(
        self, candidates: Candidates, frame: int, latents: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Latents (R, C, h, w) of ``frame`` of the horizon; later frames attend to it, clean.

        latents, noise (R, C, h, w): the frame before, and what to start from; actions (R, D).
        """
        previous, actions = latents[:, None], actions[:, None]
        found = self.denoise(candidates, frame, noise[:, None], actions, previous)
        self.update_cache(candidates, frame, found, actions, previous)
        return found[:, 0]

    def update_cache(
        self, candidates: Candidates, frame: int, latents: Tensor, actions: Tensor, previous: Tensor
    ) -> None:
        """Put keys and values of the clean ``frame``, latents (R, 1, C, h, w), in the candidates.

        That takes one evaluation more, unless the clean frames reach the model as ``previous``.
        """
        if not self.model.residual:
            rows, t = candidates.conditional(), latents.new_zeros(latents.shape[:2])
            time, past = rows.time(self.model.head_dim, frame), rows.past_of(frame)
            self.model.velocity(latents, t, actions, previous, time, past)
        candidates.copy_to_unconditional(frame)

    def next_frames(self, latents: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Latents (B, T - 1, C, h, w) of every next frame of whole clips, teacher-forced as far as
        the model sees clean frames.

        latents, noise (B, T, C, h, w); actions: vectors (B, T - 1, tokens * code_size) between.
        """
        t = torch.ones(latents.shape[:2], device=latents.device)
        t[:, 0] = 0
        clip, end = NoisedClip.of(latents, noise, t, actions), torch.zeros_like(t)
        moved = clip.mean_velocity(self.model, end, self.steps, self.shift, self.guidance_scale)
        return (clip.latents + moved)[:, 1:]
