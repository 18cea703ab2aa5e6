"""Play on the desk."""

from collections.abc import Callable

import numpy as np

from cola_train.controllers.play import PlayPolicy
from cola_train.controllers.robodesk.controller import CLOSED, OPEN, Controller, Phase, Script
from cola_train.controllers.robodesk.motions import from_above
from cola_train.controllers.robodesk.scene import WORKSPACE_HIGH, WORKSPACE_LOW, Scene, Simulator
from cola_train.controllers.workspace import UP, Vector

THINGS = {
    "flat_block": 0.25,
    "upright_block": 0.2,
    "ball": 0.25,
    "slide": 0.15,
    "red_button": 0.05,
    "green_button": 0.05,
    "blue_button": 0.05,
}
"""How often play reaches for each body."""

FALLEN = 0.7
"""Height under which a body is no longer on the desk."""

HANDLE: Vector = np.array([0.0, -0.11, 0.0])
"""From the sliding door's centre to its handle."""


class Play(PlayPolicy[Simulator]):
    """Reach a random thing, then push it or carry it in a random direction."""

    def _draw(self) -> Controller:
        scene = Scene(self._env)
        on_desk = {name: w for name, w in THINGS.items() if scene.body(name)[2] > FALLEN}
        weights = np.array(list(on_desk.values()))
        name = str(self._rng.choice(list(on_desk), p=weights / weights.sum()))

        def thing(scene: Scene) -> Vector:
            return scene.body(name) + (HANDLE if name == "slide" else 0.0)

        script = self._carry(thing) if self._rng.random() < 0.3 else self._push(thing)
        return Controller(self._env, script, self._rng, self._noise)

    def _push(self, thing: Callable[[Scene], Vector]) -> Script:
        forward = self._direction()
        behind = self._rng.uniform(0.06, 0.1)
        goal = self._near(thing, forward)
        height = self._rng.uniform(0.08, 0.16)
        return Script(
            [
                Phase(from_above(lambda s: thing(s) - behind * forward, height), tolerance=0.03),
                Phase(lambda s: goal, patience=4),
                Phase(lambda s: s.tip + height * UP, patience=1),
            ]
        )

    def _carry(self, thing: Callable[[Scene], Vector]) -> Script:
        goal = self._near(thing, self._direction()) + self._rng.uniform(0.0, 0.12) * UP
        return Script(
            [
                Phase(from_above(thing, 0.12, radius=0.015), gripper=OPEN, level=True),
                Phase(thing, lambda s: False, gripper=CLOSED, patience=1),
                Phase(lambda s: goal, gripper=CLOSED, patience=5),
                Phase(lambda s: s.tip + 0.1 * UP, gripper=OPEN, patience=2),
            ]
        )

    def _near(self, thing: Callable[[Scene], Vector], direction: Vector) -> Vector:
        place = thing(Scene(self._env)) + self._rng.uniform(0.05, 0.25) * direction
        return np.clip(place, WORKSPACE_LOW, WORKSPACE_HIGH)
