"""What candidate plans lead to: frames of a world model, of the real simulator (the oracle), of a
still, or of a model of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.vp2_protocol.decisions import PlanningProblem
from cola_env.errors import ColaWorldError
from cola_env.simulators.pool import SimulatorPool

if TYPE_CHECKING:
    from cola_env.models.dream_state import DreamState
    from cola_env.models.replicas import Replicas
    from cola_env.models.world_model import ColaWorldModel

Found = TypeVar("Found")

Imagination = Callable[[slice, Tensor], Tensor]
"""(which b of the B problems, actions (b, N, H, A)) -> float frames (b, N, H, 64, 64, 3)."""
Scoring = Callable[[slice, Tensor], Tensor]
"""The same arguments -> rewards (b, N, H), or scores (b, N)."""


class Dynamics(Protocol):
    """Something that can tell what candidate actions would lead to."""

    device: torch.device

    def imagine(self, problem: PlanningProblem) -> Imagination: ...


class WorldModelDynamics:
    """Rolls candidates out in the world model from the last real frames, all with the same
    diffusion noise (common random numbers), in whatever groups they come.

    replicas: of the model, that the candidates are spread over; None: it imagines them itself.
    """

    def __init__(
        self,
        model: ColaWorldModel,
        replicas: ColaWorldModel | Replicas | None = None,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> None:
        self.model = model
        self.replicas = replicas or model
        self.device = next(model.parameters()).device
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale

    def begin(self, problem: PlanningProblem) -> DreamState:
        """The dreams of its episodes, behind their last real frames."""
        actions = problem.actions.to(self.device)
        return self.model.begin(
            problem.frames.to(self.device), actions if actions.shape[1] else None
        )

    def step(self, state: DreamState, actions: Tensor, noise: Tensor) -> DreamState:
        """One step of every dream, as `ColaWorldModel.step`."""
        return self.model.step(
            state,
            actions,
            noise=noise,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
        )

    def imagine(self, problem: PlanningProblem) -> Imagination:
        return self.rollouts(problem)

    def rollouts(self, problem: PlanningProblem, decoded: bool = True) -> Imagination:
        """Of frames, or of latents (b, N, H, C, h, w) which cost no decoder."""
        start = self.begin(problem)

        def noise(horizon: int) -> Tensor:
            generator = torch.Generator(self.device).manual_seed(problem.seed)
            shape = (1, *start.latents.shape[1:])
            frames = [
                torch.randn(shape, generator=generator, device=self.device) for _ in range(horizon)
            ]
            return torch.stack(frames)

        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            problems = torch.arange(start.batch_size, device=self.device)[rows]
            return self.replicas.rollout(
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

    def imagine(self, problem: PlanningProblem) -> Imagination:
        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            trials = [
                self.pool.roll_out(problem.task, state, actions)
                for state, actions in _each(problem, rows, candidates)
            ]
            return self._gathered(trials, lambda trial: trial.frames).float() / 255

        return imagination

    def own_rewards(self, problem: PlanningProblem, reward: str) -> Scoring:
        """Rewards (b, N, H) by one of the simulator's own, of its state; nothing is drawn."""

        def rewards(rows: slice, candidates: Tensor) -> Tensor:
            told = [
                self.pool.own_rewards(problem.task, state, actions, reward)
                for state, actions in _each(problem, rows, candidates)
            ]
            return self._gathered(told, lambda found: found)

        return rewards

    def _gathered(
        self, jobs: Sequence[Sequence[Future[Found]]], read: Callable[[Found], NDArray[Any]]
    ) -> Tensor:
        """What each of the jobs, which were given in parts, has found: (jobs, N, ...)."""
        found = [np.concatenate([read(part.result()) for part in parts]) for parts in jobs]
        return torch.from_numpy(np.stack(found)).to(self.device)


def _each(
    problem: PlanningProblem, rows: slice, candidates: Tensor
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """The state (D,) and the candidates (N, H, A) of each of the rows."""
    return zip(problem.states[rows], candidates.cpu().numpy(), strict=True)


class CopyDynamics:
    """Imagines that nothing moves: every frame is the last real one. What a model must beat."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def imagine(self, problem: PlanningProblem) -> Imagination:
        last = problem.frames[:, -1].to(self.device).float() / 255

        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            count, horizon = candidates.shape[1:3]
            return last[rows][:, None, None].expand(-1, count, horizon, -1, -1, -1)

        return imagination


VideoPredictor = Callable[[dict[str, Any]], Mapping[str, Any]]
"""VP2's interface (s-tian/vp2, `VideoPredictionModel`).

Called with {"video": float32 NumPy (N, C, 64, 64, 3) in [0, 1], "actions": float32 NumPy
(N, C - 1 + H, A)}, where the actions between the frames of the video come first, it returns
{"rgb": floats in [0, 1], (N, C - 1 + H, 64, 64, 3) or (N, H, 64, 64, 3)}, an array or tensor. C is
its attribute `num_context`, by default 2."""


class VideoPredictionDynamics:
    """Imagines with a `VideoPredictor`, one call at a time.

    A past shorter than C is filled up with its first frame and zero actions, as VP2 does.
    """

    def __init__(self, model: VideoPredictor, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.device = torch.device(device)
        self.context = int(getattr(model, "num_context", 2))
        self._lock = Lock()

    def imagine(self, problem: PlanningProblem) -> Imagination:
        frames, past = problem.frames[:, -self.context :], problem.actions
        missing = self.context - frames.shape[1]
        video = torch.cat((frames[:, :1].expand(-1, missing, -1, -1, -1), frames), 1).float() / 255
        past = past[:, past.shape[1] - (frames.shape[1] - 1) :]
        past = torch.cat((past.new_zeros(len(past), missing, past.shape[2]), past), 1)

        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            count, horizon = candidates.shape[1:3]
            known = past[rows][:, None].expand(-1, count, -1, -1)
            batch = {
                "video": _rows(video[rows][:, None].expand(-1, count, -1, -1, -1, -1)),
                "actions": _rows(torch.cat((known, candidates.cpu()), 2)),
            }
            with self._lock:
                made = self.model(batch)
            return self._frames(made, len(batch["video"]), horizon).unflatten(0, (-1, count))

        return imagination

    def _frames(self, made: Mapping[str, Any], count: int, horizon: int) -> Tensor:
        told = type(made).__name__
        if isinstance(made, Mapping) and "rgb" in made:
            frames = torch.as_tensor(made["rgb"])
            told = f"{frames.dtype} {tuple(frames.shape)}"
            lengths = (horizon, self.context - 1 + horizon)
            fits = tuple(frames.shape) in [(count, length, 64, 64, 3) for length in lengths]
            if fits and frames.is_floating_point():
                return frames[:, -horizon:].to(self.device, torch.float32)
        raise ColaWorldError(
            f"The model {type(self.model).__name__} must return {{'rgb': frames}}, floats in "
            f"[0, 1] of shape ({count}, {self.context - 1 + horizon}, 64, 64, 3), not {told}."
        )


def _rows(values: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(b, N, ...) -> float32 NumPy (b * N, ...)."""
    return values.flatten(0, 1).float().contiguous().numpy()
