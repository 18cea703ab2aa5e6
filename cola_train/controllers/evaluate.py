"""How often and how fast the scripts solve their tasks in the simulator."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from cola_env.simulators.simulator_env import SimulatorEnv
from cola_train.controllers.scripts import Scripted


@dataclass(frozen=True)
class Score:
    """Actions until success of each solved episode, and how many episodes there were."""

    steps: tuple[int, ...]
    episodes: int

    @property
    def median_steps(self) -> float:
        """NaN without a success."""
        return float(np.median(self.steps)) if self.steps else float("nan")


def steps_to_success(env: SimulatorEnv, controller: Scripted, limit: int) -> int | None:
    """Actions until `env.task` is solved from the present state on; None after `limit` of them."""
    for step in range(1, limit + 1):
        if env.advance(controller.act()):
            return step
    return None


def score(
    env: SimulatorEnv, policies: ModuleType, seeds: Iterable[int], noise: float, limit: int
) -> Score:
    """Runs an episode of `env.task` a seed; no frame is drawn after the reset.

    Args:
        policies: the package of the world's controllers.
        noise: standard deviation of the noise on the actions.
        limit: actions of an episode.
    """
    found = []
    for seed in seeds:
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        controller = policies.make_controller(env.task, env, rng, noise)
        found.append(steps_to_success(env, controller, limit))
    return Score(tuple(steps for steps in found if steps is not None), len(found))
