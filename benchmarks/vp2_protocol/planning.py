"""Who decides: a planner that imagines with some dynamics, or smooth random actions.

Dynamics tell what candidate plans lead to: a world model, the real simulator (the oracle), a still,
or a model of the user's own. An agent is `planners.MPC`, its cost the reward of what they show.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.vp2_protocol.records import Rules
from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.scoring.ensembles import Combination
from cola_env.scoring.rewards import MSEReward, Reward
from cola_env.simulators.pool import SimulatorPool
from planners import MPC, Planner, PlanResult, Proposed, Screened

if TYPE_CHECKING:
    from cola_env.models.replicas import Replicas
    from cola_env.models.sampler import DreamState
    from cola_env.models.world_model import ColaWorldModel

Space = Box | MultiDiscrete
Imagination = Callable[[slice, Tensor], Tensor]
"""(which b of the B problems, actions (b, N, H, A)) -> float frames (b, N, H, 64, 64, 3)."""
Scoring = Callable[[slice, Tensor], Tensor]
"""The same arguments -> rewards (b, N, H), or scores (b, N)."""
Cost = Callable[[Tensor], Tensor]
"""actions (B, N, H, A) -> costs (B, N)."""

SLACK = 1.0
"""By so much imagined frames may leave [0, 1], as a decoder's do a little."""


@dataclass(frozen=True)
class PlanningProblem:
    """B episodes of one task at a moment of decision.

    frames: uint8 (B, C, 64, 64, 3), the last real frames; actions: float32 (B, C - 1, A), the
    actions between them; states: float64 (B, D), of the simulator; goals: float32
    (B, 64, 64, 3) in [0, 1].
    """

    task: str
    frames: Tensor
    actions: Tensor
    states: NDArray[np.float64]
    goals: Tensor
    seed: int


@dataclass(frozen=True)
class Decision:
    """actions: float32 (B, k, A), the k next ones at least. imagined: uint8 (B, k, 64, 64, 3), what
    the model expects of them; costs: float (B,), of the whole plans; both None for an agent without
    a model. spent: seconds by what they were spent on."""

    actions: Tensor
    imagined: NDArray[np.uint8] | None = None
    costs: NDArray[np.float64] | None = None
    spent: Mapping[str, float] = field(default_factory=dict)


class Agent(Protocol):
    """What acts for the episodes of one batch."""

    def reset(self, *, batch: int) -> None:
        """B episodes begin."""

    def decide(self, problem: PlanningProblem) -> Decision: ...

    def select(self, episodes: Tensor) -> None:
        """Go on with those of a bool mask (B,) alone: the others have ended."""


class MPCAgent:
    """`planners.MPC` as an agent: here of a planner that asks for no costs."""

    def __init__(self, planner: Planner, action_space: Space, rules: Rules) -> None:
        self.action_space = action_space
        self.rules = rules
        self.mpc = MPC(planner, rules.executed, rules.executed)

    def reset(self, *, batch: int) -> None:
        self.mpc.reset(batch=batch)

    def select(self, episodes: Tensor) -> None:
        self.mpc.select(episodes)

    def decide(self, problem: PlanningProblem) -> Decision:
        return Decision(self._plan(lambda actions: actions.sum((2, 3)), problem).actions)

    def _plan(self, cost: Cost, problem: PlanningProblem) -> PlanResult:
        """The next plan; ColaWorldError for what the planner cannot do."""
        try:
            self.mpc.act(cost, self.action_space, seed=problem.seed)
        except ColaWorldError:
            raise
        except (TypeError, ValueError) as error:
            name = type(self.mpc.planner).__name__
            raise ColaWorldError(f"The planner {name} cannot plan: {error}") from error
        assert self.mpc.plan is not None
        return self.mpc.plan


class PlanningAgent(MPCAgent):
    """Plans against the reward of imagined frames.

    planner: any `planners.Planner`.
    dynamics: one, or the members of an ensemble: each imagines and is scored, and the scores are
        combined. The first one's frames are shown.
    sequences: about how many candidates are imagined at once, those of one problem at least, which
        bounds the memory; on a CPU few are also faster than many.
    screen: None: every candidate is judged by the reward.
    propose: plans (B, K, H, A) that the search begins with.
    """

    def __init__(
        self,
        planner: Planner,
        dynamics: Sequence[Dynamics],
        reward: Reward,
        action_space: Space,
        rules: Rules,
        sequences: int = 128,
        combine: Combination | None = None,
        screen: LatentScreen | None = None,
        propose: Callable[[PlanningProblem], Tensor] | None = None,
    ) -> None:
        super().__init__(planner, action_space, rules)
        self.dynamics = dynamics
        self.reward = reward
        self.sequences = sequences
        self.combine = combine or Combination()
        self.screen = screen
        self.propose = propose

    @torch.no_grad()
    def decide(self, problem: PlanningProblem) -> Decision:
        began, watch = time.perf_counter(), Stopwatch(self.dynamics[0].device)
        with watch("imagination"):
            imaginations = [member.imagine(problem) for member in self.dynamics]
        batch = len(problem.states)
        cost = self._in_groups(self._scoring(problem, imaginations, watch), batch)
        asked: Cost = cost
        if self.screen is not None:
            asked = self._screened(self.screen, cost, problem, watch)
        if self.propose is not None:
            with watch("proposals"):
                asked = Proposed(asked, self.propose(problem))
        plan = self._plan(asked, problem)
        with watch("imagination"):
            shown = plan.actions[:, None, : self.rules.executed]
            frames = imaginations[0](slice(0, batch), shown)[:, 0]
        imagined = (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        costs = plan.cost
        if costs is None or not bool(costs.isfinite().all()):  # the planner has not asked for it
            costs = cost(plan.actions[:, None])[:, 0]
        watch.spent["planner"] = time.perf_counter() - began - sum(watch.spent.values())
        return Decision(plan.actions.cpu(), imagined, costs.double().cpu().numpy(), watch.spent)

    def _scoring(
        self, problem: PlanningProblem, imaginations: Sequence[Imagination], watch: Stopwatch
    ) -> Scoring:
        """Scores (b, N) of candidates, by what they show."""

        def scores(rows: slice, actions: Tensor) -> Tensor:
            found = []
            for imagination in imaginations:
                with watch("imagination"):
                    frames = _checked(imagination(rows, actions), actions)
                with watch("rewards"):
                    goals = problem.goals[rows].to(frames.device)
                    found.append(self._score(self.reward(frames, goals)))
            return found[0] if len(found) == 1 else self.combine(torch.stack(found))

        return scores

    def _screened(
        self, screen: LatentScreen, cost: Cost, problem: PlanningProblem, watch: Stopwatch
    ) -> Screened:
        with watch("screening"):
            rewards = screen.rewards(problem)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            with watch("screening"):
                return self._score(rewards(rows, actions))

        return Screened(cost, self._in_groups(scores, len(problem.states)), screen.factor)

    def _in_groups(self, scores: Scoring, batch: int) -> Cost:
        """The cost of ``scores`` (b, N), computed for so many problems at once as memory allows: by
        the most candidates that were asked for, as a planner may ask for them in parts."""
        most = 1

        def cost(actions: Tensor) -> Tensor:
            nonlocal most
            most = max(most, actions.shape[1])
            group = max(1, self.sequences // most)
            groups = [slice(start, start + group) for start in range(0, batch, group)]
            found = torch.cat([scores(rows, actions[rows]) for rows in groups])
            return -found.to(actions.device, torch.float32)

        return cost

    def _score(self, rewards: Tensor) -> Tensor:
        return candidate_score(rewards, self.rules.final_weight, self.rules.sum_over_time)


def candidate_score(rewards: Tensor, final_weight: float, sum_over_time: bool = False) -> Tensor:
    """What a plan is worth (...) by the rewards (..., H) of its frames, as `Rules` tells."""
    whole = rewards.sum(-1) if sum_over_time else rewards.mean(-1)
    return (1 - final_weight) * whole + final_weight * rewards[..., -1]


def _checked(frames: Tensor, actions: Tensor) -> Tensor:
    wanted = (*actions.shape[:3], 64, 64, 3)
    if frames.shape != wanted or not frames.is_floating_point():
        raise ColaWorldError(
            f"The model must imagine float frames of shape {wanted} in [0, 1], but it gave "
            f"{frames.dtype} of shape {tuple(frames.shape)}."
        )
    low, high = (float(end) for end in frames.detach().aminmax())
    if not (low >= -SLACK and high <= 1 + SLACK):  # also where they are NaN
        raise ColaWorldError(
            f"The model must imagine frames in [0, 1], but its values reach from {low:.3g} to "
            f"{high:.3g}."
        )
    return frames


class RandomActions:
    """Plans clipped Gaussian actions that change smoothly (an AR(1) process) and goes on with
    them: the lower bound.

    scale: standard deviation, one number or one for each component of an action.
    correlation: of successive actions, in [0, 1).
    """

    def __init__(self, steps: int, scale: float | Sequence[float], correlation: float) -> None:
        self.steps = steps
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self.correlation = correlation

    def plan(
        self,
        cost: Cost,
        action_space: Any,
        *,
        warm_start: PlanResult | None = None,
        seed: int = 0,
        batch: int = 1,
    ) -> PlanResult:
        if warm_start is not None:
            return warm_start
        rng = np.random.default_rng(seed)
        actions = rng.standard_normal((batch, self.steps, *action_space.shape))
        for t in range(1, self.steps):
            fresh = np.sqrt(1 - self.correlation**2) * actions[:, t]
            actions[:, t] = self.correlation * actions[:, t - 1] + fresh
        return PlanResult((self.scale * torch.as_tensor(actions)).clamp(-1, 1).float())


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
            frames = [np.concatenate([part.result().frames for part in job]) for job in trials]
            return torch.from_numpy(np.stack(frames)).to(self.device).float() / 255

        return imagination

    def own_rewards(self, problem: PlanningProblem, reward: str) -> Scoring:
        """Rewards (b, N, H) by one of the simulator's own, of its state; nothing is drawn."""

        def rewards(rows: slice, candidates: Tensor) -> Tensor:
            jobs = [
                self.pool.own_rewards(problem.task, state, actions, reward)
                for state, actions in _each(problem, rows, candidates)
            ]
            found = [np.concatenate([part.result() for part in job]) for job in jobs]
            return torch.from_numpy(np.stack(found)).to(self.device)

        return rewards


def _each(
    problem: PlanningProblem, rows: slice, candidates: Tensor
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """The state (D,) and the candidates (N, H, A) of each of the rows."""
    return zip(problem.states[rows], candidates.cpu().numpy(), strict=True)


class StateOracle(PlanningAgent):
    """Plans in the real simulator against one of its own rewards, which knows the true state: what
    search reaches where neither model nor judge errs.

    own_reward: its name, such as RoboDesk's "dense".
    """

    def __init__(
        self,
        planner: Planner,
        simulator: SimulatorDynamics,
        reward: Reward,
        own_reward: str,
        action_space: Space,
        rules: Rules,
    ) -> None:
        super().__init__(planner, [simulator], reward, action_space, rules)
        self.simulator = simulator
        self.own_reward = own_reward

    def _scoring(
        self, problem: PlanningProblem, imaginations: Sequence[Imagination], watch: Stopwatch
    ) -> Scoring:
        rewards = self.simulator.own_rewards(problem, self.own_reward)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            with watch("imagination"):
                return self._score(rewards(rows, actions))

        return scores


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


@dataclass(frozen=True)
class LatentScreen:
    """The reward "mse" of undecoded frames, latents of a world model against the goal's: it chooses
    which candidates are decoded.

    factor: candidates that are imagined for each that is decoded and truly scored, >= 2.
    """

    dynamics: WorldModelDynamics
    factor: int

    @classmethod
    def of(cls, dynamics: Dynamics, factor: int | None) -> LatentScreen | None:
        """None without a factor, or for what is no world model of ours and has no latents."""
        if factor is None or not isinstance(dynamics, WorldModelDynamics):
            return None
        return cls(dynamics, factor)

    def rewards(self, problem: PlanningProblem) -> Scoring:
        device = self.dynamics.device
        with autocast(device):
            goals = self.dynamics.model.encode(problem.goals.to(device))
        latents = self.dynamics.rollouts(problem, decoded=False)
        nearness = MSEReward()
        return lambda rows, candidates: nearness(latents(rows, candidates), goals[rows])


class Stopwatch:
    """Seconds by name; work that is under way on a GPU counts where it is waited for."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.spent[name] += time.perf_counter() - start
