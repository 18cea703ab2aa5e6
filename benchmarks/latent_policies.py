"""Policies from video and few labelled actions: `cola latent-policies video=... labelled=...`.

A policy learns from the frames of demonstrations alone (`video`), by the latent actions that a
world model infers in them. Few labelled episodes (`labelled`) then give it real actions: a decoder
of what it sees, or all of its weights. Beside it, cloning of the same few from random weights. Each
policy plays the shipped problems in the real simulator. OUT/results.json and
OUT/latent_policies.png have success over the number of labelled episodes. Stopped, the same
command goes on. All settings: benchmarks/conf/latent_policies.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from benchmarks.harness import arm_of, command_line, machine, plain
from benchmarks.twin import make_twin, solved_pairs
from benchmarks.vp2_protocol.methods import choose_tasks
from benchmarks.vp2_protocol.records import RunFolder, fingerprint
from benchmarks.vp2_protocol.results import terminal, wilson
from cola_env.checkpoints import checkpoint_files, find_checkpoint
from cola_env.envs.pair import PairReset
from cola_env.errors import ColaWorldError
from cola_env.files import write_atomically, write_json
from cola_env.goals.loading import goals_files, load_goals
from cola_env.inputs import check_count
from cola_env.models.loading import pick_device
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.worlds import find_world
from cola_train.clone import CloneConfig, clone
from cola_train.command import command
from cola_train.console import GOES_ON, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

STAGE = "late"
STARTS = ("random", "latent")


@dataclass(frozen=True)
class Arm:
    """init: "random" weights, or those of the policy with "latent" actions; learns: "all" of the
    weights, or "heads". Raises ColaWorldError for another start."""

    label: str
    init: str
    learns: str

    def __post_init__(self) -> None:
        if self.init not in STARTS:
            raise ColaWorldError(f"arms.{self.label}.init={self.init} must be random or latent.")


@dataclass(frozen=True)
class Cloned:
    """A policy of the study: of an arm, a number of labelled episodes, and a seed."""

    arm: Arm
    count: int
    seed: int
    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "solved.json"

    def solved(self) -> dict[str, list[bool]]:
        """By task, what has been played."""
        return json.loads(self.record.read_text()) if self.record.is_file() else {}


class Study:
    """Raises ColaWorldError for what is unknown, and a folder of other settings."""

    def __init__(self, config: DictConfig) -> None:
        self.config, self.out = config, Path(config.out)
        self.world = find_world(config.env)
        self.device = pick_device(config.device)
        self.judged = load_goals(world=self.world)
        self.tasks = choose_tasks(plain(config.tasks), self.judged.tasks)
        arms = plain(config.arms)
        self.arms = [arm_of(Arm, str(label), given) for label, given in arms.items() if given]
        for count in plain(config.counts):
            check_count("counts", count)
        self._claim()

    @property
    def policies(self) -> list[Cloned]:
        return [
            Cloned(arm, count, seed, self.out / f"{arm.label} {count} {seed}".replace(" ", "_"))
            for seed in plain(self.config.seeds)
            for count in sorted(plain(self.config.counts))
            for arm in self.arms
        ]

    def learn(self, policy: Cloned) -> VisualPolicy:
        """From the folder where it is finished."""
        init = None if policy.arm.init == "random" else str(self._latent(policy.seed))
        own = {"episodes": policy.count, "init": init, "learns": policy.arm.learns}
        given = plain(self.config.real) | own
        self._clone(policy.folder, policy.seed, self.config.labelled, given)
        return load_policy(policy.folder, self.device, self.world)

    def _latent(self, seed: int) -> Path:
        """The policy with latent actions."""
        folder = self.out / f"latent_{seed}"
        given = plain(self.config.latent) | {"latent": self.config.model}
        self._clone(folder, seed, self.config.video, given)
        return folder

    def _clone(self, folder: Path, seed: int, data: Any, given: Mapping[str, Any]) -> None:
        """Where it is not finished yet."""
        if (folder / STAGE / "config.json").is_file():
            return
        clone(
            CloneConfig(
                data=plain(data),
                out=str(folder),
                tasks=list(self.tasks),
                seed=seed,
                device=str(self.device),
                stages={STAGE: 1.0},
                **given,
            )
        )

    def _claim(self) -> None:
        ignored = ("out", "device", "seeds", "counts", "arms")
        content = {str(k): plain(v) for k, v in self.config.items() if k not in ignored}
        content["goals"] = fingerprint(*goals_files(self.judged.rendering, None, self.world))
        model = find_checkpoint(self.config.model, self.world)
        content["model"] = fingerprint(*checkpoint_files(model))
        RunFolder(self.out).claim(content, {})


def judge(study: Study, policy: Cloned) -> None:
    """Learns, and plays the tasks that it has not played yet."""
    found = policy.solved()
    missing = [task for task in study.tasks if task not in found]
    learned = study.learn(policy) if missing else None
    for task in missing:

        def act(frame: NDArray[np.uint8], task: str = task) -> NDArray[np.float32]:
            assert learned is not None
            return learned.act(torch.from_numpy(frame)[None], task)[0].cpu().numpy()

        rendering, steps = study.judged.rendering, study.config.episode_steps
        with closing(PairReset(make_twin(study.world, task, rendering, steps))) as twin:
            pairs = min(study.config.pairs, len(study.judged.of(task)))
            found[task] = solved_pairs(twin, act, pairs)
        write_json(policy.record, found)


def rows(study: Study) -> list[dict[str, Any]]:
    """Success of every arm and count over tasks and seeds; intervals count problems."""
    found = []
    for arm in study.arms:
        for count in sorted(plain(study.config.counts)):
            own = [p for p in study.policies if (p.arm, p.count) == (arm, count)]
            played = [s for p in own if len(s := p.solved()) == len(study.tasks)]
            if not played:
                continue
            by_task = {
                task: [sum(map(sum, (s[task] for s in played))), sum(len(s[task]) for s in played)]
                for task in study.tasks
            }
            solved, episodes = (sum(pair[i] for pair in by_task.values()) for i in (0, 1))
            problems = episodes // len(played)
            low, high = wilson(solved * problems / episodes, problems)
            found.append(
                {
                    "arm": arm.label,
                    "labelled": count,
                    "seeds": len(played),
                    "solved": solved,
                    "episodes": episodes,
                    "ci_low": low,
                    "ci_high": high,
                    "tasks": by_task,
                }
            )
    return found


def table(study: Study, found: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    drawn = Table("learns from", "labelled", "solved", "95 %", *study.tasks)
    for row in found:
        interval = f"{100 * row['ci_low']:.0f}-{100 * row['ci_high']:.0f} %"
        cells = (f"{solved}/{episodes}" for solved, episodes in row["tasks"].values())
        share = f"{row['solved']}/{row['episodes']}"
        drawn.add_row(row["arm"], str(row["labelled"]), share, interval, *cells)
    return drawn


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Success over the number of labelled episodes, a line an arm, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    labels = list(dict.fromkeys(row["arm"] for row in found))
    for number, label in enumerate(labels):
        own = [row for row in found if row["arm"] == label]
        counts = [row["labelled"] * 1.04**number for row in own]
        rates = [100 * row["solved"] / row["episodes"] for row in own]
        below = [rate - 100 * row["ci_low"] for rate, row in zip(rates, own, strict=True)]
        above = [100 * row["ci_high"] - rate for rate, row in zip(rates, own, strict=True)]
        axis.errorbar(counts, rates, [below, above], marker="o", capsize=3, label=label)
    ticks = sorted({row["labelled"] for row in found})
    axis.set_xscale("log")
    axis.set_xticks(ticks, map(str, ticks), minor=False)
    axis.minorticks_off()
    axis.set(xlabel="labelled episodes", ylabel="solved in the real simulator, %", ylim=(-3, 103))
    axis.grid(alpha=0.3)
    axis.legend(title="learns from")
    write_atomically(path, lambda target: figure.savefig(target, dpi=110, format="png"))
    plt.close(figure)


@command("latent_policies", GOES_ON)
def main(config: DictConfig) -> None:
    torch.set_num_threads(1)
    study = Study(config)
    try:
        for policy in progress_bar(study.policies, "policies", unit="policy"):
            judge(study, policy)
    finally:
        if found := rows(study):
            about = {
                "command": command_line("benchmarks.latent_policies"),
                "machine": machine(study.device),
            }
            write_json(study.out / "results.json", about | {"rows": found})
            draw(found, study.out / "latent_policies.png")
            terminal().print(table(study, found))
            print(f"Results: {study.out / 'results.json'}")


if __name__ == "__main__":
    main()
