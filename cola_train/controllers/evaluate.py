"""How often and how fast the scripts solve their tasks in the simulator."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cola_env.simulators.robodesk import RoboDeskEnv
from cola_train.controllers.tasks import make_controller


@dataclass(frozen=True)
class Score:
    """Steps until success of each solved episode, and how many episodes there were."""

    steps: tuple[int, ...]
    episodes: int

    @property
    def success_rate(self) -> float:
        return len(self.steps) / self.episodes

    @property
    def median_steps(self) -> float:
        """NaN without a success."""
        return float(np.median(self.steps)) if self.steps else float("nan")

    def within(self, steps: int) -> float:
        """The rate of success within so many steps."""
        return sum(count <= steps for count in self.steps) / self.episodes


def steps_to_success(env: RoboDeskEnv, seed: int, noise: float, max_steps: int) -> int | None:
    """Runs one episode of `env.task` from `reset(seed=seed)`; None when it was not solved."""
    env.reset(seed=seed)
    controller = make_controller(env.task, env, np.random.default_rng(seed), noise)
    for step in range(1, max_steps + 1):
        if env.advance(controller.act()):
            return step
    return None


def score(task: str, seeds: Sequence[int], noise: float = 0.0, max_steps: int = 35) -> Score:
    """Runs an episode a seed; no frame is drawn after the reset."""
    env = RoboDeskEnv(task, rendering="fast")
    found = [steps_to_success(env, seed, noise, max_steps) for seed in seeds]
    env.close()
    return Score(tuple(steps for steps in found if steps is not None), len(seeds))
