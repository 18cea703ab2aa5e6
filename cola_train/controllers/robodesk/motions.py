"""The vocabulary of the scripts: directions and shapes of approach."""

from collections.abc import Callable

import numpy as np

from cola_train.controllers.robodesk.scene import Scene
from cola_train.controllers.workspace import UP, Vector

RIGHT: Vector = np.array([1.0, 0.0, 0.0])
AWAY: Vector = np.array([0.0, 1.0, 0.0])


def along(
    direction: Callable[[Scene], Vector],
    target: Callable[[Scene], Vector],
    start: float,
    radius: float = 0.025,
) -> Callable[[Scene], Vector]:
    """A target that comes to `target` against the unit vector `direction`, through a funnel.

    It is up to `start` metres away along `direction`, the nearer the better the fingertips are
    aligned; within `radius` of the axis it is `target` itself.
    """

    def funnel(scene: Scene) -> Vector:
        goal, axis = target(scene), direction(scene)
        offset = scene.tip - goal
        aside = float(np.linalg.norm(offset - offset.dot(axis) * axis))
        return goal + axis * np.clip(2 * (aside - radius), 0.0, start)

    return funnel


def from_above(
    target: Callable[[Scene], Vector], height: float, radius: float = 0.025
) -> Callable[[Scene], Vector]:
    """Come down on `target` from up to `height` metres above it."""
    return along(lambda scene: UP, target, height, radius)
