"""Makes the planning problems: `cola goals --env robodesk --pairs 30`.

For every task, scripted successes without noise in the real simulator. The pair's goal image is
the frame at success; its initial state is the reset state when the demonstration needs at most
`--longest` steps (the world's `problem_steps`), else the state so many steps before success (VP2's
`start_index`), so that the protocol's 15 steps are enough for a planner as quick as the script.
Where a script picks something up, the problem is to place it, and begins when that is lifted.
With `--begin start` a problem is the whole episode, from the simulator's fixed starting states if
there are some (LIBERO's 50 a task), else from its reset.
Every pair is proven by replaying the script's actions from the stored state. Reset seeds start at
2**31, above those of `cola_train.collect`, so that no goal comes from an episode that a model was
trained on.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalPair, GoalSet, merge
from cola_env.goals.loading import goals_file
from cola_env.processes import deaths_told
from cola_env.simulators.loading import make_simulator
from cola_env.simulators.simulator_env import SimulatorEnv
from cola_env.worlds import ROBODESK, WorldInfo, find_world
from cola_train.console import ending
from cola_train.controllers import scripts_of

FIRST_SEED = 2**31
SCRIPT_STEPS = 60
START = "start"
GIVE_UP = 8
"""Attempts a pair, on average, before a task counts as not solvable by its script."""


def make_pair(
    world: WorldInfo, env: SimulatorEnv, task: str, seed: int, longest: int | None
) -> GoalPair | None:
    """The pair of one scripted episode, or None when the script fails.

    longest: steps that the stored part of the demonstration takes at most; None: all of it, from
        the fixed starting state `seed` (modulo their number) where the simulator has some.
    Raises RuntimeError when replaying the actions from the stored state does not succeed.
    """
    fixed = {"start": seed % env.num_starts} if longest is None and env.num_starts else {}
    env.reset(seed=seed, options=fixed)
    if env.successes()[task]:
        return None
    controller = scripts_of(world).make_controller(task, env, np.random.default_rng(seed))
    states, actions, picked = [], [], []
    for _ in range(SCRIPT_STEPS):
        states.append(env.to_vector(env.snapshot()))
        actions.append(controller.act())
        picked.append(controller.past_pickup)
        if env.advance(actions[-1]):
            break
    else:
        return None
    if longest is None:
        start = 0
    elif True in picked:
        start = max(picked.index(True), len(actions) - longest)
    else:
        return None
    env.restore(env.to_snapshot(states[start]))
    initial_frame = env.render()
    successes = [env.advance(action) for action in actions[start:]]
    if successes != [False] * (len(successes) - 1) + [True]:
        raise RuntimeError(f"{task}, seed {seed}: the replay of a success went another way.")
    return GoalPair(
        task=task,
        initial_state=states[start],
        initial_frame=initial_frame,
        goal_state=env.to_vector(env.snapshot()),
        goal_frame=env.render(),
        expert_actions=np.stack(actions[start:]).astype(np.float32),
        start_index=start,
        seed=seed,
    )


def make_task(
    task: str,
    rendering: str,
    count: int,
    longest: int | None,
    first_seed: int = FIRST_SEED,
    world: WorldInfo = ROBODESK,
) -> GoalSet:
    """The first `count` pairs of one task; ColaWorldError when its script fails too often."""
    env = make_simulator(world, task, action_repeat=world.action_repeat, rendering=rendering)
    pairs: list[GoalPair] = []
    for seed in range(first_seed, first_seed + GIVE_UP * count):
        if len(pairs) == count:
            break
        pair = make_pair(world, env, task, seed, longest)
        if pair is not None:
            pairs.append(pair)
    env.close()
    if len(pairs) < count:
        raise ColaWorldError(
            f"The script of {task} succeeded in only {len(pairs)} of {GIVE_UP * count} episodes; "
            "mend the script or ask for fewer pairs."
        )
    return GoalSet(rendering, world.action_repeat, tuple(pairs), world=world.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default=ROBODESK.name)
    parser.add_argument("--rendering", help="profile; default: that of the world's data")
    parser.add_argument("--tasks", nargs="+", help="default: the world's")
    parser.add_argument("--pairs", type=int, default=30)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--longest", type=int, help="steps a solution may take")
    length.add_argument(
        "--begin",
        choices=("late", START),
        default="late",
        help="late: so late that a solution is short; start: where the episode does",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help="others give pairs to tune on"
    )
    parser.add_argument("--out", type=Path, help="default: the package's own goal file")
    given = parser.parse_args()
    with ending():
        make(given)


def make(given: argparse.Namespace) -> None:
    """The pairs of all tasks, a process each."""
    world = find_world(given.env)
    rendering = given.rendering or world.rendering
    late = given.begin != START
    job = partial(
        make_task,
        rendering=rendering,
        count=given.pairs,
        longest=given.longest or world.problem_steps if late else None,
        first_seed=given.first_seed,
        world=world,
    )
    tasks, context = given.tasks or world.goal_tasks, multiprocessing.get_context("spawn")
    with deaths_told(), ProcessPoolExecutor(given.workers, mp_context=context) as executor:
        goals = merge(track(executor.map(job, tasks), "goals", total=len(tasks)))
    out = given.out or goals_file(world, rendering, None if late else START)
    goals.save(out)
    for task in goals.tasks:
        pairs = goals.of(task)
        steps = np.mean([pair.expert_steps for pair in pairs])
        later = sum(pair.start_index > 0 for pair in pairs)
        print(f"{task:54s} {len(pairs)} pairs, {steps:.1f} steps, {later} start later")
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
