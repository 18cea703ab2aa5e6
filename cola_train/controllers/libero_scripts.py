"""LIBERO's scripts, which waypoints solve which task, and play at the table."""

from collections.abc import Callable

import numpy as np

from cola_train.controllers.libero_arm import (
    CLOSED,
    OPEN,
    Controller,
    Scene,
    Script,
    Waypoint,
)
from cola_train.controllers.policies import UP, PlayPolicy, Simulator, Vector, find_script

RIM: Vector = np.array([0.0, 0.048, 0.035])
"""From the bowl's foot to a place on its rim where the fingers take hold."""

PLATE_RIM: Vector = np.array([0.0, 0.05, 0.02])
"""From the plate's foot to its rim."""

GRIPS: dict[str, Callable[[Scene], Vector]] = {
    "akita_black_bowl_1": lambda s: s.object("akita_black_bowl_1") + RIM,
    "cream_cheese_1": lambda s: s.object("cream_cheese_1"),
    "wine_bottle_1": lambda s: s.object("wine_bottle_1") + 0.11 * UP,
    "plate_1": lambda s: s.object("plate_1") + PLATE_RIM,
}
"""Where the fingers take hold of the things in the scene of libero_goal."""

CARRY = 0.1
"""Metres above its resting place at which a thing is carried."""

LOST = 0.2
"""Metres between thing and fingertips at which it is no longer held."""


def pick_and_place(
    thing: Callable[[Scene], Vector],
    grip: Callable[[Scene], Vector],
    place: Callable[[Scene], Vector],
    angle: Callable[[Scene], float] = lambda scene: 0.0,
    drop: float = 0.01,
) -> Script:
    """Take `thing` with the fingertips at `grip` and let it go where it is `drop` above `place`.

    The hand's way to the place is found from how it holds the thing at that moment.
    """

    def above(target: Callable[[Scene], Vector], height: float) -> Callable[[Scene], Vector]:
        return lambda s: target(s) + height * UP

    def lost(s: Scene) -> bool:
        return bool(np.linalg.norm(thing(s) - s.tip) > LOST)

    def lift(s: Scene) -> bool:
        return lost(s) or bool(thing(s)[2] > place(s)[2] + CARRY)

    def carry(height: float, tolerance: float, patience: int) -> Waypoint:
        def way(s: Scene) -> Vector:
            return place(s) + height * UP - thing(s)

        def there(s: Scene) -> bool:
            return lost(s) or bool(np.linalg.norm(way(s)) < tolerance)

        return Waypoint(lambda s: s.tip + way(s), there, gripper=CLOSED, patience=patience)

    return Script(
        [
            Waypoint(above(grip, 0.1), angle=angle, tolerance=0.02),
            Waypoint(grip, angle=angle, tolerance=0.006, patience=30),
            Waypoint(grip, gripper=CLOSED, steps=10, angle=angle),
            Waypoint(lambda s: s.tip + 0.07 * UP, lift, gripper=CLOSED, patience=40),
            carry(CARRY, tolerance=0.012, patience=90),
            carry(drop, tolerance=0.006, patience=40),
            Waypoint(lambda s: s.tip, steps=8),
            Waypoint(lambda s: s.tip + 0.1 * UP, steps=15),
        ],
        pick=4,
    )


def bowl_to(place: Callable[[Scene], Vector], bowl: str = "akita_black_bowl_1") -> Script:
    """By the rim."""
    return pick_and_place(lambda s: s.object(bowl), lambda s: s.object(bowl) + RIM, place)


def cream_cheese_in_bowl() -> Script:
    def box(s: Scene) -> Vector:
        return s.object("cream_cheese_1")

    def angle(s: Scene) -> float:
        turn = s.heading("cream_cheese_1")
        return float((turn + np.pi / 2) % np.pi - np.pi / 2)

    return pick_and_place(box, box, lambda s: s.object("akita_black_bowl_1") + 0.05 * UP, angle)


def bottle_to(place: Callable[[Scene], Vector]) -> Script:
    """By the neck."""

    def bottle(s: Scene) -> Vector:
        return s.object("wine_bottle_1")

    return pick_and_place(bottle, lambda s: bottle(s) + 0.11 * UP, place)


def turn_on_stove() -> Script:
    """Take the knob by its front end and lead it round."""

    def knob(s: Scene) -> Vector:
        return s.object("flat_stove_1") + 0.035 * UP

    def turn(s: Scene) -> float:
        return s.joint("flat_stove_1_button")

    def end(ahead: float) -> Callable[[Scene], Vector]:
        def place(s: Scene) -> Vector:
            angle = turn(s) + ahead
            return knob(s) + 0.035 * np.array([np.cos(angle), np.sin(angle), 0.0])

        return place

    return Script(
        [
            Waypoint(lambda s: end(0.0)(s) + 0.1 * UP, tolerance=0.02),
            Waypoint(end(0.0), tolerance=0.006, patience=30),
            Waypoint(end(0.0), gripper=CLOSED, steps=8),
            Waypoint(end(1.0), lambda s: turn(s) > 0.8, gripper=CLOSED, angle=turn, patience=120),
            Waypoint(lambda s: s.tip, steps=8),
            Waypoint(lambda s: s.tip + 0.1 * UP, steps=15),
        ]
    )


def on_plate(s: Scene) -> Vector:
    return s.object("plate_1") + 0.01 * UP


_SCRIPTS: dict[str, Callable[[], Script]] = {
    "libero_goal/put_the_bowl_on_the_plate": lambda: bowl_to(on_plate),
    "libero_goal/put_the_bowl_on_the_stove": lambda: bowl_to(
        lambda s: s.site("flat_stove_1_cook_region")
    ),
    "libero_goal/put_the_bowl_on_top_of_the_cabinet": lambda: bowl_to(
        lambda s: s.site("wooden_cabinet_1_top_side")
    ),
    "libero_goal/put_the_cream_cheese_in_the_bowl": cream_cheese_in_bowl,
    "libero_goal/put_the_wine_bottle_on_top_of_the_cabinet": lambda: bottle_to(
        lambda s: s.site("wooden_cabinet_1_top_side")
    ),
    "libero_goal/turn_on_the_stove": turn_on_stove,
}

_SCRIPTS |= {
    f"libero_spatial/pick_up_the_black_bowl_{where}_and_place_it_on_the_plate": lambda: bowl_to(
        on_plate
    )
    for where in (
        "between_the_plate_and_the_ramekin",
        "next_to_the_ramekin",
        "from_table_center",
        "on_the_cookie_box",
        "in_the_top_drawer_of_the_wooden_cabinet",
        "on_the_ramekin",
        "next_to_the_cookie_box",
        "on_the_stove",
        "next_to_the_plate",
        "on_the_wooden_cabinet",
    )
}

SCRIPTED_TASKS = tuple(_SCRIPTS)
"""The tasks that `make_controller` knows."""


def make_controller(
    task: str, env: Simulator, rng: np.random.Generator, noise: float = 0.0
) -> Controller:
    """A controller that solves `task` from the present state of `env`.

    Raises:
        ValueError: there is no script for `task`.
    """
    return Controller(env, find_script(_SCRIPTS, task), rng, noise)


FALLEN = 0.85
"""Height under which a thing is no longer on the table."""


class Play(PlayPolicy):
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
                Waypoint(lambda s: grip(s) - behind * forward + 0.1 * UP, tolerance=0.04),
                Waypoint(lambda s: grip(s) - behind * forward, tolerance=0.03, patience=20),
                Waypoint(lambda s: goal, gripper=CLOSED, patience=30),
                Waypoint(lambda s: s.tip + 0.1 * UP, steps=10),
            ]
        )

    def _carry(self, grip: Callable[[Scene], Vector]) -> Script:
        forward = self._direction()
        goal = self._near(grip, forward) + self._rng.uniform(0.0, 0.2) * UP
        return Script(
            [
                Waypoint(lambda s: grip(s) + 0.1 * UP, tolerance=0.02),
                Waypoint(grip, tolerance=0.01, patience=30),
                Waypoint(grip, gripper=CLOSED, steps=10),
                Waypoint(lambda s: s.tip + 0.07 * UP, gripper=CLOSED, steps=10),
                Waypoint(lambda s: goal, gripper=CLOSED, tolerance=0.03, patience=40),
                Waypoint(lambda s: s.tip, gripper=OPEN, steps=10),
                Waypoint(lambda s: s.tip + 0.1 * UP, steps=10),
            ]
        )

    def _near(self, grip: Callable[[Scene], Vector], direction: Vector) -> Vector:
        scene = Scene(self._env)
        place = grip(scene) + self._rng.uniform(0.08, 0.3) * direction
        return np.clip(place, scene.low, scene.high)
