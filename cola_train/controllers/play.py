"""Play: reach a random thing and push it in a random direction, again and again."""

import numpy as np

from cola_train.controllers.controller import CLOSED, OPEN, Controller, Phase
from cola_train.controllers.motions import UP, from_above
from cola_train.controllers.scene import Scene, Simulator, Vector

THINGS = ("flat_block", "upright_block", "ball", "red_button", "green_button", "blue_button")
"""Bodies that play reaches for."""


class Play:
    """Diverse contact without a task: reach a random thing, push it, draw another one.

    Args:
        env: the simulator; its true state is read at every action.
        rng: source of all randomness.
        noise: standard deviation of the temporally correlated noise on the action.
    """

    def __init__(self, env: Simulator, rng: np.random.Generator, noise: float = 0.1) -> None:
        self._env = env
        self._rng = rng
        self._noise = noise
        self._controller = self._draw()

    def act(self) -> np.ndarray:
        """The next action: float32 (5,) in [-1, 1]."""
        if self._controller.rounds:
            self._controller = self._draw()
        return self._controller.act()

    def _draw(self) -> Controller:
        rng = self._rng
        name = THINGS[rng.integers(len(THINGS))]
        angle = rng.uniform(-np.pi, np.pi)
        forward = np.array([np.cos(angle), np.sin(angle), 0.0])
        start = rng.uniform(0.04, 0.1)
        length = rng.uniform(0.05, 0.25)
        height = rng.uniform(0.08, 0.18)
        grip = CLOSED if rng.random() < 0.7 else OPEN
        level = bool(rng.random() < 0.5)
        goal = Scene(self._env).body(name) + length * forward

        def thing(scene: Scene) -> Vector:
            return scene.body(name)

        reach = Phase(
            from_above(lambda s: thing(s) - start * forward, height),
            tolerance=0.03,
            gripper=grip,
            level=level,
        )
        push = Phase(lambda s: goal, patience=4, gripper=CLOSED)
        leave = Phase(lambda s: s.tip + height * UP, patience=1, gripper=grip)
        return Controller(self._env, [reach, push, leave], rng, self._noise)
