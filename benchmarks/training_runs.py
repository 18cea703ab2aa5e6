"""Training runs of a study, which share their data and are kept when finished."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import cola_train.__main__ as training
from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.processes import deaths_told, end_with_parent
from cola_train.command import quoted
from cola_train.console import progress_bar
from cola_train.data.sources import DataSources, LoadingConfig

CONF = Path(training.__file__).parent / "conf"


@dataclass(frozen=True)
class Job:
    """One training run: an arm of the study under one seed, ``after`` that of another arm."""

    arm: str
    seed: int
    what: str
    overrides: tuple[str, ...]
    after: str | None = None

    def folder(self, out: Path) -> Path:
        return out / f"{self.arm}_{self.seed}"


def finish_all(jobs: Sequence[Job], out: Path, workers: int = 1) -> None:
    """Finish the runs, which are in an order that works, ``workers`` (at least 1) at a time.

    Several write what they print to ``log.txt`` in the folder of each run.

    Raises:
        ColaWorldError: no worker; the first run that fails, after those under way have ended; a
            process that was killed.
    """
    if workers < 1:
        raise ColaWorldError(f"workers={workers} trains nothing: give at least 1.")
    with progress_bar(None, "runs", total=len(jobs)) as bar:
        if workers == 1:
            for job in jobs:
                finish(job, out)
                bar.update()
            return
        with deaths_told():
            finish_side_by_side(jobs, out, workers, bar)


def finish_side_by_side(jobs: Sequence[Job], out: Path, workers: int, bar: tqdm[Any]) -> None:
    waiting, running = list(jobs), dict[Future[None], Job]()
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        while waiting or running:
            unfinished = {(job.arm, job.seed) for job in (*waiting, *running.values())}
            ready = [job for job in waiting if (job.after, job.seed) not in unfinished]
            for job in ready[: workers - len(running)]:
                waiting.remove(job)
                running[pool.submit(finish_aside, job, out)] = job
            try:
                done = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt:  # the trainings go on from their checkpoints
                for process in active_children():
                    process.terminate()
                raise
            for future in done:
                future.result()
                running.pop(future)
                bar.update()


def finish_aside(job: Job, out: Path) -> None:
    """Finish a run that is one of several at a time."""
    job.folder(out).mkdir(parents=True, exist_ok=True)
    with (job.folder(out) / "log.txt").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        finish(job, out)


def finish(job: Job, out: Path) -> None:
    """Train what is not finished yet; ColaWorldError for a folder of other settings."""
    settings = job.folder(out) / "settings.json"
    wanted = merged(list(job.overrides))
    known = json.loads(settings.read_text()) if settings.exists() else wanted
    if known != wanted:
        changed = sorted(set(known) ^ set(wanted))
        raise ColaWorldError(
            f"{job.folder(out)} holds a run of other settings ({', '.join(changed)}): choose "
            "another out=FOLDER, or the same settings to go on with it."
        )
    write_json(settings, wanted)
    if not finished(job, out):
        train(job, out)


def train(job: Job, out: Path) -> None:
    """What `python -m cola_train` does; ColaWorldError, naming the run, when it cannot."""
    torch.compiler.reset()
    cfg = composed(job, out)
    try:
        data = OmegaConf.to_container(cfg.data)
        training.train(cfg, opened(data, LoadingConfig(**cfg.loading)))
    except ColaWorldError as error:
        raise failure(job, error) from error


def composed(job: Job, out: Path) -> DictConfig:
    """The run's configuration of `python -m cola_train`; ColaWorldError for a wrong override."""
    GlobalHydra.instance().clear()  # of the study's own configuration, which has been read
    try:
        with initialize_config_dir(str(CONF), version_base=None):
            return compose("train", merged([*job.overrides, quoted("out", job.folder(out))]))
    except HydraException as error:
        raise failure(job, error) from error


def failure(job: Job, error: Exception) -> ColaWorldError:
    return ColaWorldError(f"The run {job.arm} (seed {job.seed}) failed: {error}")


def opened(data: Any, loading: LoadingConfig) -> DataSources:
    """The data, opened and read once for all runs of this process."""
    return _opened(json.dumps(data), json.dumps(asdict(loading)))


@cache
def _opened(data: str, loading: str) -> DataSources:
    return DataSources(json.loads(data), LoadingConfig(**json.loads(loading)))


def merged(overrides: list[str]) -> list[str]:
    """The last override of every key; keys that a phase leaves at its default are added."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    last = {each.key_or_group: str(each.input_line) for each in parsed}
    return [text if key == "recipe" else f"++{text}" for key, text in last.items()]


def history(job: Job, out: Path) -> list[dict[str, Any]]:
    """What was logged while training: a line (``loss``) or a held-out one a phase and step.

    Steps that a stopped run repeated are there once.
    """
    path = job.folder(out) / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return list({(line["phase"], line["step"], "loss" in line): line for line in lines}.values())


def finished(job: Job, out: Path) -> bool:
    """Whether the last phase of its recipe was saved."""
    recipe = job.folder(out) / "recipe.yaml"
    if not recipe.exists():
        return False
    last = OmegaConf.load(recipe).order[-1]
    return (job.folder(out) / last / "config.json").exists()
