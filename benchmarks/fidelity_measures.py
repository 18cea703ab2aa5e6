"""How well a model tells what plans lead to: candidates tried out in the real simulator, then
imagined and scored by every model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.harness import plain
from benchmarks.vp2_protocol.agents import candidate_score
from benchmarks.vp2_protocol.classifiers import Judge
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import Dynamics, WorldModelDynamics
from benchmarks.vp2_protocol.methods import check_spread, choose_tasks
from benchmarks.vp2_protocol.named_models import NamedModels, names
from benchmarks.vp2_protocol.records import fingerprint
from cola_env.errors import ColaWorldError
from cola_env.files import write_arrays
from cola_env.goals.goal_set import GoalPair, GoalSet
from cola_env.goals.loading import goals_files, load_goals
from cola_env.inputs import to_bytes
from cola_env.models.loading import pick_device
from cola_env.scoring.psnr import psnr
from cola_env.scoring.rewards import ClassifierReward, Reward, is_judged, make_reward
from cola_env.scoring.success_classifier import TaskClassifier
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import find_world
from cola_train.classifier import area_under_curve
from cola_train.console import progress_bar
from planners import AR1Noise


def measure(config: DictConfig) -> tuple[list[CandidatePlans], dict[str, list[PlanScores]]]:
    """The problems, and every model's scores of them.

    Raises ColaWorldError for what is no checkpoint, and for models, goals and classifiers that are
    not of one rendering profile.
    """
    specs, world = names(plain(config.model)), find_world(config.env)
    check_spread("planner.std", plain(config.planner.std), world.action_dim)
    if not 0 <= config.final_weight <= 1:
        raise ColaWorldError(f"final_weight must be in [0, 1], not {config.final_weight}.")
    models = NamedModels(world, specs, pick_device(config.device))
    for label, name in specs.items():
        if not isinstance(name, str) or name not in models.loaded:
            raise ColaWorldError(f"model={label} must be a checkpoint here.")
    goals = load_goals(models.rendering(None), config.goals, world)
    tasks = choose_tasks(plain(config.tasks), goals.tasks)
    reward = plain(config.reward)
    given = plain(config.classifier)
    judges = {name: find_judge(config, goals, models, name, given) for name in models.loaded}
    # A value function tells how near success is, not how likely a frame shows it.
    success_judges = {
        name: find_judge(config, goals, models, name, None) if judge and judge.discount else judge
        for name, judge in judges.items()
    }
    rewards = {
        (name, task): make_reward(reward, task, judge)
        for name, judge in judges.items()
        for task in tasks
    }
    problems = collect(config, goals, tasks)
    found: dict[str, list[PlanScores]] = {}
    for label, name in ((label, str(name)) for label, name in specs.items()):
        dynamics = WorldModelDynamics(
            models.loaded[name], num_inference_steps=config.num_inference_steps
        )
        success_judge = success_judges[name]
        found[label] = [
            score_plans(
                problem,
                dynamics,
                rewards[name, problem.task],
                config.seed,
                None if success_judge is None else ClassifierReward(problem.task, success_judge),
                config.final_weight,
            )
            for problem in progress_bar(problems, label)
        ]
    return problems, found


def find_judge(
    config: DictConfig, goals: GoalSet, models: NamedModels, name: str, given: Any
) -> TaskClassifier | None:
    """The classifier that scores what a model imagines; None for a reward that asks none."""
    if not is_judged(plain(config.reward)):
        return None
    device = models.loaded[name].device
    judge = Judge.load(given, models.folders[name], models.world, goals.rendering, device)
    return judge.classifier


def collect(config: DictConfig, goals: GoalSet, tasks: list[str]) -> list[CandidatePlans]:
    """The simulator's side of every problem, from OUT/problems where it is there already."""
    names = [
        (task, pair) for task in tasks for pair in range(min(config.pairs, len(goals.of(task))))
    ]
    of_goals = fingerprint(*goals_files(goals.rendering, config.goals, find_world(goals.world)))
    std = plain(config.planner.std)
    spread = "-".join(f"{each:g}" for each in np.atleast_1d(std))
    key = f"{config.candidates}x{config.horizon}_std{spread}_seed{config.seed}_{of_goals}"
    folder = Path(config.out) / "problems" / key
    paths = {name: folder / f"{name[0]}_{name[1]:03d}.npz" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if missing:
        workers = config.workers or min(16, os.cpu_count() or 1)
        profile = goals.rendering, goals.action_repeat
        with SimulatorPool(workers, *profile, world=goals.world) as pool:
            for task, pair in progress_bar(missing, "simulator"):
                rng = np.random.default_rng([config.seed, pair])
                problem = try_plans(
                    goals.of(task)[pair], pool, config.candidates, config.horizon, rng, std
                )
                problem.save(paths[task, pair])
    return [CandidatePlans.load(path) for path in paths.values()]


def make_rows(found: dict[str, list[PlanScores]]) -> list[dict[str, Any]]:
    """A row a model and task, and one a model over all tasks."""
    rows: list[dict[str, Any]] = []
    for label, scored in found.items():
        for task in dict.fromkeys(f.task for f in scored):
            of_task = [f for f in scored if f.task == task]
            rows.append({"model": label, "task": task, **summary(of_task)})
        rows.append({"model": label, "task": "all", **summary(scored)})
    return rows


@dataclass(frozen=True)
class CandidatePlans:
    """A moment of a demonstration, N candidate plans from there, and what they really lead to.

    context: uint8 (C, 64, 64, 3), the last real frames; past: float32 (C - 1, A), the actions
    between them; state: float64 (D,); goal: uint8 (64, 64, 3); candidates: float32 (N, H, A);
    frames: uint8 (N, H, 64, 64, 3), the simulator's; successes: bool (N,).
    """

    task: str
    context: NDArray[np.uint8]
    past: NDArray[np.float32]
    state: NDArray[np.float64]
    goal: NDArray[np.uint8]
    candidates: NDArray[np.float32]
    frames: NDArray[np.uint8]
    successes: NDArray[np.bool_]

    def save(self, path: Path) -> None:
        write_arrays(path, compress=False, **vars(self))

    @classmethod
    def load(cls, path: Path) -> CandidatePlans:
        with np.load(path) as file:
            return cls(task=str(file["task"]), **{k: file[k] for k in file.files if k != "task"})


def try_plans(
    pair: GoalPair,
    pool: SimulatorPool,
    count: int,
    horizon: int,
    rng: np.random.Generator,
    std: float | Sequence[float] = 0.5,
) -> CandidatePlans:
    """Plans from a random step of the pair's scripted solution.

    Half of the ``count`` candidates are what a planner tries first (AR(1) noise of standard
    deviation ``std``, one number or one a component), the others go on with the solution under
    noise of 0 to ``std``.
    """
    done = int(rng.integers(0, max(1, pair.expert_steps - 1)))
    frames, state = [pair.initial_frame], pair.initial_state
    if done:
        outcome = pool.advance(pair.task, state, pair.expert_actions[:done]).result()
        frames, state = [*frames, *outcome.frames], outcome.state
    size = pair.expert_actions.shape[1]
    rest = np.zeros((horizon, size), np.float32)
    left = pair.expert_actions[done : done + horizon]
    rest[: len(left)] = left
    noise = rng.standard_normal((count, horizon, size))
    noise = np.einsum("ts,nsa->nta", AR1Noise(0.8).matrix(horizon).numpy(), noise)
    near = count // 2
    share = np.r_[np.linspace(0, 1, near), np.ones(count - near)]
    noise *= share[:, None, None] * np.asarray(std)
    noise[:near] += rest
    candidates = noise.clip(-1, 1).astype(np.float32)
    trials = [job.result() for job in pool.roll_out(pair.task, state, candidates)]
    context = min(2, len(frames))
    return CandidatePlans(
        task=pair.task,
        context=np.stack(frames[-context:]),
        past=pair.expert_actions[done - context + 1 : done],
        state=state,
        goal=pair.goal_frame,
        candidates=candidates,
        frames=np.concatenate([trial.frames for trial in trials]),
        successes=np.concatenate([trial.successes.any(-1) for trial in trials]),
    )


@dataclass(frozen=True)
class PlanScores:
    """One model on one problem.

    imagined, real: float (N,), the planner's score (higher is better) of every candidate by
    imagined and by real frames; successes: bool (N,); error: float (H,), mean squared error of the
    imagined frames where the real ones differ from the last context frame; probability: float (N,),
    the highest that the judge gives an imagined frame to show success, None without a judge;
    dream: uint8 (H, 64, 64, 3), the imagined frames of the model's choice.
    """

    task: str
    imagined: NDArray[np.float64]
    real: NDArray[np.float64]
    successes: NDArray[np.bool_]
    error: NDArray[np.float64]
    probability: NDArray[np.float64] | None
    dream: NDArray[np.uint8]

    @property
    def choice(self) -> int:
        """The candidate with the best imagined score."""
        return int(self.imagined.argmax())

    @property
    def spread(self) -> float:
        """What the mean candidate loses to the best one by its real score: the unit of regret."""
        return float(max(self.real.max() - self.real.mean(), 1e-12))

    @property
    def regret(self) -> float:
        """What the choice loses to the best one."""
        return float(self.real.max() - self.real[self.choice]) / self.spread

    @property
    def overrated(self) -> float:
        """By how much the model scores its choice above what it is worth, beyond what it does all
        candidates: where a planner exploits its model."""
        optimism = self.imagined - self.real
        return float(optimism[self.choice] - optimism.mean()) / self.spread


@torch.no_grad()
def score_plans(
    problem: CandidatePlans,
    dynamics: Dynamics,
    reward: Reward,
    seed: int = 0,
    judge: ClassifierReward | None = None,
    final_weight: float = 0.0,
) -> PlanScores:
    goal = torch.from_numpy(problem.goal).float()[None] / 255
    moment = PlanningProblem(
        task=problem.task,
        frames=torch.from_numpy(problem.context)[None],
        actions=torch.from_numpy(problem.past)[None],
        states=problem.state[None],
        goals=goal,
        seed=seed,
    )
    candidates = torch.from_numpy(problem.candidates)[None]
    imagined = dynamics.imagine(moment)(slice(0, 1), candidates)
    real = torch.from_numpy(problem.frames)[None].to(imagined) / 255
    last = torch.from_numpy(problem.context[-1]).to(imagined) / 255
    moving = (real - last).abs().amax(-1) > 0.05

    def score(frames: Tensor) -> NDArray[np.float64]:
        rewards = reward(frames, goal.to(frames))
        return candidate_score(rewards, final_weight)[0].double().cpu().numpy()

    squared = (imagined - real).square().mean(-1)
    error = (squared * moving).sum((0, 1, 3, 4)) / moving.sum((0, 1, 3, 4)).clamp_min(1)
    scores = score(imagined)
    chances = None if judge is None else judge.success_probability(imagined)[0].amax(-1)
    return PlanScores(
        task=problem.task,
        imagined=scores,
        real=score(real),
        successes=problem.successes,
        error=error.double().cpu().numpy(),
        probability=None if chances is None else chances.double().cpu().numpy(),
        dream=to_bytes(imagined[0, scores.argmax()]).cpu().numpy(),
    )


def error_growth(scored: Sequence[PlanScores]) -> list[float]:
    """PSNR (dB) on moving pixels of each imagined frame, of the mean error over problems."""
    errors = torch.from_numpy(np.mean([f.error for f in scored], 0))
    decibels: list[float] = psnr(errors).tolist()
    return decibels


def summary(scored: Sequence[PlanScores]) -> dict[str, float]:
    """Means over problems.

    rank: Spearman correlation of imagined with real scores; regret, overrated: of ``PlanScores``;
    calibration: mean distance of the imagined probability of success from the rate of real
    successes, where there is a judge; auc and auc_real: how well imagined (real) scores tell
    successes from failures, over problems that have both; chosen, chosen_real: success of the best
    by imagined (real) score; possible: problems in which some candidate succeeds; successes: of all
    candidates; psnr_1, psnr_last: dB of the first and the last imagined frame on moving pixels.
    """
    mixed = [f for f in scored if 0 < f.successes.sum() < len(f.successes)]
    decibels = error_growth(scored)
    bins = calibration(scored)
    return {
        "problems": len(scored),
        "rank": _mean(_rank_correlation(f.imagined, f.real) for f in scored),
        "regret": _mean(f.regret for f in scored),
        "overrated": _mean(f.overrated for f in scored),
        **({"calibration": calibration_error(bins)} if bins else {}),
        "auc": _mean(_auc(f.imagined, f.successes) for f in mixed),
        "auc_real": _mean(_auc(f.real, f.successes) for f in mixed),
        "chosen": _mean(float(f.successes[f.imagined.argmax()]) for f in scored),
        "chosen_real": _mean(float(f.successes[f.real.argmax()]) for f in scored),
        "possible": _mean(float(f.successes.any()) for f in scored),
        "successes": _mean(float(f.successes.mean()) for f in scored),
        "psnr_1": decibels[0],
        "psnr_last": decibels[-1],
    }


@dataclass(frozen=True)
class Bin:
    """Candidates of similar imagined probability of success: its mean, the rate of their real
    successes, and how many they are."""

    probability: float
    rate: float
    count: int


def calibration(scored: Sequence[PlanScores], bins: int = 5) -> list[Bin]:
    """`reliability` of all candidates; none without a judge."""
    judged = [f for f in scored if f.probability is not None]
    if not judged:
        return []
    chances = np.concatenate([f.probability for f in judged])
    return reliability(chances, np.concatenate([f.successes for f in judged]), bins)


def reliability(
    chances: NDArray[np.float64], successes: NDArray[np.bool_], bins: int = 5
) -> list[Bin]:
    """Probabilities (n,) beside what came of them (n,), in bins of equal width from 0 to 1, those
    that are not empty."""
    where = (chances * bins).astype(int).clip(max=bins - 1)
    return [
        Bin(float(chances[here].mean()), float(successes[here].mean()), int(here.sum()))
        for here in (where == i for i in range(bins))
        if here.any()
    ]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error (Guo et al. 2017)."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.probability - each.rate) for each in bins) / total


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's; 0 where one of them ranks nothing."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    return area_under_curve(scores[positive], scores[~positive])
