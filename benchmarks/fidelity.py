"""Does a model rank plans as the world does? `python -m benchmarks.fidelity [key=value ...]`.

Candidate plans from moments of the scripted solutions are tried out in the real simulator (kept in
OUT/problems and used again), then imagined by every model and scored by the planner's reward. The
table says how well imagined scores rank the candidates (Spearman), what the model's choice loses
(regret), how well imagined scores foresee success, and the PSNR of the first and last imagined
frame, beside what the same reward makes of the real frames. Writes OUT/fidelity.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from benchmarks.vp2_protocol.contestants import Models
    from benchmarks.vp2_protocol.fidelity import Problem
    from cola_env.goals import GoalSet
    from cola_env.rewards import Reward

COLUMNS = ("rank", "regret", "auc", "auc_real", "chosen", "chosen_real", "psnr_1", "psnr_last")


def collect(config: DictConfig, goals: GoalSet, tasks: list[str]) -> list[Problem]:
    """The simulator's side of every problem, from OUT/problems where it is there already."""
    import numpy as np
    from tqdm import tqdm

    from benchmarks.vp2_protocol.fidelity import Problem, pose
    from benchmarks.vp2_protocol.settings import fingerprint
    from benchmarks.vp2_protocol.simulation import SimulatorPool
    from cola_env.goals import goals_files
    from cola_env.worlds import find_world

    names = [
        (task, pair) for task in tasks for pair in range(min(config.pairs, len(goals.of(task))))
    ]
    of_goals = fingerprint(*goals_files(goals.rendering, config.goals, find_world(goals.world)))
    key = f"{config.candidates}x{config.horizon}_seed{config.seed}_{of_goals}"
    folder = Path(config.out) / "problems" / key
    paths = {name: folder / f"{name[0]}_{name[1]:03d}.npz" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if missing:
        workers = config.workers or min(16, os.cpu_count() or 1)
        profile = goals.rendering, goals.action_repeat
        with SimulatorPool(workers, *profile, world=goals.world) as pool:
            for task, pair in tqdm(missing, desc="simulator", dynamic_ncols=True):
                rng = np.random.default_rng([config.seed, pair])
                problem = pose(goals.of(task)[pair], pool, config.candidates, config.horizon, rng)
                problem.save(paths[task, pair])
    return [Problem.load(path) for path in paths.values()]


def measure(config: DictConfig) -> list[dict[str, Any]]:
    """A row a model and task, and one a model over all tasks.

    Raises ColaWorldError for what is no checkpoint, and for models, goals and classifiers that are
    not of one rendering profile.
    """
    from tqdm import tqdm

    from benchmarks.vp2_protocol.contestants import Models, plain
    from benchmarks.vp2_protocol.dynamics import WorldModelDynamics
    from benchmarks.vp2_protocol.fidelity import foresee, summary
    from benchmarks.vp2_protocol.settings import choose_tasks, names
    from cola_env.checkpoints import pick_device
    from cola_env.errors import ColaWorldError
    from cola_env.goals import load_goals
    from cola_env.worlds import find_world

    specs, world = names(plain(config.model)), find_world(config.env)
    models = Models(world, specs, pick_device(config.device))
    for label, name in specs.items():
        if not isinstance(name, str) or name not in models.loaded:
            raise ColaWorldError(f"model={label} must be a checkpoint here.")
    goals = load_goals(models.rendering(None), config.goals, world)
    tasks = choose_tasks(plain(config.tasks), goals.tasks)
    rewards = {name: make_rewards(config, goals, tasks, models, name) for name in models.loaded}
    problems = collect(config, goals, tasks)
    rows: list[dict[str, Any]] = []
    for label, name in specs.items():
        model = models.loaded[str(name)]
        dynamics = WorldModelDynamics(model, num_inference_steps=config.num_inference_steps)
        found = [
            foresee(problem, dynamics, rewards[str(name)][problem.task], config.seed)
            for problem in tqdm(problems, desc=label, dynamic_ncols=True)
        ]
        rows += [
            {"model": label, "task": task, **summary([f for f in found if f.task == task])}
            for task in tasks
        ]
        rows.append({"model": label, "task": "all", **summary(found)})
    return rows


def make_rewards(
    config: DictConfig, goals: GoalSet, tasks: list[str], models: Models, name: str
) -> dict[str, Reward]:
    """By task, what the frames that a model imagines are worth."""
    from benchmarks.vp2_protocol.contestants import plain
    from benchmarks.vp2_protocol.judges import classifier_places, load_judge
    from cola_env.ensembles import Combination
    from cola_env.rewards import is_judged, make_reward

    reward, judge = plain(config.reward), None
    if is_judged(reward):
        places = classifier_places(plain(config.classifier), models.folders[name], models.world)
        judge = load_judge(places, Combination(), goals.rendering).to(models.loaded[name].device)
    return {task: make_reward(reward, task, judge) for task in tasks}


def report(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "task", "problems", *COLUMNS, title="Fidelity of planning scores")
    for row in rows:
        numbers = (f"{row[key]:.2f}" for key in COLUMNS)
        table.add_row(row["model"], row["task"], str(row["problems"]), *numbers)
    Console().print(table)


@hydra.main(version_base=None, config_path="conf", config_name="fidelity")
def main(config: DictConfig) -> None:
    import torch

    from benchmarks.vp2_protocol.records import write_text
    from cola_env.errors import ColaWorldError

    torch.set_num_threads(1)
    try:
        rows = measure(config)
        command = " ".join(["python -m benchmarks.fidelity", *sys.argv[1:]])
        out = Path(config.out) / "fidelity.json"
        write_text(out, json.dumps({"command": command, "rows": rows}, indent=1) + "\n")
        report(rows)
        print(f"Results: {out}")
    except ColaWorldError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
