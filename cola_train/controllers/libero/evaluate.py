"""How often and how fast the scripts solve their tasks in the real LIBERO."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cola_env.simulators.libero import LiberoEnv
from cola_env.simulators.libero_tasks import find_task
from cola_train.controllers.evaluate import Score
from cola_train.controllers.libero.tasks import make_controller


def steps_to_success(env: LiberoEnv, seed: int, noise: float) -> int | None:
    """Runs one episode of `env.task` from `reset(seed=seed)`; None when it was not solved.

    Returns the control steps until success, in whole actions.
    """
    env.reset(seed=seed)
    controller = make_controller(env.task, env, np.random.default_rng(seed), noise)
    repeat = env.action_repeat
    for step in range(repeat, find_task(env.task).horizon + repeat, repeat):
        if env.advance(controller.act()):
            return step
        if controller.finished:
            return None
    return None


def score(
    task: str,
    seeds: Sequence[int],
    noise: float = 0.0,
    action_repeat: int = 1,
    assets: str | Path | None = None,
) -> Score:
    """Runs an episode a seed, within the suite's limit of control steps."""
    env = LiberoEnv(task, action_repeat=action_repeat, rendering="fast", assets=assets)
    found = [steps_to_success(env, seed, noise) for seed in seeds]
    env.close()
    return Score(tuple(steps for steps in found if steps is not None), len(seeds))
