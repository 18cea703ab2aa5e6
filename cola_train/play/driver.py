"""A planner at the controls, and what it had in mind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from cola_env.envs.dream_env import ColaWorldEnv
from planners import CEM, MPC, AR1Noise


@dataclass(frozen=True)
class DriverConfig:
    """Of CEM; `replan_every` actions of each plan are executed, `ghosts` of its best candidates
    are shown."""

    num_samples: int = 48
    iterations: int = 2
    horizon: int = 6
    replan_every: int = 3
    ghosts: int = 4


@dataclass(frozen=True)
class Ghosts:
    """The best candidates of a plan, best first: frames uint8 (K, H, S, S, 3), rewards (K,)."""

    frames: NDArray[np.uint8]
    rewards: NDArray[np.float32]


class Driver:
    """Plans in the dream towards its goal image, from where the dream is."""

    def __init__(self, config: DriverConfig) -> None:
        self.config = config
        planner = CEM(
            horizon=config.horizon,
            num_samples=config.num_samples,
            iterations=config.iterations,
            std=1.0,
            noise=AR1Noise(0.8),
            elite_fraction=min(1.0, config.ghosts / config.num_samples),
        )
        self._agent = MPC(planner, replan_every=config.replan_every)
        self.start(0)

    def start(self, seed: int) -> None:
        """Forgets the last plan."""
        self._agent.reset(seed=seed)
        self._acted = 0

    @property
    def plans_next(self) -> bool:
        """Whether the next action takes a new plan."""
        return self._acted % self.config.replan_every == 0

    def act(self, env: ColaWorldEnv) -> tuple[NDArray[np.float32], Ghosts | None]:
        """The next action (A,), and after a new plan its best candidates."""

        def cost(plans: Tensor) -> Tensor:
            return -env.rollout(plans[0]).rewards.mean(-1)[None]

        assert isinstance(env.action_space, Box)
        planned = self.plans_next
        action = self._agent.act(cost, env.action_space)[0].numpy()
        self._acted += 1
        return action, self._ghosts(env) if planned else None

    def _ghosts(self, env: ColaWorldEnv) -> Ghosts | None:
        plan = self._agent.plan
        if plan is None or plan.elites is None:
            return None
        imagined = env.rollout(plan.elites[0, : self.config.ghosts])
        return Ghosts(imagined.frames.cpu().numpy(), imagined.rewards.mean(-1).cpu().numpy())
