"""What a planner imagines with: the world model, the real simulator (the oracle), or a still."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.vp2_protocol.agents import Imagination, Situation
from benchmarks.vp2_protocol.simulation import SimulatorPool

if TYPE_CHECKING:
    from cola_env.models.world_model import ColaWorldModel


class WorldModelDynamics:
    """Rolls candidates out in the world model from the last real frames, all with the same
    diffusion noise (common random numbers), in whatever groups they come."""

    def __init__(
        self,
        model: "ColaWorldModel",
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale

    def imagine(self, situation: Situation) -> Imagination:
        return self.rollouts(situation)

    def rollouts(self, situation: Situation, decoded: bool = True) -> Imagination:
        """Of frames, or of latents (b, N, H, C, h, w) which cost no decoder."""
        actions = situation.actions.to(self.device)
        start = self.model.begin(
            situation.frames.to(self.device), actions if actions.shape[1] else None
        )

        def noise(horizon: int) -> Tensor:
            generator = torch.Generator(self.device).manual_seed(situation.seed)
            shape = (1, *start.latents.shape[1:])
            frames = [
                torch.randn(shape, generator=generator, device=self.device) for _ in range(horizon)
            ]
            return torch.stack(frames)

        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            problems = torch.arange(start.batch_size, device=self.device)[rows]
            return self.model.rollout(
                start.select(problems),
                candidates.to(self.device),
                noise=noise(candidates.shape[2]).expand(-1, len(problems), -1, -1, -1),
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                decoded=decoded,
            ).float()

        return imagination


class SimulatorDynamics:
    """Tries candidates out in the real simulator, spread over its processes."""

    def __init__(self, pool: SimulatorPool, device: str | torch.device = "cpu") -> None:
        self.pool = pool
        self.device = torch.device(device)

    def imagine(self, situation: Situation) -> Imagination:
        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            jobs = [
                self.pool.roll_out(situation.task, state, actions)
                for state, actions in zip(
                    situation.states[rows], candidates.cpu().numpy(), strict=True
                )
            ]
            trials = [np.concatenate([part.result().frames for part in job]) for job in jobs]
            return torch.from_numpy(np.stack(trials)).to(self.device).float() / 255

        return imagination


class CopyDynamics:
    """Imagines that nothing moves: every frame is the last real one. What a model must beat."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def imagine(self, situation: Situation) -> Imagination:
        last = situation.frames[:, -1].to(self.device).float() / 255

        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            count, horizon = candidates.shape[1:3]
            return last[rows][:, None, None].expand(-1, count, horizon, -1, -1, -1)

        return imagination
