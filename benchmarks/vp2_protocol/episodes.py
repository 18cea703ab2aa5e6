"""Episodes under way, side by side: the planner decides for a batch, simulator processes act."""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Stopwatch
from benchmarks.vp2_protocol.decisions import Agent, Decision, PlanningProblem
from benchmarks.vp2_protocol.records import Frame, Rules
from cola_env.goals.goal_set import GoalPair
from cola_env.scoring.psnr import psnr
from cola_env.simulators.pool import SimulatorPool


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
        self.live = [LiveEpisode.start(index, pair, rules.warmup_steps) for index, pair in pairs]
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
    """An episode under way; frames and imagined (None: nothing imagined) are T + 1 long.

    warmup_steps: actions before the first step. solution: what the script's own shows after each of
    its steps, where its frames are subgoals."""

    index: int
    pair: GoalPair
    state: NDArray[np.float64]
    frames: list[Frame]
    imagined: list[Frame | None]
    warmup_steps: int = 0
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    success: bool = False
    seconds: float = 0.0
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    solution: list[Frame] = field(default_factory=list)

    @classmethod
    def start(cls, index: int, pair: GoalPair, warmup_steps: int = 0) -> LiveEpisode:
        return cls(index, pair, pair.initial_state, [pair.initial_frame], [None], warmup_steps)

    @property
    def steps(self) -> int:
        """How many were taken so far, without the warm-up."""
        return max(0, len(self.actions) - self.warmup_steps)

    def goal_frame(self, subgoal_steps: int) -> Frame:
        """What is planned for: so many steps on in the solution, or the problem's goal."""
        reached = self.steps + subgoal_steps
        ahead = self.solution[reached - 1 :]
        return ahead[0] if ahead else self.pair.goal_frame

    def imagined_psnr(self) -> float | None:
        """dB between imagined and real frames over the episode; None without imagined frames."""
        seen = [(r, i) for r, i in zip(self.frames, self.imagined, strict=True) if i is not None]
        if not seen:
            return None
        real, imagined = (
            torch.from_numpy(np.stack(frames)) / 255 for frames in zip(*seen, strict=True)
        )
        return round(float(psnr((real - imagined).square().mean())), 2)


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
