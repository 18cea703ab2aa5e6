"""Compares training recipes: `cola recipes data=FOLDER init=PRETRAINED out=FOLDER`.

Every arm of benchmarks/conf/recipes.yaml is the same short training with one thing changed (and of
adapters.yaml with `--config-name adapters`). What they reach on held-out clips goes to
OUT/recipes.json and, as a table, to OUT/recipes.md. Finished runs are kept: the same command goes
on where it was stopped.
"""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.harness import plain, timed
from benchmarks.training_runs import Job, composed, finish, finished, history, opened
from cola_env.errors import ColaWorldError
from cola_env.files import write_json, write_text
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command, quoted, written
from cola_train.console import GOES_ON, progress_bar
from cola_train.data.sources import LoadingConfig
from cola_train.evaluation.rollout_quality import multi_step_psnr

COLUMNS = {
    "own": "own",
    "shuffled": "shuffled",
    "gap": "gap",
    "adapter": "adapter",
    "adapter_shuffled": "adapter, shuffled",
    "lam_utilisation": "utilisation",
    "lam_max_usage": "max usage",
    "lam_entropy": "entropy",
    "adapter_max_usage": "adapter's max usage",
    "step_1": "step 1",
    "step_5": "step 5",
    "step_10": "step 10",
    "frames_per_second": "imagined frames/s",
    "core_hours": "core-hours",
}

ROLLOUT = "rollout.json"
HORIZON, CANDIDATES, PLAN = 10, 64, 6


def jobs(config: DictConfig) -> list[Job]:
    """The runs to do; ColaWorldError for an unknown arm."""
    patterns = [config.arms] if isinstance(config.arms, str) else list(config.arms)
    study: dict[str, Any] = {str(k): v for k, v in config.study.items()}
    for pattern in patterns:
        if not fnmatch.filter(study, pattern):
            raise ColaWorldError(f"There is no arm '{pattern}'; choose some of {', '.join(study)}.")
    given = [config.data] if isinstance(config.data, str) else list(config.data)
    data = ",".join(map(written, given))
    common = [*config.base, f"data=[{data}]", quoted("init", config.init)]
    common.append(f"trainer.compile={config.compile}")
    found = []
    for arm, entry in study.items():
        if not any(fnmatch.fnmatchcase(arm, pattern) for pattern in patterns):
            continue
        overrides = [*common]
        if entry.get("scratch"):
            overrides.append("init_components=[autoencoder]")
        overrides += entry.get("set", [])
        for seed in entry.get("seeds", [0]):
            found.append(Job(arm, seed, entry.what, (*overrides, f"seed={seed}")))
    return sorted(found, key=lambda job: job.seed)


def measures(job: Job, out: Path) -> dict[str, Any]:
    """The last held-out measures of every phase, and the codes in use while it trained."""
    lines = history(job, out)
    phases = {line["phase"]: line for line in lines if "gap" in line}
    keys = ("phase", "step", "max_usage", "entropy")
    curve = [{key: line[key] for key in keys} for line in lines if "max_usage" in line]
    file = job.folder(out) / ROLLOUT
    if file.exists():
        list(phases.values())[-1].update(json.loads(file.read_text()))
    return {"arm": job.arm, "seed": job.seed, "what": job.what, "held_out": phases, "curve": curve}


def train_and_roll_out(job: Job, out: Path, horizon: int = HORIZON) -> None:
    """Finish a run; then what its last model imagines, how fast, and what the run cost.

    PSNR on moving pixels ``step_1`` to ``step_10`` of a rollout, through the adapter where there is
    one; frames a second of one thread for CANDIDATES plans of PLAN steps; core-hours of this
    process, summed over the times that the run was begun.
    """
    file = job.folder(out) / ROLLOUT
    if finished(job, out) and file.exists():
        return
    spent = job.folder(out) / "core_seconds.json"
    before = json.loads(spent.read_text()) if spent.exists() else 0.0
    begun = time.process_time()
    try:
        finish(job, out)
    finally:
        seconds = before + time.process_time() - begun
        write_json(spent, seconds)
    config = composed(job, out)
    model = load_model(job.folder(out) / config.order[-1], "cpu")
    data = opened(plain(config.data), LoadingConfig(**config.loading))
    held_out = data.split("test", model.config.image_size).with_actions()
    psnr = multi_step_psnr(model, held_out, horizon, count=256)
    best = psnr.get("adapter", psnr["own"])
    measured = {f"step_{i}": best[i - 1] for i in (1, 5, horizon) if i <= horizon}
    speed = {"frames_per_second": frames_per_second(model), "core_hours": seconds / 3600}
    write_json(file, measured | speed)


def frames_per_second(model: ColaWorldModel) -> float:
    """Of CANDIDATES plans of PLAN random actions, the best of three."""
    generator = torch.Generator().manual_seed(0)
    side = model.config.image_size
    frames = torch.randint(0, 256, (1, 1, side, side, 3), generator=generator).to(torch.uint8)
    plans = torch.rand(1, CANDIDATES, PLAN, model.config.action_dim, generator=generator) * 2 - 1
    state = model.begin(frames)
    seconds = [timed(lambda: model.rollout(state, plans, seed=0), model.device) for _ in range(3)]
    return CANDIDATES * PLAN / min(seconds)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a line a run: the measures after its last phase."""
    finals = [list(row["held_out"].values())[-1] for row in rows]
    shown = [key for key in COLUMNS if any(key in final for final in finals)]
    lines = [f"| arm | what | seed | {' | '.join(COLUMNS[key] for key in shown)} |"]
    lines.append("|---|---|---|" + "---|" * len(shown))
    for row, final in zip(rows, finals, strict=True):
        cells = [f"{final[key]:.2f}" if key in final else "" for key in shown]
        lines.append(f"| {row['arm']} | {row['what']} | {row['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@command("recipes", GOES_ON)
def main(config: DictConfig) -> None:
    out, todo = Path(config.out), jobs(config)
    try:
        for job in progress_bar(todo, "runs"):
            train_and_roll_out(job, out)
            write_results(todo, out)
    finally:
        print(table(write_results(todo, out)))


def write_results(jobs: Sequence[Job], out: Path) -> list[dict[str, Any]]:
    """Write what the finished runs have reached; returns it."""
    rows = [measures(each, out) for each in jobs if finished(each, out)]
    write_json(out / "recipes.json", rows)
    write_text(out / "recipes.md", table(rows))
    return rows


if __name__ == "__main__":
    main()
