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
    above_zero,
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
from benchmarks.vp2_protocol.trainings import by_training, over_trainings
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


ARMS = {
    "two_stage": "two-stage",
    "joint": "joint training",
    "short_lam": "LAM8K + WM52K",
    "short_joint": "WARM8K + E2E30K",
}
"""What claims call them."""
BUDGET = [("joint", "two_stage")]
"""Who is compared after 60K steps of both."""


def table_2(study: Study) -> Result:
    arms = {
        "two_stage": ("two_stage", "world_model"),
        "short_lam": ("short_lam", "world_model"),
        "joint": ("joint", "end_to_end"),
        "short_joint": ("short_joint", "end_to_end"),
    }
    rivals = [*BUDGET, ("joint", "short_lam"), ("short_joint", "short_lam")]
    rows, claims, numbers = _quality(study, arms, rivals, ["own"], study.config.data)
    title = "Table 2: predicted video under latent actions"
    head = ("", "LAM30K + WM30K", "LAM8K + WM52K", "WARM8K + E2E52K", "WARM8K + E2E30K")
    rows += _paper_quality(study, "table_2")
    return Result(title, claims, numbers, head, rows, notes=[PAPER_NOTE])


def table_3(study: Study) -> Result:
    arms = {arm: (f"{arm}_adapted", "finetune") for arm in ("two_stage", "joint")}
    data = study.config.downstream
    rows, claims, numbers = _quality(study, arms, BUDGET, ["own", "adapter"], data)
    title = "Table 3: predicted video after adaptation"
    rows += _paper_quality(study, "table_3")
    return Result(title, claims, numbers, HEAD, rows, notes=[PAPER_NOTE])


ACTIONS = {"own": "GT-LAM", "adapter": "real action"}


def _quality(
    study: Study,
    arms: dict[str, tuple[str, str]],
    rivals: Sequence[tuple[str, str]],
    sources: Sequence[str],
    data: Any,
) -> tuple[list[list[str]], list[Claim], dict[str, Any]]:
    """Rows, claims and numbers.

    arms: the run and the phase after which each is measured; rivals: the first of two is claimed to
    be better; sources: kinds of actions.
    """
    measured = {
        arm: [quality(study, run, seed, phase, data) for seed in study.seeds]
        for arm, (run, phase) in arms.items()
    }
    rows, claims, numbers = [], [], {}
    for source in sources:
        for key, name in QUALITY.items():
            if any(key not in each[source] for seeds in measured.values() for each in seeds):
                continue
            label = f"{name}, {ACTIONS[source]}"
            found = {arm: [each[source][key] for each in seeds] for arm, seeds in measured.items()}
            claims += [_better(found, rival, key, label) for rival in rivals]
            rows.append([f"ours, {label}", *map(spread, found.values())])
            numbers[label] = found
    return rows, claims, numbers


def _better(found: dict[str, list[float]], rivals: tuple[str, str], key: str, label: str) -> Claim:
    one, other = rivals
    sign = -1 if key in LOWER_IS_BETTER else 1
    gains = [sign * (a - b) for a, b in zip(found[one], found[other], strict=True)]
    better = "lower" if sign < 0 else "higher"
    text = f"{label}: {ARMS[one]} is {better} than {ARMS[other]}."
    return Claim(text, positive(gains, "dB" if key == "psnr" else QUALITY[key]))


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
    over_both = over_trainings(trainings)
    cells = {(row["task"], row["model"]): cell(row) for row in [*pooled(rows), *overall(rows)]}
    shown = [
        [name, *(cells.get((task, model), "") for model in ("two_stage", "joint"))]
        for task, name in {**{task: f"ours, {task}" for task in tasks}, "all": "ours, all"}.items()
    ]
    shown += [_italic(name, *(f"{v} %" for v in values)) for name, values in paper.items()]
    claim = Claim("Planning with the jointly trained model succeeds more often.", more(over_both))
    numbers = {
        "rows": rows,
        "paired": [each for group in trainings for each in paired_differences(group)],
        "over_trainings": over_both,
    }
    title = "Table 4: planning success on RoboDesk"
    return Result(title, [claim], numbers, HEAD, shown, notes=[PAPER_NOTE])


def more(found: Row | None) -> Verdict:
    """By the interval over trainings and problems. One training has none, however many problems it
    played."""
    if found is None:
        return Verdict(INCONCLUSIVE, "The two models played no problem in common.")
    mean, low, high = (100 * found[key] for key in ("difference", "ci_low", "ci_high"))
    if found["trainings"] == 1:
        return Verdict(
            INCONCLUSIVE,
            f"{mean:+.3g} points of one training of each ({low:+.3g} to {high:+.3g} over its "
            f"{found['pairs']} pairs), which has no interval over trainings.",
        )
    reason = (
        f"{mean:+.3g} points (95 % interval {low:+.3g} to {high:+.3g} over trainings and pairs, "
        f"{found['trainings']} of each and {found['pairs']})."
    )
    return above_zero(low, high, reason)


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
