"""Measures the scripts: `python -m cola_train.controllers --episodes 20`."""

import argparse

from tqdm import tqdm

from cola_train.controllers.evaluate import score
from cola_train.controllers.tasks import SCRIPTED_TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=SCRIPTED_TASKS, choices=SCRIPTED_TASKS)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--max-steps", type=int, default=35)
    args = parser.parse_args()

    tqdm.write(f"{'task':26} success  <= 12  <= 15  median steps")
    for task in args.tasks:
        seeds = range(args.first_seed, args.first_seed + args.episodes)
        result = score(task, tqdm(seeds, desc=task, leave=False), args.noise, args.max_steps)
        tqdm.write(
            f"{task:26} {result.success_rate:7.0%} {result.within(12):6.0%} "
            f"{result.within(15):6.0%}  {result.median_steps:12.1f}"
        )


if __name__ == "__main__":
    main()
