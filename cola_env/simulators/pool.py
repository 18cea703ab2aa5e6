"""Simulator processes that take any job: an initial state goes in, frames and a state come out.

The jobs carry the simulator's whole state (`snapshot` is exact), so it does not matter which
process runs which step, and a batch of episodes or of an oracle's candidates spreads over all.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.processes import ONE_THREAD, WORKER_ENDED, serve
from cola_env.simulators.loading import make_simulator
from cola_env.simulators.simulator_env import SimulatorEnv
from cola_env.worlds import ROBODESK, WorldInfo, find_world

State = NDArray[np.float64]
Frames = NDArray[np.uint8]
Rewards = NDArray[np.float32]

Tried = TypeVar("Tried")

Profile = tuple[WorldInfo, str, int]
"""World, rendering profile and action repeat."""


@dataclass(frozen=True)
class Outcome:
    """What some actions did: frames uint8 (k, 64, 64, 3), the state after them, and success.

    The episode ends at the first success, so k may be less than the number of actions.
    """

    frames: Frames
    state: State
    success: bool


@dataclass(frozen=True)
class Trial:
    """Candidates tried out: frames uint8 (n, H, 64, 64, 3), and bool (n, H), True at a candidate's
    first success."""

    frames: Frames
    successes: NDArray[np.bool_]


class SimulatorPool:
    """Simulators of a world in `workers` processes. Close it, or use it as a context manager, which
    raises ColaWorldError where a process was killed.

    tasks: how many tasks are under way at a time; a process keeps a simulator (about 0.2 GB) for
        each.
    judge: what counts as a success, one of the simulator's `judges`.
    Raises ColaWorldError when the simulator cannot start or draw.
    """

    def __init__(
        self,
        workers: int,
        rendering: str,
        action_repeat: int,
        tasks: int = 1,
        judge: str = "tick",
        world: str | WorldInfo = ROBODESK,
    ) -> None:
        self.workers = workers
        self.judge = judge
        self.profile = (find_world(world), rendering, action_repeat)
        os.environ.update(ONE_THREAD | os.environ)  # what the user has set stays
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_serve, initargs=(tasks,)
        )
        try:
            self._executor.submit(_check, self.profile, judge).result()
        except BrokenProcessPool as error:
            raise ColaWorldError(
                "The simulator process died while starting; check that OpenGL works here (on "
                "Debian: apt-get install libegl1 libgl1-mesa-dri libgles2)."
            ) from error
        except (ImportError, RuntimeError, ColaWorldError) as error:
            self.close()
            raise ColaWorldError(str(error)) from error

    def advance(self, task: str, state: State, actions: NDArray[np.float32]) -> Future[Outcome]:
        """Execute actions (k, A) from a state until success."""
        return self._executor.submit(_advance, self.profile, self.judge, task, state, actions)

    def roll_out(
        self, task: str, state: State, actions: NDArray[np.float32]
    ) -> list[Future[Trial]]:
        """What candidates (N, H, A) lead to, in chunks of about one a worker."""
        return self._in_chunks(actions, _roll_out, task, state)

    def own_rewards(
        self, task: str, state: State, actions: NDArray[np.float32], reward: str
    ) -> list[Future[Rewards]]:
        """What one of the simulator's own rewards says of candidates (N, H, A), in chunks of about
        one a worker; nothing is drawn."""
        return self._in_chunks(actions, _own_rewards, task, state, reward)

    def _in_chunks(
        self, actions: NDArray[np.float32], job: Callable[..., Tried], *given: Any
    ) -> list[Future[Tried]]:
        return [
            self._executor.submit(job, self.profile, *given, part)
            for part in np.array_split(actions, min(self.workers, len(actions)))
        ]

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(cancel_futures=True)

    def __enter__(self) -> "SimulatorPool":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
        if isinstance(error, BrokenProcessPool):
            raise ColaWorldError(WORKER_ENDED) from error


_environments: dict[tuple[Profile, str, str], SimulatorEnv] = {}
_kept = 1


def _serve(kept: int) -> None:
    global _kept
    _kept = kept
    serve()


def _environment(profile: Profile, task: str, reward: str = "success") -> SimulatorEnv:
    env = _environments.pop((profile, task, reward), None)
    if env is None:
        if len(_environments) == _kept:
            _environments.pop(next(iter(_environments))).close()
        world, rendering, action_repeat = profile
        env = make_simulator(
            world, task, rendering=rendering, action_repeat=action_repeat, reward=reward
        )
    _environments[profile, task, reward] = env
    return env


def _check(profile: Profile, judge: str) -> None:
    env = _environment(profile, profile[0].goal_tasks[0])
    env.check_choice("judge", judge, env.judges)
    env.reset(seed=0)


def _advance(
    profile: Profile, judge: str, task: str, state: State, actions: NDArray[np.float32]
) -> Outcome:
    env = _environment(profile, task)
    env.restore(env.to_snapshot(state))
    frames, success = [], False
    for action in actions:
        frame, _, success, _, _ = env.step(action)
        frames.append(frame)
        success = env.judged(judge, bool(success))
        if success:
            break
    return Outcome(np.stack(frames), env.to_vector(env.snapshot()), success)


def _roll_out(profile: Profile, task: str, state: State, actions: NDArray[np.float32]) -> Trial:
    env = _environment(profile, task)
    env.restore(env.to_snapshot(state))
    rollout = env.rollout(actions)
    return Trial(rollout.frames.numpy(), rollout.rewards.numpy() > 0)


def _own_rewards(
    profile: Profile, task: str, state: State, reward: str, actions: NDArray[np.float32]
) -> Rewards:
    env = _environment(profile, task, reward)
    env.restore(env.to_snapshot(state))
    return env.own_rewards_of(actions)
