"""Make the planning problems: `python -m benchmarks.make_goals --rendering fast`.

For every task, 30 scripted successes without noise in the real RoboDesk. The pair's goal image is
the frame at success; its initial state is the reset state when the demonstration needs at most 12
steps, else the state 12 steps before success (VP2's `start_index`), so that the protocol's 15
steps are enough for a planner as quick as the script. Every pair is proven by replaying the
script's actions from the stored state. Reset seeds start at 2**31, above those of
`cola_train.collect`, so that no goal comes from an episode that a model was trained on.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from cola_env.errors import ColaWorldError
from cola_env.goals import GOALS_FOLDER, GoalPair, GoalSet, merge

if TYPE_CHECKING:
    from cola_env.simulators.robodesk import RoboDeskEnv

FIRST_SEED = 2**31
ACTION_REPEAT = 50
SCRIPT_STEPS = 60
GIVE_UP = 8
"""Attempts a pair, on average, before a task counts as not solvable by its script."""


def make_pair(env: "RoboDeskEnv", task: str, seed: int, longest: int) -> GoalPair | None:
    """The pair of one scripted episode, or None when the script fails.

    longest: steps that the stored part of the demonstration takes at most.
    Raises RuntimeError when replaying the actions from the stored state does not succeed.
    """
    from cola_env.simulators.robodesk import state_to_vector, vector_to_state
    from cola_train.controllers import make_controller

    env.reset(seed=seed)
    if env.successes()[task]:
        return None
    controller = make_controller(task, env, np.random.default_rng(seed))
    states, actions = [], []
    for _ in range(SCRIPT_STEPS):
        states.append(state_to_vector(env.snapshot()))
        actions.append(controller.act())
        if env.advance(actions[-1]):
            break
    else:
        return None

    start = max(0, len(actions) - longest)
    env.restore(vector_to_state(states[start]))
    initial_frame = env.render()
    successes = [env.advance(action) for action in actions[start:]]
    if successes != [False] * (len(successes) - 1) + [True]:
        raise RuntimeError(f"{task}, seed {seed}: the replay of a success went another way.")
    return GoalPair(
        task=task,
        initial_state=states[start],
        initial_frame=initial_frame,
        goal_state=state_to_vector(env.snapshot()),
        goal_frame=env.render(),
        expert_actions=np.stack(actions[start:]).astype(np.float32),
        start_index=start,
        seed=seed,
    )


def make_task(
    task: str, rendering: str, count: int, longest: int, first_seed: int = FIRST_SEED
) -> GoalSet:
    """The first `count` pairs of one task; ColaWorldError when its script fails too often."""
    from cola_env.simulators.robodesk import RoboDeskEnv

    env = RoboDeskEnv(task, action_repeat=ACTION_REPEAT, rendering=rendering)
    pairs: list[GoalPair] = []
    for seed in range(first_seed, first_seed + GIVE_UP * count):
        if len(pairs) == count:
            break
        pair = make_pair(env, task, seed, longest)
        if pair is not None:
            pairs.append(pair)
    env.close()
    if len(pairs) < count:
        raise ColaWorldError(
            f"The script of {task} succeeded in only {len(pairs)} of {GIVE_UP * count} episodes; "
            "mend the script or ask for fewer pairs."
        )
    return GoalSet(rendering, ACTION_REPEAT, tuple(pairs))


def make_goals(
    tasks: Sequence[str],
    rendering: str,
    count: int,
    longest: int,
    workers: int,
    first_seed: int = FIRST_SEED,
) -> GoalSet:
    """The pairs of several tasks, a process each."""
    job = partial(
        make_task, rendering=rendering, count=count, longest=longest, first_seed=first_seed
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        parts = track(executor.map(job, tasks), "goals", total=len(tasks))
        return merge(list(parts))


def main() -> None:
    from cola_env.simulators.robodesk import VP2_TASKS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rendering", default="fast", choices=("fast", "vp2"))
    parser.add_argument("--tasks", nargs="+", default=list(VP2_TASKS))
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--longest", type=int, default=12, help="steps a solution may take")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help="others give pairs to tune on"
    )
    parser.add_argument("--out", type=Path, help="default: the package's own goal file")
    given = parser.parse_args()
    goals = make_goals(
        given.tasks,
        given.rendering,
        given.pairs,
        given.longest,
        given.workers,
        given.first_seed,
    )
    out = given.out or GOALS_FOLDER / f"{given.rendering}.npz"
    goals.save(out)
    for task in goals.tasks:
        pairs = goals.of(task)
        steps = np.mean([pair.expert_steps for pair in pairs])
        later = sum(pair.start_index > 0 for pair in pairs)
        print(f"{task:26s} {len(pairs)} pairs, {steps:.1f} steps, {later} start later")
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
