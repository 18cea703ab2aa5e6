"""Opening the drawer, the one task that needs the arm in a special posture.

Over the drawer the arm is folded to the limit of its elbow, and the hand can come nearer to the
base only when it points straight down. The simulator moves the hand's position and leaves its tilt
to the inverse kinematics, but fingertips pressed against the desk's front edge stay where they are
while the wrist goes on: that tilts the hand. Then the fingers go behind the handle's bar and pull.
"""

import numpy as np

from cola_train.controllers.robodesk.controller import Phase, Script
from cola_train.controllers.robodesk.motions import AWAY, from_above
from cola_train.controllers.robodesk.scene import Scene
from cola_train.controllers.workspace import UP, Vector

BAR: Vector = np.array([0.0, 0.49, 0.66])
"""The middle of the handle's bar when the drawer is closed."""

OVER_EDGE: Vector = np.array([0.0, 0.61, 0.82])
BEFORE_EDGE: Vector = np.array([0.0, 0.525, 0.69])
AGAINST_EDGE: Vector = np.array([0.0, 0.7, 0.74])
"""Targets over the desk's front edge, in front of it, and inside the desk to press against it."""


def bar(scene: Scene) -> Vector:
    return BAR + scene.joint("drawer_joint") * AWAY


def open_drawer() -> Script:
    tilt = [
        Phase(lambda s: OVER_EDGE, tolerance=0.05, level=True),
        Phase(
            from_above(lambda s: BEFORE_EDGE, 0.12, radius=0.01),
            lambda s: bool(s.tip[2] < 0.745),
            level=True,
            presses=True,
            patience=6,
        ),
        Phase(
            lambda s: AGAINST_EDGE,
            lambda s: bool(s.pointing[1] < 0.0),
            level=True,
            presses=True,
            patience=9,
        ),
    ]
    pull = [
        Phase(
            from_above(lambda s: bar(s) + 0.045 * AWAY, 0.07, radius=0.02),
            lambda s: bool(s.tip[2] < 0.69),
            level=True,
            patience=5,
        ),
        Phase(
            lambda s: np.array([0.0, s.tip[1] - 0.1, 0.62]),
            lambda s: bool(s.tip[1] < bar(s)[1]),
            level=True,
        ),
        Phase(
            lambda s: s.tip + 0.04 * AWAY + 0.1 * UP, lambda s: bool(s.tip[2] > 0.715), patience=2
        ),
    ]
    return Script(tilt + 3 * pull, lambda s: s.joint("drawer_joint") < -0.2)
