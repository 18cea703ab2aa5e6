"""Measures the scripted controllers: `cola controllers --env robodesk --episodes 20`."""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from cola_env.errors import ColaWorldError
from cola_env.simulators.simulator_env import SimulatorEnv
from cola_env.worlds import find_world
from cola_train.console import progress_bar
from cola_train.controllers import Scripts, scripts_of
from cola_train.controllers.policies import Scripted


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
    env: SimulatorEnv, policies: Scripts, seeds: Iterable[int], noise: float, limit: int
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


DESK_EPISODE = 35
"""Actions of an episode where the simulator sets no limit, as the collector's are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="robodesk")
    parser.add_argument("--tasks", nargs="+", help="by default all that there are scripts for")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--action-repeat", type=int, help="control steps of an action")
    parser.add_argument("--limit", type=int, help="actions of an episode")
    args = parser.parse_args()

    world = find_world(args.env)
    policies = scripts_of(world)
    repeat = args.action_repeat or world.action_repeat
    unknown = set(args.tasks or ()) - set(policies.SCRIPTED_TASKS)
    if unknown:
        known = ", ".join(policies.SCRIPTED_TASKS)
        sys.exit(f"error: There is no script for {', '.join(unknown)}; choose some of {known}.")
    for task in args.tasks or policies.SCRIPTED_TASKS:
        try:
            env = world.make(task, rendering=world.rendering, action_repeat=repeat)
        except ColaWorldError as error:
            sys.exit(f"error: {error}")
        seeds = range(args.first_seed, args.first_seed + args.episodes)
        attempts = progress_bar(seeds, task, leave=False)
        limit = args.limit or env.max_episode_steps or DESK_EPISODE
        result = score(env, policies, attempts, args.noise, limit)
        env.close()
        tqdm.write(
            f"{len(result.steps):3}/{result.episodes}  median {result.median_steps:5.1f} actions"
            f"  {task}"
        )


if __name__ == "__main__":
    main()
