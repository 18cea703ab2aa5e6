"""Measures the scripted controllers: `cola controllers --env robodesk --episodes 20`."""

import argparse
import sys
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from cola_env.errors import ColaWorldError
from cola_env.simulators.loading import make_simulator
from cola_env.simulators.simulator_env import SimulatorEnv
from cola_env.worlds import find_world
from cola_train.console import progress_bar
from cola_train.controllers import Scripts, scripts_of


def score(
    env: SimulatorEnv, policies: Scripts, seeds: Iterable[int], noise: float, limit: int
) -> list[int | None]:
    """Actions until `env.task` is solved in an episode a seed, None where `limit` are too few; no
    frame is drawn after the reset.

    Args:
        policies: the package of the world's controllers.
        noise: standard deviation of the noise on the actions.
    """
    found = []
    for seed in seeds:
        env.reset(seed=seed)
        controller = policies.make_controller(env.task, env, np.random.default_rng(seed), noise)
        solved = (step for step in range(1, limit + 1) if env.advance(controller.act()))
        found.append(next(solved, None))
    return found


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
            env = make_simulator(world, task, rendering=world.rendering, action_repeat=repeat)
        except ColaWorldError as error:
            sys.exit(f"error: {error}")
        seeds = range(args.first_seed, args.first_seed + args.episodes)
        attempts = progress_bar(seeds, task, leave=False)
        limit = args.limit or env.max_episode_steps or DESK_EPISODE
        found = score(env, policies, attempts, args.noise, limit)
        env.close()
        steps = [each for each in found if each is not None]
        median = float(np.median(steps)) if steps else float("nan")
        tqdm.write(f"{len(steps):3}/{len(found)}  median {median:5.1f} actions  {task}")


if __name__ == "__main__":
    main()
