"""The script of a world of one's own (`cola_env.GymnasiumSimulator`), under noise, and play."""

from __future__ import annotations

import numpy as np

from cola_env.errors import ColaWorldError
from cola_env.simulators.gymnasium_simulator import GymnasiumSimulator
from cola_env.simulators.loading import simulator_class
from cola_env.worlds import WorldInfo
from cola_train.controllers.policies import CorrelatedNoise, SmoothRandom, Vector

PLAY_STEPS = (2, 8)
"""Actions, at least and fewer than, that play follows one policy for."""


class FreeSpace:
    """A workspace without bounds, for actions of any kind."""

    reach = 1.0

    def __init__(self, env: GymnasiumSimulator) -> None:
        self.spread = np.ones(env.action_dim)
        self.tip: Vector = np.zeros(min(3, env.action_dim))
        self.low: Vector = self.tip - np.inf
        self.high: Vector = self.tip + np.inf


class ScriptController:
    """Follows the world's script of a task, with temporally correlated noise on its actions."""

    finished = False
    past_pickup = True
    remembers = False

    def __init__(
        self, env: GymnasiumSimulator, task: str, rng: np.random.Generator, noise: float
    ) -> None:
        self._env, self._task = env, task
        self._noise = CorrelatedNoise(env.action_dim, noise, rng)

    def act(self) -> np.ndarray:
        """The next action: float32 (A,) in [-1, 1]; ColaWorldError for a script that gives none."""
        action = np.asarray(self._env.script(self._task), np.float64)
        if action.shape != (self._env.action_dim,) or not np.isfinite(action).all():
            raise ColaWorldError(
                f"{type(self._env).__name__}.script('{self._task}') must give "
                f"{self._env.action_dim} finite numbers, not an array of shape {action.shape}."
            )
        self.intended = np.clip(action, -1.0, 1.0).astype(np.float32)
        return np.clip(action + self._noise(), -1.0, 1.0).astype(np.float32)


class OwnPlay:
    """Turns of random length: the script of a random task, or smooth random actions."""

    def __init__(self, env: GymnasiumSimulator, rng: np.random.Generator) -> None:
        self._env, self._rng = env, rng
        self._left = 0

    @property
    def intended(self) -> np.ndarray:
        return self._policy.intended

    def act(self) -> np.ndarray:
        """The next action: float32 (A,) in [-1, 1]."""
        if self._left == 0:
            self._left = int(self._rng.integers(*PLAY_STEPS))
            self._policy = self._draw()
        self._left -= 1
        return self._policy.act()

    def _draw(self) -> ScriptController | SmoothRandom:
        tasks = self._env.scripted_tasks()
        if tasks and self._rng.random() < 0.5:
            task = str(self._rng.choice(tasks))
            return ScriptController(self._env, task, self._rng, noise=0.2)
        return SmoothRandom(FreeSpace(self._env), self._rng)


class OwnScripts:
    """What the modules of the shipped worlds offer, see `cola_train.controllers`."""

    Scene = FreeSpace
    Play = OwnPlay

    def __init__(self, world: WorldInfo) -> None:
        simulator = simulator_class(world)
        assert issubclass(simulator, GymnasiumSimulator)
        self.SCRIPTED_TASKS = simulator.scripted_tasks()

    def make_controller(
        self, task: str, env: GymnasiumSimulator, rng: np.random.Generator, noise: float = 0.0
    ) -> ScriptController:
        """A controller that solves `task` from the present state; ColaWorldError where there is
        no script."""
        if task not in self.SCRIPTED_TASKS:
            raise ColaWorldError(
                f"{type(env).__name__} has no script for '{task}': give it the method script(task)."
            )
        return ScriptController(env, task, rng, noise)
