"""Tables 1 to 4 of the paper: our numbers above its own, of another model size and data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.merge import merge_results
from benchmarks.paper_experiments.study import QUALITY, Study, as_list, last, quality
from benchmarks.paper_experiments.verdicts import (
    INCONCLUSIVE,
    Claim,
    Result,
    Verdict,
    positive,
    spread,
)
from benchmarks.vp2_protocol.comparison import (
    Row,
    method_of,
    paired_differences,
    planners_differ,
)
from benchmarks.vp2_protocol.results import cell, overall, pooled
from cola_env.errors import ColaWorldError

HEAD = ("", "two-stage", "joint")
PAPER_NOTE = "*In italics: the paper's own numbers, of another model size and other data.*"
LOWER_IS_BETTER = ("lpips", "fvd")


def table_1(study: Study) -> Result:
    """Both after 30K steps of the latent action model: LAM30K and WARM8K + E2E22K."""
    two_stage, joint = [], []
    for seed in study.seeds:
        lines = study.lines("two_stage", seed)
        two_stage.append(last(lines, "latent_action_model", "probe_l1")["probe_l1"])
        lines = study.lines("joint", seed)
        joint.append(last(lines, "end_to_end", "probe_l1", study.steps(22))["probe_l1"])
    claims = [
        Claim(
            "The latent actions of joint training have a probing loss at most that of two-stage "
            "after as many steps (two-stage less joint).",
            positive([a - b for a, b in zip(two_stage, joint, strict=True)], "L1"),
        )
    ]
    rows = [["ours", spread(two_stage, 4), spread(joint, 4)]]
    rows += [_italic(name, *values) for name, values in study.config.paper.table_1.items()]
    numbers = {"two_stage": two_stage, "joint": joint}
    title = "Table 1: linear probe, L1 (lower is better)"
    return Result(title, claims, numbers, HEAD, rows, notes=[PAPER_NOTE])


def table_2(study: Study) -> Result:
    pairs = {"own": ("world_model", "end_to_end")}
    rows, claims, numbers = _quality(study, ("two_stage", "joint"), pairs, study.config.data)
    title = "Table 2: predicted video under latent actions"
    rows += _paper_quality(study, "table_2")
    return Result(title, claims, numbers, HEAD, rows, notes=[PAPER_NOTE])


def table_3(study: Study) -> Result:
    runs = ("two_stage_adapted", "joint_adapted")
    pairs = {"own": ("finetune", "finetune"), "adapter": ("finetune", "finetune")}
    rows, claims, numbers = _quality(study, runs, pairs, study.config.downstream)
    title = "Table 3: predicted video after adaptation"
    rows += _paper_quality(study, "table_3")
    return Result(title, claims, numbers, HEAD, rows, notes=[PAPER_NOTE])


ACTIONS = {"own": "GT-LAM", "adapter": "real action"}


def _quality(
    study: Study, runs: tuple[str, str], phases: dict[str, tuple[str, str]], data: Any
) -> tuple[list[list[str]], list[Claim], dict[str, Any]]:
    """Rows, claims and numbers; phases: by kind of action, that of each run to measure."""
    rows, claims, numbers = [], [], {}
    for source, after in phases.items():
        found = [
            [quality(study, run, seed, phase, data)[source] for seed in study.seeds]
            for run, phase in zip(runs, after, strict=True)
        ]
        for key, name in QUALITY.items():
            if key not in found[0][0]:
                continue
            two_stage, joint = ([each[key] for each in seeds] for seeds in found)
            sign = -1 if key in LOWER_IS_BETTER else 1
            gains = [sign * (b - a) for a, b in zip(two_stage, joint, strict=True)]
            unit = "dB" if key == "psnr" else name
            label = f"{name}, {ACTIONS[source]}"
            better = "lower" if sign < 0 else "higher"
            claims.append(Claim(f"{label}: joint training is {better}.", positive(gains, unit)))
            rows.append([f"ours, {label}", spread(two_stage), spread(joint)])
            numbers[label] = {"two_stage": two_stage, "joint": joint}
    return rows, claims, numbers


def _paper_quality(study: Study, table: str) -> list[list[str]]:
    """The paper's rows; those of its measures that we may not have (LPIPS, FVD) are there too."""
    return [
        _italic(
            f"{name}: {' / '.join(QUALITY.values())}",
            *(" / ".join(f"{number:.2f}" for number in of_run) for of_run in values),
        )
        for name, values in study.config.paper[table].items()
    ]


def _italic(*texts: Any) -> list[str]:
    return [f"*{text}*" for text in texts]


def table_4(study: Study) -> Result:
    settings, paper = study.config.vp2, study.config.paper.table_4
    tasks = [str(task) for task in paper if task != "average"]
    listed = (
        planned(study, tasks)
        if settings.results is None
        else [Path(path) for path in as_list(settings.results)]
    )
    labels = {settings.joint: "joint", settings.two_stage: "two_stage"}
    rows = success_rows(listed, labels, tasks)
    trainings = by_training(rows)
    cells = {(row["task"], row["model"]): cell(row) for row in [*pooled(rows), *overall(rows)]}
    shown = [
        [name, *(cells.get((task, model), "") for model in ("two_stage", "joint"))]
        for task, name in {**{task: f"ours, {task}" for task in tasks}, "all": "ours, all"}.items()
    ]
    shown += [_italic(name, *(f"{v} %" for v in values)) for name, values in paper.items()]
    claim = Claim("Planning with the jointly trained model succeeds more often.", more(trainings))
    numbers = {"rows": rows, "paired": trainings}
    title = "Table 4: planning success on RoboDesk"
    return Result(title, [claim], numbers, HEAD, shown, notes=[PAPER_NOTE])


def by_training(rows: Sequence[Row]) -> list[Row]:
    """`paired_differences`, one for each training of the two models that has pairs in common."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for seed in dict.fromkeys(row["seed"] for row in rows):
        group = [row for row in rows if row["seed"] == seed]
        trained = {(row["model"], row.get("settings", {}).get("weights")) for row in group}
        groups.setdefault(tuple(sorted(trained, key=str)), []).extend(group)
    return [found for group in groups.values() for found in paired_differences(group)]


def more(trainings: Sequence[Row]) -> Verdict:
    """Over several trainings as everywhere. One is inconclusive, however many pairs it played."""
    if not trainings:
        return Verdict(INCONCLUSIVE, "The two models played no pair in common.")
    if len(trainings) > 1:
        return positive([100 * found["difference"] for found in trainings], "points")
    (found,) = trainings
    mean, low, high = (100 * found[key] for key in ("difference", "ci_low", "ci_high"))
    return Verdict(
        INCONCLUSIVE,
        f"{mean:+.3g} points of one training of each ({low:+.3g} to {high:+.3g} over its "
        f"{found['pairs']} pairs), which has no interval over trainings.",
    )


def success_rows(paths: Sequence[Path], labels: dict[str, str], tasks: Sequence[str]) -> list[Row]:
    """Rows of the paper's tasks, joint first; ColaWorldError without both models, or for more than
    one planner."""
    rows = [
        {**row, "model": labels[row["model"]]}
        for row in merge_results(paths, trainings=True)
        if row["model"] in labels and row["task"] in tasks
    ]
    for label, name in labels.items():
        if not any(row["model"] == name for row in rows):
            raise ColaWorldError(
                f"The results have no model '{label}' on {', '.join(tasks)}: say what it is called "
                f"there, vp2.{name}=LABEL."
            )
    if planners_differ(map(method_of, rows)):
        raise ColaWorldError(
            "The results are of several planners, and Table 4 compares models under one: give "
            "vp2.results=FILE with the results of one."
        )
    return sorted(rows, key=lambda row: row["model"] != "joint")


def planned(study: Study, tasks: Sequence[str]) -> list[Path]:
    """Folders of benchmarks.vp2, which plans with the adapted models, one a seed."""
    settings, folders = study.config.vp2, []
    for seed in study.seeds:
        out = Path(study.config.out) / "vp2" / str(seed)
        models = [
            f"{label}:{study.model(run, seed, 'finetune')}"
            for run, label in (
                ("joint_adapted", settings.joint),
                ("two_stage_adapted", settings.two_stage),
            )
        ]
        command = [sys.executable, "-m", "benchmarks.vp2", f"model=[{','.join(models)}]"]
        command += [f"tasks=[{','.join(tasks)}]", f"seed={seed}", *settings.set, f"out={out}"]
        if subprocess.run(command).returncode:
            raise ColaWorldError(f"Planning with the models of seed {seed} failed, as told above.")
        folders.append(out)
    return folders
