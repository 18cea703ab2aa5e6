"""What `cola dream-rl` trains: agents by where they learn, their task and their seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benchmarks.harness import arm_of, plain
from benchmarks.vp2_protocol.methods import choose_tasks
from benchmarks.vp2_protocol.records import RunFolder, fingerprint
from cola_env.checkpoints import checkpoint_files, find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalSet
from cola_env.goals.loading import goals_files, load_goals
from cola_env.inputs import check_count
from cola_env.models.loading import pick_device
from cola_env.worlds import WorldInfo, find_world


@dataclass(frozen=True)
class Arm:
    """Where an agent learns.

    checkpoint: of the dream; None is the real simulator.
    trust_penalty: of the dream's reward, see cola_env.envs.dream.DreamOptions.
    horizon: steps after which an episode of training is truncated; None is `episode_steps`.

    Raises ColaWorldError for a trust penalty of the real simulator, and no step at all.
    """

    label: str
    checkpoint: str | None
    reward: Any
    trust_penalty: float = 0.0
    horizon: int | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is None and self.trust_penalty:
            raise ColaWorldError(
                f"arms.{self.label}: the real simulator has no trust_penalty, only a dream has one."
            )
        if self.horizon is not None:
            check_count(f"arms.{self.label}.horizon", self.horizon)


@dataclass(frozen=True)
class Training:
    """One agent of an arm; its evaluations are kept in `folder`, its newest state beside them."""

    arm: Arm
    task: str
    seed: int
    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "evaluations.json"

    def evaluations(self) -> list[dict[str, Any]]:
        """What has been found so far, in order: steps, seconds of training, solved, episodes."""
        return json.loads(self.record.read_text()) if self.record.is_file() else []


def results_of(file: Path) -> dict[str, Any]:
    """Of `cola vp2`; ColaWorldError where the file is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        found["rows"][0]["successes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ColaWorldError(f"{file} is no results.json of 'cola vp2'.") from error
    return found


class Study:
    """Raises ColaWorldError for what is unknown or missing, and a folder of other settings."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.world: WorldInfo = find_world(config.env)
        self.device = pick_device(config.device)
        shipped = load_goals(world=self.world)
        self.judged: GoalSet = load_goals(shipped.rendering, config.judged, self.world)
        self.tasks = choose_tasks(plain(config.tasks), self.judged.tasks)
        self.starts = load_goals(self.judged.rendering, config.goals, self.world)
        for task in self.tasks:
            judged = {pair.seed for pair in self.judged.of(task)}
            if judged & {pair.seed for pair in self.starts.of(task)}:
                raise ColaWorldError(
                    f"goals={config.goals} has problems that agents are judged by: make others "
                    "with 'cola goals --first-seed 2147583648 --out FILE'."
                )
        arms = plain(config.arms)
        self.arms = [arm_of(Arm, str(label), given) for label, given in arms.items() if given]
        for name in ("steps", "evaluate_every"):
            check_count(name, config[name])
        self.beside = {
            str(label): (results_of(Path(file)), str(model))
            for label, (file, model) in plain(config.beside).items()
        }
        self.out = Path(config.out)
        self._claim()

    @property
    def trainings(self) -> list[Training]:
        return [
            Training(arm, task, seed, self.out / f"{arm.label}_{task}_{seed}")
            for task in self.tasks
            for seed in plain(self.config.seeds)
            for arm in self.arms
        ]

    @property
    def marks(self) -> list[int]:
        """Steps after which an agent is judged."""
        return [*range(0, self.config.steps, self.config.evaluate_every), self.config.steps]

    def _claim(self) -> None:
        ignored = ("out", "device", "seeds", "tasks", "arms", "steps", "beside")
        content = {str(k): plain(v) for k, v in self.config.items() if k not in ignored}
        for name in ("goals", "judged"):
            files = goals_files(self.judged.rendering, self.config[name], self.world)
            content[name] = fingerprint(*files)
        if (clone := self.config.clone) is not None:
            content["clone"] = fingerprint(*checkpoint_files(find_checkpoint(clone, self.world)))
        RunFolder(self.out).claim(content, {})
