"""RoboDesk's scripts, which waypoints solve which task, and play on the desk."""

from collections.abc import Callable

import numpy as np

from cola_train.controllers.policies import UP, PlayPolicy, Simulator, Vector, find_script
from cola_train.controllers.robodesk_arm import (
    AWAY,
    CLOSED,
    OPEN,
    RIGHT,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    Controller,
    Scene,
    Script,
    Waypoint,
    along,
    from_above,
)

HANDLE: Vector = np.array([0.0, -0.11, 0.0])
"""From the sliding door's centre to its handle."""


def always(scene: Scene) -> bool:
    return True


def away_from(scene: Scene, thing: Vector) -> float:
    """Metres from the fingertips to a place."""
    return float(np.linalg.norm(scene.tip - thing))


def push_button(color: str) -> Script:
    return Script(
        [Waypoint(from_above(lambda s: s.body(f"{color}_button"), 0.12), due=always)],
        lambda s: s.joint(f"{color}_light") < -0.0046,
    )


def open_slide() -> Script:
    """Push the door by its handle, with the fingers between the handle and the door."""

    def at(right: float, away: float) -> Callable[[Scene], Vector]:
        return lambda s: s.body("slide") + HANDLE + right * RIGHT + away * AWAY

    def within(scene: Scene, right: tuple[float, float], away: tuple[float, float]) -> bool:
        """Metres from the handle to the fingertips."""
        x, y, z = scene.tip - at(0.0, 0.0)(scene)
        return bool(right[0] < x < right[1] and away[0] < y < away[1] and abs(z) < 0.05)

    return Script(
        [
            Waypoint(at(-0.06, -0.06), due=always),
            Waypoint(at(-0.06, 0.03), due=lambda s: within(s, (-0.11, -0.02), (-0.11, 0.06))),
            Waypoint(at(0.1, 0.03), due=lambda s: within(s, (-0.11, 0.0), (-0.005, 0.08))),
            Waypoint(
                lambda s: s.tip - 0.1 * AWAY, due=lambda s: within(s, (0.0, 0.1), (-0.08, 0.08))
            ),
        ],
        lambda s: s.joint("slide_joint") > 0.56,
    )


def flat_block_off_table() -> Script:
    """Come down behind the block, and pull it over the desk's front edge."""

    def block(scene: Scene) -> Vector:
        return scene.body("flat_block") - 0.03 * UP

    def beside(scene: Scene, aside: float, near: float, far: float) -> bool:
        across, away, _ = scene.tip - block(scene)
        return bool(scene.tip[2] < 0.8 and abs(across) < aside and near < away < far)

    return Script(
        [
            Waypoint(from_above(lambda s: block(s) + 0.07 * AWAY, 0.12), level=True, due=always),
            Waypoint(
                lambda s: block(s) - 0.1 * AWAY,
                level=True,
                due=lambda s: beside(s, 0.04, 0.0, 0.11),
            ),
            Waypoint(lambda s: s.tip + 0.1 * UP, due=lambda s: beside(s, 0.06, -0.1, 0.0)),
        ],
        lambda s: s.body("flat_block")[2] < 0.6,
    )


def upright_block_off_table() -> Script:
    """Grip the block, lift it over the flat one and let it fall in front of the desk."""

    def block(scene: Scene) -> Vector:
        return scene.body("upright_block")

    def grip(scene: Scene) -> Vector:
        return block(scene) + 0.03 * UP + 0.02 * scene.pointing

    def held(scene: Scene, height: float = 0.86) -> bool:
        lifted = height < block(scene)[2] < scene.tip[2]
        return bool(lifted and away_from(scene, block(scene)) < 0.1)

    def in_front(scene: Scene) -> Vector:
        return np.array([scene.tip[0], 0.45, 1.06])

    return Script(
        [
            Waypoint(
                along(lambda s: -s.heading, grip, 0.1, radius=0.01),
                gripper=OPEN,
                level=True,
                due=always,
            ),
            Waypoint(
                lambda s: s.tip + 0.1 * UP, due=lambda s: away_from(s, grip(s)) < 0.03 or held(s)
            ),
            Waypoint(in_front, due=lambda s: held(s, 0.885)),
            Waypoint(in_front, gripper=OPEN, due=lambda s: held(s) and block(s)[1] < 0.54),
        ],
        lambda s: block(s)[2] < 0.6,
    )


BAR: Vector = np.array([0.0, 0.49, 0.66])
"""The middle of the handle's bar when the drawer is closed."""

OVER_EDGE: Vector = np.array([0.0, 0.61, 0.82])
BEFORE_EDGE: Vector = np.array([0.0, 0.525, 0.69])
AGAINST_EDGE: Vector = np.array([0.0, 0.7, 0.74])
"""Targets over the desk's front edge, in front of it, and inside the desk to press against it."""


def bar(scene: Scene) -> Vector:
    return BAR + scene.joint("drawer_joint") * AWAY


def open_drawer() -> Script:
    """The one task that needs the arm in a special posture.

    Over the drawer the arm is folded to the limit of its elbow, and the hand can come nearer to the
    base only when it points straight down. The simulator moves the hand's position and leaves its
    tilt to the inverse kinematics, but fingertips pressed against the desk's front edge stay where
    they are while the wrist goes on: that tilts the hand. Then the fingers go behind the handle's
    bar and pull.
    """

    def at_edge(scene: Scene, away: float, low: float, high: float) -> bool:
        across, y, z = scene.tip
        return bool(abs(across) < 0.06 and 0.47 < y < away and low < z < high)

    def tilted(scene: Scene) -> bool:
        """At the edge until it points at the robot, so that on the way back it still does."""
        enough = 0.0 if scene.tip[1] > 0.545 else 0.25
        return bool(scene.pointing[1] < enough)

    def at_bar(scene: Scene, height: float, near: float, far: float) -> bool:
        behind = scene.tip[1] - bar(scene)[1]
        return bool(tilted(scene) and scene.tip[2] < height and near < behind < far)

    tilt = [
        Waypoint(lambda s: OVER_EDGE, level=True, due=always),
        Waypoint(
            from_above(lambda s: BEFORE_EDGE, 0.12, radius=0.01),
            level=True,
            due=lambda s: at_edge(s, 0.66, 0.76, 0.87) or at_edge(s, 0.58, 0.68, 0.87),
        ),
        Waypoint(lambda s: AGAINST_EDGE, level=True, due=lambda s: at_edge(s, 0.6, 0.0, 0.755)),
    ]
    pull = [
        Waypoint(
            from_above(lambda s: bar(s) + 0.045 * AWAY, 0.07, radius=0.02), level=True, due=tilted
        ),
        Waypoint(
            lambda s: np.array([0.0, s.tip[1] - 0.1, 0.62]),
            level=True,
            due=lambda s: at_bar(s, 0.69, 0.0, 1.0),
        ),
        Waypoint(
            lambda s: s.tip + 0.04 * AWAY + 0.1 * UP,
            due=lambda s: at_bar(s, 0.715, -0.1, 0.0),
        ),
    ]
    return Script(tilt + pull, lambda s: s.joint("drawer_joint") < -0.2)


_SCRIPTS: dict[str, Callable[[], Script]] = {
    "push_red": lambda: push_button("red"),
    "push_green": lambda: push_button("green"),
    "push_blue": lambda: push_button("blue"),
    "open_slide": open_slide,
    "open_drawer": open_drawer,
    "flat_block_off_table": flat_block_off_table,
    "upright_block_off_table": upright_block_off_table,
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


class Play(PlayPolicy):
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
                Waypoint(from_above(lambda s: thing(s) - behind * forward, height), tolerance=0.03),
                Waypoint(lambda s: goal, patience=4),
                Waypoint(lambda s: s.tip + height * UP, patience=1),
            ]
        )

    def _carry(self, thing: Callable[[Scene], Vector]) -> Script:
        goal = self._near(thing, self._direction()) + self._rng.uniform(0.0, 0.12) * UP
        return Script(
            [
                Waypoint(from_above(thing, 0.12, radius=0.015), gripper=OPEN, level=True),
                Waypoint(thing, lambda s: False, gripper=CLOSED, patience=1),
                Waypoint(lambda s: goal, gripper=CLOSED, patience=5),
                Waypoint(lambda s: s.tip + 0.1 * UP, gripper=OPEN, patience=2),
            ]
        )

    def _near(self, thing: Callable[[Scene], Vector], direction: Vector) -> Vector:
        place = thing(Scene(self._env)) + self._rng.uniform(0.05, 0.25) * direction
        return np.clip(place, WORKSPACE_LOW, WORKSPACE_HIGH)
