"""A whole run: its models and agents are made here, its episodes played, batch by batch, and kept.

Episodes are played side by side: the planner decides for a batch, simulator processes act.
"""

from __future__ import annotations

import os
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from omegaconf import DictConfig

from benchmarks.harness import plain
from benchmarks.vp2_protocol.codes import LatentPlanningAgent
from benchmarks.vp2_protocol.comparison import planners_differ
from benchmarks.vp2_protocol.methods import (
    Method,
    NamedModels,
    check_screen,
    choose_tasks,
    ensemble,
    make_methods,
    names,
)
from benchmarks.vp2_protocol.planning import (
    Agent,
    Decision,
    LatentScreen,
    MPCAgent,
    PlanningAgent,
    PlanningProblem,
    RandomActions,
    SimulatorDynamics,
    StateOracle,
    Stopwatch,
)
from benchmarks.vp2_protocol.proposals import Policy, PolicyProposals
from benchmarks.vp2_protocol.records import (
    EpisodeRecord,
    Frame,
    Rules,
    RunFolder,
    fingerprint,
    write_video,
)
from benchmarks.vp2_protocol.results import protocol_identity
from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalPair
from cola_env.goals.loading import goals_files, load_goals
from cola_env.models.loading import pick_devices
from cola_env.scoring.lpips_distance import LPIPS
from cola_env.scoring.rewards import make_reward
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import ROBODESK, find_world
from planners import CategoricalCEM

Progress = Callable[[EpisodeRecord], None]

DEFAULT_TASKS = 4
"""How many of the world's tasks a run plays that names none."""


class Run:
    """Everything about a run is checked and loaded here, before the first episode.

    Raises ColaWorldError for anything unknown, missing, or of two rendering profiles.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.world = find_world(config.env)
        self.rules = Rules(**{key: plain(config[key]) for key in Rules.__dataclass_fields__})
        if self.rules.judge == "vp2" and self.world is not ROBODESK:
            raise ColaWorldError(f"judge=vp2 and protocol=vp2 are of RoboDesk, not {config.env}.")
        self.combine = ensemble(config)
        self.screen_factor: int | None = check_screen(config).get("screen_factor")
        self.devices = pick_devices(config.device, plain(config.devices))
        self.device = self.devices[0]
        torch.set_num_threads(1)
        specs = names(plain(config.model))
        models = NamedModels(self.world, specs, *self.devices)
        if config.compile:
            models.compile()
        self.goals = load_goals(models.rendering(config.rendering), config.goals, self.world)
        tasks = plain(config.tasks) or self.world.goal_tasks[:DEFAULT_TASKS]
        self.tasks = choose_tasks(tasks, self.goals.tasks)
        self.pairs = {task: self.goals.of(task)[: self.rules.episodes] for task in self.tasks}
        known = {*self.world.tasks, *self.goals.tasks}
        for task in (plain(config.planner_by_task) or {}).keys() - known:
            raise ColaWorldError(
                f"planner_by_task names '{task}', which is no task of {self.world.simulator}; "
                f"choose some of {', '.join(sorted(known))}."
            )
        self.policy, proposing = Policy.of(
            config, self.world, self.tasks, self.goals.rendering, self.device
        )
        self.lpips = LPIPS(config.lpips) if config.lpips else None
        methods = [
            method
            for label, spec in specs.items()
            for method in make_methods(
                label, spec, models, config, self.tasks, self.goals.rendering, self.device
            )
        ]
        planners = {
            each.name.planner
            for each in methods
            if each.make_dynamics is not None and not each.plans_codes
        }
        self.proposed_to = set(plain(config.proposal_for) or planners)
        if proposing and not planners:
            raise ColaWorldError("proposal= is of no use here: no planner of this run takes one.")
        if unknown := sorted(self.proposed_to - planners):
            raise ColaWorldError(
                f"proposal_for={unknown} are none of this run's planners that take proposals: "
                f"{', '.join(sorted(planners)) or 'there are none'}."
            )
        for method in methods:
            if method.make_dynamics is not None and method.name.planner in self.proposed_to:
                method.settings.update(proposing)
        self.folder = RunFolder(Path(config.out))
        alone = not planners_differ(each.name for each in methods)
        self.methods = {self.folder.label(each.name, alone): each for each in methods}
        self.folder.claim(
            self._identity(), {label: each.settings for label, each in self.methods.items()}
        )

    @property
    def planned(self) -> list[tuple[str, str, int]]:
        """(label, task, pair) of every episode of the run, with the labels of its folder."""
        return [
            (label, task, pair)
            for label in self.methods
            for task in self.tasks
            for pair in range(len(self.pairs[task]))
        ]

    def records(self) -> list[EpisodeRecord]:
        """The finished episodes among the planned ones."""
        found = (self.folder.load(*episode) for episode in self.planned)
        return [record for record in found if record is not None]

    def finished(self) -> list[EpisodeRecord]:
        """All finished episodes of the folder: also of models, planners and tasks that earlier
        commands had, which these settings allow to stand beside the planned ones."""
        episodes = range(self.rules.episodes)
        found = (
            self.folder.load(label, task, pair)
            for label in self.folder.settings()["models"]
            for task in self.goals.tasks
            for pair in episodes
        )
        return [record for record in found if record is not None]

    def play(self, progress: Progress) -> None:
        """Play what is not finished, saving every episode as it ends."""
        if len(self.records()) == len(self.planned):
            return
        cores = os.cpu_count() or 1
        workers = self.config.workers or min(16, cores)
        threads = self.config.threads or min(4, cores)
        profile = self.goals.rendering, self.goals.action_repeat
        judge = self.rules.judge
        with SimulatorPool(workers, *profile, threads, judge, self.world.name) as pool:
            for label in self.methods:
                for episode in play(self._batches(label, pool), threads):
                    progress(self._save(label, episode))

    def _batches(self, label: str, pool: SimulatorPool) -> Iterator[EpisodeBatch]:
        for task in self.tasks:
            pairs = list(enumerate(self.pairs[task]))
            for start in range(0, len(pairs), self.rules.batch_size):
                part = pairs[start : start + self.rules.batch_size]
                if all(self.folder.load(label, task, index) for index, _ in part):
                    continue
                agent = self._agent(self.methods[label], task, pool)
                yield EpisodeBatch(part, agent, pool, self.rules)

    def _agent(self, method: Method, task: str, pool: SimulatorPool) -> Agent:
        space = Box(-1, 1, self.goals.pairs[0].expert_actions.shape[1:])
        if method.make_dynamics is None:
            random = RandomActions(self.rules.steps, **plain(self.config.random))
            return MPCAgent(random, space, self.rules)
        dynamics = method.make_dynamics(pool)
        planner = method.planners[task]
        reward = make_reward(self.rules.reward, task, method.classifier, lpips=self.lpips)
        sequences = (128 if self.device.type == "cpu" else 4096) * len(self.devices)
        if isinstance(planner, CategoricalCEM):
            return LatentPlanningAgent(
                planner, dynamics, reward, self.rules, sequences, self.combine
            )
        policy = self.policy if method.name.planner in self.proposed_to else None
        proposals = PolicyProposals.of(policy, dynamics[0], planner)
        screen = LatentScreen.of(dynamics[0], self.screen_factor)
        if method.own_reward is not None:
            assert isinstance(simulator := dynamics[0], SimulatorDynamics)
            own = method.own_reward
            return StateOracle(planner, simulator, reward, own, space, self.rules)
        return PlanningAgent(
            planner,
            dynamics,
            reward,
            space,
            self.rules,
            sequences=sequences,
            combine=self.combine,
            screen=screen,
            propose=None if proposals is None else proposals.plans,
        )

    def _save(self, label: str, episode: LiveEpisode) -> EpisodeRecord:
        task = episode.pair.task
        record = EpisodeRecord(
            task=task,
            **self.methods[label].name._asdict(),
            pair=episode.index,
            success=episode.success,
            steps=len(episode.actions),
            costs=tuple(episode.costs),
            imagined_psnr=episode.imagined_psnr(),
            seconds=round(episode.seconds, 2),
            spent={name: round(seconds, 2) for name, seconds in episode.spent.items()},
        )
        video = self.folder.episode(label, task, episode.index, ".mp4")
        write_video(
            video, episode.frames, episode.imagined, episode.pair.goal_frame, episode.success
        )
        self.folder.save(label, record)
        return record

    def _identity(self) -> dict[str, Any]:
        files = goals_files(self.goals.rendering, self.config.goals, self.world)
        return {
            "env": self.config.env,
            **self.rules.identity(),
            "rendering": self.goals.rendering,
            "action_repeat": self.goals.action_repeat,
            "goals": fingerprint(*files),
            **protocol_identity(self.config, self.goals.source),
            "device": self.device.type,
        }


class EpisodeBatch:
    """Some episodes of one task, decided for together.

    Random numbers depend on the seed, the task, the first pair and the step alone, so that a
    batch played again gives the same episodes.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[int, GoalPair]],
        agent: Agent,
        pool: SimulatorPool,
        rules: Rules,
    ) -> None:
        self.task = pairs[0][1].task
        self.agent = agent
        self.pool = pool
        self.rules = rules
        self.live = [LiveEpisode.start(index, pair) for index, pair in pairs]
        if rules.subgoal_steps:
            shown = [
                pool.advance(self.task, pair.initial_state, pair.expert_actions)
                for _, pair in pairs
            ]
            for episode, job in zip(self.live, shown, strict=True):
                episode.solution = list(job.result().frames)
        self._first = pairs[0][0]
        self._step = -rules.warmup_steps
        agent.reset(batch=len(pairs))

    def advance(self) -> list[LiveEpisode]:
        """Decide for every live episode and let the simulators act; returns those that are over."""
        began = time.perf_counter()
        still = self._step < self.rules.idle_steps
        decision = self._stand_still() if still else self.agent.decide(self._problem())
        count = 1 if still else min(self.rules.replan_every, self.rules.steps - self._step)
        seconds = (time.perf_counter() - began) / len(self.live)
        acting = Stopwatch()
        chosen = decision.actions[:, :count].numpy()
        jobs = [
            self.pool.advance(self.task, episode.state, actions)
            for episode, actions in zip(self.live, chosen, strict=True)
        ]
        for i, (episode, job) in enumerate(zip(self.live, jobs, strict=True)):
            with acting("simulator"):
                outcome = job.result()
            taken = len(outcome.frames)
            episode.frames.extend(outcome.frames)
            episode.imagined.extend(
                [None] * taken if decision.imagined is None else decision.imagined[i, :taken]
            )
            episode.actions.extend(chosen[i, :taken])
            episode.state, episode.success = outcome.state, outcome.success
            episode.seconds += seconds
            if decision.costs is not None:
                episode.costs.append(float(decision.costs[i]))
        for episode in self.live:
            for name, spent in {**decision.spent, **acting.spent}.items():
                episode.spent[name] += spent / len(self.live)
        return self._move_on(count)

    def _problem(self) -> PlanningProblem:
        return moment(self.live, self.rules, self._first, self._step)

    def _stand_still(self) -> Decision:
        size = self.live[0].pair.expert_actions.shape[-1]
        return Decision(torch.zeros(len(self.live), 1, size))

    def _move_on(self, count: int) -> list[LiveEpisode]:
        self._step += count
        stay = [not e.success and self._step < self.rules.steps for e in self.live]
        over = [e for e, stays in zip(self.live, stay, strict=True) if not stays]
        self.live = [e for e, stays in zip(self.live, stay, strict=True) if stays]
        if over and self.live:
            self.agent.select(torch.tensor(stay))
        return over


@dataclass
class LiveEpisode:
    """An episode under way; frames and imagined (None: nothing imagined) are T + 1 long. solution:
    what the script's own shows after each of its steps, where its frames are subgoals."""

    index: int
    pair: GoalPair
    state: NDArray[np.float64]
    frames: list[Frame]
    imagined: list[Frame | None]
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    success: bool = False
    seconds: float = 0.0
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    solution: list[Frame] = field(default_factory=list)

    @classmethod
    def start(cls, index: int, pair: GoalPair) -> LiveEpisode:
        return cls(index, pair, pair.initial_state, [pair.initial_frame], [None])

    def goal_frame(self, subgoal_steps: int) -> Frame:
        """What is planned for: so many steps on in the solution, or the problem's goal."""
        reached = len(self.actions) + subgoal_steps
        ahead = self.solution[reached - 1 :]
        return ahead[0] if ahead else self.pair.goal_frame

    def imagined_psnr(self) -> float | None:
        """dB between imagined and real frames over the episode; None without imagined frames."""
        errors = [
            np.square((real.astype(np.float64) - dream) / 255).mean()
            for real, dream in zip(self.frames, self.imagined, strict=True)
            if dream is not None
        ]
        if not errors:
            return None
        return round(float(-10 * np.log10(max(np.mean(errors), 1e-10))), 2)


def moment(live: Sequence[LiveEpisode], rules: Rules, first: int, step: int) -> PlanningProblem:
    """What the episodes of a batch, whose first pair is `first`, show who decides in a `step`."""
    context = min(rules.context, len(live[0].frames))
    size = live[0].pair.expert_actions.shape[-1]
    task = live[0].pair.task
    past = [np.reshape(e.actions[len(e.actions) - context + 1 :], (-1, size)) for e in live]
    key = (rules.seed, zlib.crc32(task.encode()), first, step)
    return PlanningProblem(
        task=task,
        frames=torch.from_numpy(np.stack([np.stack(e.frames[-context:]) for e in live])),
        actions=torch.from_numpy(np.stack(past).astype(np.float32)),
        states=np.stack([e.state for e in live]),
        goals=torch.from_numpy(np.stack([e.goal_frame(rules.subgoal_steps) for e in live])).float()
        / 255,
        seed=int(np.random.SeedSequence(key).generate_state(1)[0]),
    )


def play(batches: Iterable[EpisodeBatch], at_once: int) -> Iterator[LiveEpisode]:
    """Play batches to their ends, `at_once` in threads, yielding episodes as they finish.

    While the simulators of one batch step, the planner works for another; torch leaves Python's
    lock while it computes, so that threads use several cores better than its own threads do.
    """
    waiting = iter(batches)
    jobs: dict[Future[list[LiveEpisode]], EpisodeBatch] = {}
    executor = ThreadPoolExecutor(at_once)
    try:

        def start(batch: EpisodeBatch) -> None:
            # The compiler's settings are context variables, which threads do not inherit.
            jobs[executor.submit(copy_context().run, batch.advance)] = batch

        while True:
            while len(jobs) < at_once and (batch := next(waiting, None)) is not None:
                start(batch)
            if not jobs:
                return
            for job in wait(jobs, return_when=FIRST_COMPLETED).done:
                batch = jobs.pop(job)
                yield from job.result()
                if batch.live:
                    start(batch)
    finally:  # stopped, what has been played is told at once, whatever is still being planned
        executor.shutdown(wait=False, cancel_futures=True)
