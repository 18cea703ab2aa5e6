"""A policy acts: its own data, or, where a script corrects it, those of DAgger (1011.0686)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo
from cola_train.controllers.policies import CorrelatedNoise, Policy

if TYPE_CHECKING:
    from cola_env.simulators.simulator_env import SimulatorEnv


class Piloted:
    """Acts as a policy does on the frames that it sees.

    Args:
        script: follows the simulator's true state, and tells what it would do there as what is
            `intended`; None: that is the policy's own action, without noise.
        env: the simulator.
        world: the simulator's.
        checkpoint: a policy of `cola clone`, or "policy", the world's shipped one.
        task: which of its heads acts.
        noise: standard deviation of the temporally correlated noise on its actions.
        rng: source of the noise; not used when `noise` is 0.

    Raises ColaWorldError for a checkpoint that there is not, or of another rendering or task.
    """

    def __init__(
        self,
        script: Policy | None,
        env: SimulatorEnv,
        world: WorldInfo,
        checkpoint: str,
        task: str,
        noise: float,
        rng: np.random.Generator,
    ) -> None:
        self._script, self._env, self._task = script, env, task
        self._pilot = _loaded(checkpoint, world)
        check_same_profile(env.rendering, str(self._pilot.config.rendering), "data and the pilot")
        self._pilot.head(task)
        self._noise = CorrelatedNoise(self._pilot.config.action_dim, noise, rng) if noise else None
        self.intended = np.zeros(self._pilot.config.action_dim, np.float32)

    def act(self) -> NDArray[np.float32]:
        """The pilot's action, float32 (A,) in [-1, 1]."""
        frame = torch.from_numpy(self._env.render())[None]
        action = self._pilot.act(frame, self._task)[0].numpy()
        self.intended = action
        if self._script is not None:
            self._script.act()
            self.intended = self._script.intended
        if self._noise is not None:
            action = action + self._noise()
        return np.clip(action, -1.0, 1.0).astype(np.float32)


@lru_cache(maxsize=2)
def _loaded(checkpoint: str, world: WorldInfo) -> VisualPolicy:
    return load_policy(checkpoint, "cpu", world)
