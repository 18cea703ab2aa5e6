"""Plans made in a world model: the data that shows what search finds, and what it exploits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cola_env.envs.starts import behind
from cola_env.goals.loading import load_goals
from cola_env.worlds import WorldInfo
from planners import CEM, MPC

if TYPE_CHECKING:
    from cola_env.simulators.simulator_env import SimulatorEnv


class Planned:
    """Plans towards the goal image of a random problem of a random task.

    The problem's initial state is not the simulator's, so the goal need not be within reach; what
    matters for training is that search chose the actions in the model's imagination.

    Args:
        env: the simulator, whose frames are all that the planner sees.
        world: the simulator's, whose tasks and goals are drawn from.
        checkpoint: a shipped name, folder or hub id.
        rng: source of all randomness.
        tasks: that one is drawn from; None: all that have goals.
        goals: a file of `cola goals`; None: the shipped one.

    Raises ColaWorldError for a checkpoint or goals that there are not, or of another rendering.
    """

    def __init__(
        self,
        env: SimulatorEnv,
        world: WorldInfo,
        checkpoint: str,
        rng: np.random.Generator,
        tasks: tuple[str, ...] | None = None,
        goals: str | None = None,
    ) -> None:
        self._env, self._rng = env, rng
        problems = load_goals(world.rendering, goals, world)
        task = str(rng.choice(tasks or problems.tasks))
        dream_id = f"ColaWorld-{world.simulator}-v0"
        self._dream: Any = gymnasium.make(dream_id, task=task, checkpoint=checkpoint).unwrapped
        pairs = problems.of(task)
        self._goal = pairs[int(rng.integers(len(pairs)))].goal_frame
        samples = int(rng.choice((16, 32)))
        self._agent = MPC(CEM(horizon=6, num_samples=samples, iterations=2), replan_every=4)
        self._agent.reset(seed=self._draw_seed())
        self._frames: list[NDArray[np.uint8]] = []
        self._actions: list[NDArray[np.float32]] = []
        self._begun = -1

    def act(self) -> NDArray[np.float32]:
        """The next action: float32 (A,) in [-1, 1]."""
        self._frames.append(self._env.render())
        action: NDArray[np.float32]
        action = self._agent.act(self._cost, self._dream.action_space)[0].numpy()
        self._actions.append(action)
        self.intended = action
        return action

    def _cost(self, plans: Tensor) -> Tensor:
        """plans (1, N, H, A) from the present frame -> (1, N)."""
        if self._begun < len(self._actions):
            self._begun = len(self._actions)
            options = behind(self._frames, self._actions, self._goal)
            self._dream.reset(seed=self._draw_seed(), options=options)
        return -self._dream.rollout(plans[0]).rewards.mean(-1)[None]

    def _draw_seed(self) -> int:
        return int(self._rng.integers(2**31))
