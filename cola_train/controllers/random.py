"""Smooth random motion, for data without a task."""

import numpy as np

from cola_train.controllers.noise import CorrelatedNoise
from cola_train.controllers.workspace import Workspace


class SmoothRandom:
    """Actions from an AR(1) process, steered back when the fingertips leave the workspace.

    Where nothing steers each component has mean 0, standard deviation `scale` times its spread
    (before the clip to [-1, 1]) and correlation `correlation` between successive steps.

    Args:
        scene: the simulator's; only the fingertips' position is read.
        rng: source of all randomness.
        scale: standard deviation; None draws it from [0.3, 1] once.
        correlation: of two successive actions, in [0, 1).
        steered: False lets the arm run against its limits, as the candidates of a planner do.
    """

    def __init__(
        self,
        scene: Workspace,
        rng: np.random.Generator,
        scale: float | None = None,
        correlation: float = 0.8,
        steered: bool = True,
    ) -> None:
        self.scale = float(rng.uniform(0.3, 1.0)) if scale is None else scale
        self.steered = steered
        self._scene = scene
        self._noise = CorrelatedNoise(len(scene.spread), self.scale, rng, correlation)

    def act(self) -> np.ndarray:
        """The next action: float32 (A,) in [-1, 1]."""
        scene = self._scene
        action = scene.spread * self._noise()
        if self.steered:
            tip = scene.tip
            excess = np.clip(tip, scene.low, scene.high) - tip
            action[:3] = np.where(excess == 0, action[:3], np.sign(excess) * np.abs(action[:3]))
            action[:3] += excess / scene.reach
        return np.clip(action, -1.0, 1.0).astype(np.float32)
