"""When does a dream end in success? python -m benchmarks.dream_success [env=libero] [model=cola]

From the start of every shipped problem the model imagines two futures: a hand that stands still (a
gripper that holds a thing stays closed), which solves nothing, and the script's own solution. For
each threshold on the classifier's probability: the share of either that the dream would end as a
success. out= keeps the results as JSON. `threshold` of the classifiers' config was chosen by it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.arguments import read_arguments
from benchmarks.report import report
from cola_env.checkpoints import load_model
from cola_env.goals import GoalPair, load_goals
from cola_env.models.world_model import ColaWorldModel
from cola_env.rewards import ClassifierReward
from cola_env.worlds import LIBERO, find_world
from cola_train.ending import ending
from cola_train.progress import progress_bar

THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.97, 0.99)
STILL_STEPS = 6


@dataclass(frozen=True)
class Settings:
    env: str = "robodesk"
    model: str = "cola"
    out: str | None = None


def still(action_dim: int, env: str) -> NDArray[np.float32]:
    """Zero actions (STILL_STEPS, A), with LIBERO's gripper closed."""
    actions = np.zeros((STILL_STEPS, action_dim), np.float32)
    if env == LIBERO.name:
        actions[:, -1] = 1.0
    return actions


@torch.no_grad()
def most_likely(
    model: ColaWorldModel,
    judge: ClassifierReward,
    pair: GoalPair,
    actions: NDArray[np.float32],
) -> float:
    """The highest probability of success of any frame imagined under actions (H, A)."""
    start = model.begin(torch.tensor(pair.initial_frame)[None, None])
    plan: Tensor = torch.tensor(actions)[None, None]
    return float(judge.success_probability(model.rollout(start, plan, seed=pair.seed)).max())


def measure(settings: Settings) -> dict[str, Any]:
    """{task: {"still" or "script": {threshold: share of its problems}}}."""
    world = find_world(settings.env)
    model = load_model(settings.model, "cpu", world=world)
    goals = load_goals(str(model.config.rendering), world=world)
    found: dict[str, Any] = {}
    for task in progress_bar(goals.tasks, "tasks"):
        judge = ClassifierReward(task)
        seen: dict[str, list[float]] = {"still": [], "script": []}
        for pair in goals.of(task):
            seen["still"].append(
                most_likely(model, judge, pair, still(world.action_dim, world.name))
            )
            seen["script"].append(most_likely(model, judge, pair, pair.expert_actions))
        found[task] = {
            kind: {str(t): float(np.mean(np.array(values) > t)) for t in THRESHOLDS}
            for kind, values in seen.items()
        }
    return found


def overall(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The mean over the tasks."""
    return {
        kind: {
            str(t): round(float(np.mean([task[kind][str(t)] for task in found.values()])), 4)
            for t in THRESHOLDS
        }
        for kind in ("still", "script")
    }


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    with ending():
        settings = read_arguments(Settings, arguments, __doc__)
        found = measure(settings)
        command = " ".join(["python -m benchmarks.dream_success", *arguments])
        report({"command": command, "all": overall(found), "tasks": found}, settings.out)


if __name__ == "__main__":
    main(sys.argv[1:])
