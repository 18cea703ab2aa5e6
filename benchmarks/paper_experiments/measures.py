"""Numbers of finished runs: curves from what they logged, and measures of the models they left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.paper_experiments.runs import Lines, Study, as_list, runs_of
from benchmarks.paper_experiments.verdicts import HealthCurve
from benchmarks.training_runs import opened
from benchmarks.vp2_protocol.records import fingerprint
from cola_env.errors import ColaWorldError
from cola_env.files import write_text
from cola_env.models.latent_action.codebook import CodebookHealth
from cola_env.models.loading import load_model
from cola_train.data.clips import TrainingData
from cola_train.data.mixture import check_length
from cola_train.evaluation.rollout_quality import CONTEXT, Networks, video_quality

HEALTH = ("utilisation", "max_usage", "entropy")
QUALITY = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "fvd": "FVD"}


@dataclass(frozen=True)
class Curve:
    """A measure along training: ``steps`` count from the first phase asked for."""

    steps: list[int]
    values: list[float]


def curve(lines: Lines, key: str, phases: tuple[str, ...], start: int = 0) -> Curve:
    """``key`` over consecutive phases, the first of which begins at step ``start``."""
    steps, values = [], []
    for phase in phases:
        own = [line for line in lines if line["phase"] == phase]
        for line in own:
            if key in line:
                steps.append(start + line["step"])
                values.append(line[key])
        start += max((line["step"] for line in own), default=0)
    return Curve(steps, values)


def health_curve(lines: Lines, phase: str) -> HealthCurve:
    """Of the codes of the training batches, by the step they were logged at: mean of the tokens."""
    own = [line for line in lines if line["phase"] == phase]
    return {line["step"]: _health(line, "") for line in own if tokens(line, "token_", "entropy")}


def final_health(lines: Lines, phase: str, source: str) -> CodebookHealth:
    """On held-out clips after ``phase``, under the IDM (``lam``) or the adapter (``adapter``)."""
    return _health(last(lines, phase, f"{source}_token_0_entropy"), f"{source}_")


def _health(line: dict[str, Any], prefix: str) -> CodebookHealth:
    return CodebookHealth(*(fmean(tokens(line, f"{prefix}token_", name)) for name in HEALTH))


def tokens(line: dict[str, Any], prefix: str, name: str) -> list[float]:
    """A measure of every token's codes; none in a line without."""
    pattern = re.compile(rf"{prefix}\d+_{name}")
    return [value for key, value in line.items() if pattern.fullmatch(key)]


def last(lines: Lines, phase: str, key: str, until: int | None = None) -> dict[str, Any]:
    """The last line of ``phase`` with ``key``, at step ``until`` at the latest."""
    found = [line for line in lines if line["phase"] == phase and key in line]
    within = [line for line in found if until is None or line["step"] <= until]
    if not within:
        raise ColaWorldError(
            f"The phase {phase} logged no {key} up to step {until}: lower trainer.evaluate_every."
        )
    return within[-1]


def held_out(study: Study, run: str, seed: int, data: Any, size: int) -> TrainingData:
    """The held-out clips with actions at the frame rate of a run, in frames of ``size`` pixels."""
    return opened(as_list(data), study.loading(run, seed)).split("test", size).with_actions()


def check_held_out(study: Study, experiment: str) -> None:
    """Raises ColaWorldError where held-out episodes are too short for what ``experiment`` measures
    on them when its runs are finished."""
    config, rollout = study.config, CONTEXT + study.config.measure.horizon
    needed = {
        "table_2": {"data": rollout},
        "table_3": {"downstream": rollout},
        "figure_6": {"data": config.measure.length, "downstream": config.measure.length},
    }
    for data, frames in needed.get(experiment, {}).items():
        loading = study.loading(runs_of(config, experiment)[0], study.seeds[0])
        for stream in opened(as_list(config[data]), loading).streams("test"):
            if stream.has_actions:
                check_length(stream.with_actions(), frames)


def quality(study: Study, run: str, seed: int, phase: str, data: Any) -> dict[str, Any]:
    """``video_quality`` of the model that a phase left, measured once."""
    config, folder = study.config, study.model(run, seed, phase)

    def measure() -> dict[str, Any]:
        model = load_model(folder, "auto")
        clips = held_out(study, run, seed, data, model.config.image_size)
        settings = config.measure
        networks = Networks.of_files(settings.lpips, settings.fvd)
        return video_quality(
            model, clips, settings.horizon, networks, count=settings.clips, clip=settings.length
        )

    about = {
        "data": as_list(data),
        "fps": study.loading(run, seed).fps,
        "weights": fingerprint(*sorted(folder.glob("*.safetensors"))),
        **{str(k): v for k, v in config.measure.items()},
    }
    return kept(Path(config.out) / "measures" / f"{run}_{seed}_{phase}.json", about, measure)


def kept(path: Path, about: dict[str, Any], measure: Callable[[], Any]) -> Any:
    """What ``measure`` returns, stored with what it is ``about``; anew when that has changed."""
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["about"] == about:
            return stored["found"]
    found = measure()
    write_text(path, json.dumps({"about": about, "found": found}, indent=1) + "\n")
    return found
