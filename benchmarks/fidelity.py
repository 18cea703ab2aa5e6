"""Does a model rank plans as the world does? `python -m benchmarks.fidelity [key=value ...]`.

Candidate plans from moments of the scripted solutions are tried out in the real simulator (kept in
OUT/problems and used again), then imagined by every model and scored by the planner's reward. The
table says how well imagined scores rank the candidates (Spearman), what the model's choice loses
(regret) and by how much it is overrated, how well imagined scores and probabilities foresee
success, and the PSNR of the first and last imagined frame, beside what the same reward makes of the
real frames. Writes OUT/fidelity.json, a picture, and a page with every model's worst choices.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cola_train.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from benchmarks.fidelity_measures import CandidatePlans, PlanScores
    from benchmarks.vp2_protocol.methods import Checkpoints
    from cola_env.goals.goal_set import GoalSet
    from cola_env.scoring.classifier import TaskClassifier


def collect(config: DictConfig, goals: GoalSet, tasks: list[str]) -> list[CandidatePlans]:
    """The simulator's side of every problem, from OUT/problems where it is there already."""
    import numpy as np

    from benchmarks.fidelity_measures import CandidatePlans, try_plans
    from benchmarks.vp2_protocol.records import fingerprint, plain
    from cola_env.goals.loading import goals_files
    from cola_env.simulators.pool import SimulatorPool
    from cola_env.worlds import find_world
    from cola_train.console import progress_bar

    names = [
        (task, pair) for task in tasks for pair in range(min(config.pairs, len(goals.of(task))))
    ]
    of_goals = fingerprint(*goals_files(goals.rendering, config.goals, find_world(goals.world)))
    std = plain(config.planner.std)
    spread = "-".join(f"{each:g}" for each in np.atleast_1d(std))
    key = f"{config.candidates}x{config.horizon}_std{spread}_seed{config.seed}_{of_goals}"
    folder = Path(config.out) / "problems" / key
    paths = {name: folder / f"{name[0]}_{name[1]:03d}.npz" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if missing:
        workers = config.workers or min(16, os.cpu_count() or 1)
        profile = goals.rendering, goals.action_repeat
        with SimulatorPool(workers, *profile, world=goals.world) as pool:
            for task, pair in progress_bar(missing, "simulator"):
                rng = np.random.default_rng([config.seed, pair])
                problem = try_plans(
                    goals.of(task)[pair], pool, config.candidates, config.horizon, rng, std
                )
                problem.save(paths[task, pair])
    return [CandidatePlans.load(path) for path in paths.values()]


def measure(config: DictConfig) -> tuple[list[CandidatePlans], dict[str, list[PlanScores]]]:
    """The problems, and every model's scores of them.

    Raises ColaWorldError for what is no checkpoint, and for models, goals and classifiers that are
    not of one rendering profile.
    """
    from benchmarks.fidelity_measures import score_plans
    from benchmarks.vp2_protocol.agents import check_spread
    from benchmarks.vp2_protocol.dynamics import WorldModelDynamics
    from benchmarks.vp2_protocol.methods import Checkpoints
    from benchmarks.vp2_protocol.records import choose_tasks, names, plain
    from cola_env.errors import ColaWorldError
    from cola_env.goals.loading import load_goals
    from cola_env.models.loading import pick_device
    from cola_env.scoring.rewards import ClassifierReward, make_reward
    from cola_env.worlds import find_world
    from cola_train.console import progress_bar

    specs, world = names(plain(config.model)), find_world(config.env)
    check_spread("planner.std", plain(config.planner.std), world.action_dim)
    if not 0 <= config.final_weight <= 1:
        raise ColaWorldError(f"final_weight must be in [0, 1], not {config.final_weight}.")
    models = Checkpoints(world, specs, pick_device(config.device))
    for label, name in specs.items():
        if not isinstance(name, str) or name not in models.loaded:
            raise ColaWorldError(f"model={label} must be a checkpoint here.")
    goals = load_goals(models.rendering(None), config.goals, world)
    tasks = choose_tasks(plain(config.tasks), goals.tasks)
    reward = plain(config.reward)
    given = plain(config.classifier)
    judges = {name: find_judge(config, goals, models, name, given) for name in models.loaded}
    witnesses = {  # a value function tells how near success is, not how likely a frame shows it
        name: find_judge(config, goals, models, name, None) if judge and judge.discount else judge
        for name, judge in judges.items()
    }
    rewards = {
        (name, task): make_reward(reward, task, judge)
        for name, judge in judges.items()
        for task in tasks
    }
    problems = collect(config, goals, tasks)
    found: dict[str, list[PlanScores]] = {}
    for label, name in ((label, str(name)) for label, name in specs.items()):
        dynamics = WorldModelDynamics(
            models.loaded[name], num_inference_steps=config.num_inference_steps
        )
        witness = witnesses[name]
        found[label] = [
            score_plans(
                problem,
                dynamics,
                rewards[name, problem.task],
                config.seed,
                None if witness is None else ClassifierReward(problem.task, witness),
                config.final_weight,
            )
            for problem in progress_bar(problems, label)
        ]
    return problems, found


def find_judge(
    config: DictConfig, goals: GoalSet, models: Checkpoints, name: str, given: Any
) -> TaskClassifier | None:
    """The classifier that scores what a model imagines; None for a reward that asks none."""
    from benchmarks.vp2_protocol.methods import classifier_places, load_classifiers
    from benchmarks.vp2_protocol.records import plain
    from cola_env.scoring.ensembles import Combination
    from cola_env.scoring.rewards import is_judged

    if not is_judged(plain(config.reward)):
        return None
    places = classifier_places(given, models.folders[name], models.world)
    return load_classifiers(places, Combination(), goals.rendering).to(models.loaded[name].device)


def make_rows(found: dict[str, list[PlanScores]]) -> list[dict[str, Any]]:
    """A row a model and task, and one a model over all tasks."""
    from benchmarks.fidelity_measures import summary

    rows: list[dict[str, Any]] = []
    for label, scored in found.items():
        for task in dict.fromkeys(f.task for f in scored):
            of_task = [f for f in scored if f.task == task]
            rows.append({"model": label, "task": task, **summary(of_task)})
        rows.append({"model": label, "task": "all", **summary(scored)})
    return rows


@command("fidelity")
def main(config: DictConfig) -> None:
    import torch

    from benchmarks.fidelity_report import draw, table, write_page
    from benchmarks.harness import command_line
    from benchmarks.vp2_protocol.results import terminal
    from cola_env.files import write_text

    torch.set_num_threads(1)
    problems, found = measure(config)
    rows, out = make_rows(found), Path(config.out)
    report = {"command": command_line("benchmarks.fidelity"), "rows": rows}
    write_text(out / "fidelity.json", json.dumps(report, indent=1) + "\n")
    draw(found, out / "fidelity.png")
    page = write_page(out, rows, problems, found)
    terminal().print(table(rows))
    print(f"Results: {out / 'fidelity.json'}\nPage:    {page.resolve().as_uri()}")


if __name__ == "__main__":
    main()
