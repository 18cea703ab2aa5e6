"""Play at the table."""

from collections.abc import Callable

import numpy as np

from cola_train.controllers.libero.controller import CLOSED, OPEN, Controller, Phase, Script
from cola_train.controllers.libero.scene import Scene, Simulator
from cola_train.controllers.libero.tasks import GRIPS
from cola_train.controllers.play import PlayPolicy
from cola_train.controllers.workspace import UP, Vector

FALLEN = 0.85
"""Height under which a thing is no longer on the table."""


class Play(PlayPolicy[Simulator]):
    """Push a random thing or carry it in a random direction, in the scene of libero_goal."""

    def _draw(self) -> Controller:
        scene = Scene(self._env)
        within = [name for name in GRIPS if scene.object(name)[2] > FALLEN] or list(GRIPS)
        grip = GRIPS[str(self._rng.choice(within))]
        script = self._carry(grip) if self._rng.random() < 0.5 else self._push(grip)
        return Controller(self._env, script, self._rng, self._noise)

    def _push(self, grip: Callable[[Scene], Vector]) -> Script:
        forward = self._direction()
        behind = self._rng.uniform(0.06, 0.1)
        goal = self._near(grip, forward)
        return Script(
            [
                Phase(lambda s: grip(s) - behind * forward + 0.1 * UP, tolerance=0.04),
                Phase(lambda s: grip(s) - behind * forward, tolerance=0.03, patience=20),
                Phase(lambda s: goal, gripper=CLOSED, patience=30),
                Phase(lambda s: s.tip + 0.1 * UP, steps=10),
            ]
        )

    def _carry(self, grip: Callable[[Scene], Vector]) -> Script:
        forward = self._direction()
        goal = self._near(grip, forward) + self._rng.uniform(0.0, 0.2) * UP
        return Script(
            [
                Phase(lambda s: grip(s) + 0.1 * UP, tolerance=0.02),
                Phase(grip, tolerance=0.01, patience=30),
                Phase(grip, gripper=CLOSED, steps=10),
                Phase(lambda s: s.tip + 0.07 * UP, gripper=CLOSED, steps=10),
                Phase(lambda s: goal, gripper=CLOSED, tolerance=0.03, patience=40),
                Phase(lambda s: s.tip, gripper=OPEN, steps=10),
                Phase(lambda s: s.tip + 0.1 * UP, steps=10),
            ]
        )

    def _near(self, grip: Callable[[Scene], Vector], direction: Vector) -> Vector:
        scene = Scene(self._env)
        place = grip(scene) + self._rng.uniform(0.08, 0.3) * direction
        return np.clip(place, scene.low, scene.high)
