"""Measures the scripts: `python -m cola_train.controllers.libero --episodes 20`."""

import argparse

from tqdm import tqdm

from cola_train.controllers.libero.evaluate import score
from cola_train.controllers.libero.tasks import SCRIPTED_TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=SCRIPTED_TASKS, choices=SCRIPTED_TASKS)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--action-repeat", type=int, default=1)
    args = parser.parse_args()

    for task in args.tasks:
        seeds = range(args.first_seed, args.first_seed + args.episodes)
        result = score(task, tqdm(seeds, desc=task, leave=False), args.noise, args.action_repeat)
        tqdm.write(
            f"{len(result.steps):3}/{result.episodes} "
            f"(median {result.median_steps:5.1f} control steps)  {task}"
        )


if __name__ == "__main__":
    main()
