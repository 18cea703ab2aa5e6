"""The training runs that experiments need, as benchmarks/conf/paper.yaml describes them, and the
numbers of finished ones: curves from what they logged, and measures of the models they left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig, OmegaConf

from benchmarks.paper_experiments.verdicts import HealthCurve
from benchmarks.training_runs import Job, composed, history, opened
from benchmarks.vp2_protocol.records import fingerprint
from cola_env.envs.starts import CONTEXT
from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.latent_action.codebook_health import CodebookHealth
from cola_env.models.loading import load_model
from cola_train.command import quoted, written
from cola_train.data.clips import TrainingData
from cola_train.data.mixture import check_length
from cola_train.data.sources import LoadingConfig
from cola_train.evaluation.rollout_quality import Networks, video_quality

Lines = list[dict[str, Any]]

PRETRAINED = ("autoencoder", "vae", "stdit")
"""Components that a run takes from ``init`` unless it says otherwise."""

KINDS = ("figure", "table", "explanation")
"""Of experiments; what the settings that choose them are called."""

HEALTH = ("utilisation", "max_usage", "entropy")
QUALITY = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "fvd": "FVD"}


def chosen(config: DictConfig) -> list[str]:
    """Names of the experiments to do; ColaWorldError for an unknown one, or none."""
    names: list[str] = []
    for kind in KINDS:
        there = [str(name) for name in config.experiments if str(name).startswith(kind)]
        for given in as_list(config[kind]):
            wanted = [f"{kind}_{given}"] if str(given) != "all" else there
            if not set(wanted) <= set(there):
                labels = ", ".join(name.removeprefix(f"{kind}_") for name in there)
                raise ColaWorldError(
                    f"The paper's {kind} '{given}' is no experiment; choose some of {labels}, all."
                )
            names += wanted
    if not names:
        raise ColaWorldError(
            "Say what to reproduce: figure=2|3|4a|4b|5|6|all, table=1|2|3|4|all, "
            "explanation=drift|wrong_codes|all."
        )
    return list(dict.fromkeys(names))


def plan(config: DictConfig, experiments: Iterable[str]) -> list[Job]:
    """The runs of the experiments, each once a seed, after those that it goes on from."""
    if config.scale not in config.scales:
        raise ColaWorldError(f"scale must be one of {', '.join(config.scales)}.")
    needed: set[str] = set()
    for name in experiments:
        for run in runs_of(config, name):
            while run not in needed:
                needed.add(run)
                run = config.runs[run].get("after", run).partition("/")[0]
    ordered = [str(run) for run in config.runs if run in needed]
    return [job(config, run, seed) for seed in as_list(config.seeds) for run in ordered]


def runs_of(config: DictConfig, experiment: str) -> list[str]:
    if experiment == "table_4" and config.vp2.results is not None:
        return []
    of_scale = config.scales[config.scale].get("experiments", {})
    return [*config.experiments[experiment], *of_scale.get(experiment, [])]


def job(config: DictConfig, run: str, seed: int) -> Job:
    """The overrides of `python -m cola_train` that make up a run; later ones win."""
    entry, scale = config.runs[run], config.scales[config.scale]
    own = scale.runs.get(run, {})
    thousands = {f"phases.{phase}.steps": count for phase, count in entry.steps.items()}
    for more in (scale, own, entry):
        thousands |= more.get("thousands", {})
    after, _, phase = entry.get("after", "").partition("/")
    init = runs_folder(config) / f"{after}_{seed}" / phase if after else config.init
    overrides = [
        f"recipe={entry.recipe}_{config.scale}",
        f"order=[{','.join(entry.steps)}]",
        f"data=[{','.join(map(written, as_list(entry.get('data', config.data))))}]",
        quoted("init", init),
        f"init_components=[{','.join(entry.get('init_components', PRETRAINED))}]",
        f"seed={seed}",
        f"trainer.compile={config.compile}",
        quoted("trainer.latent_cache", runs_folder(config) / "latents"),
        *(f"{key}={max(1, round(n * scale.steps_per_thousand))}" for key, n in thousands.items()),
        *scale.set,
        *own.get("set", []),
        *entry.get("set", []),
        *config.set,
    ]
    return Job(run, seed, entry.what, tuple(overrides), after or None)


def runs_folder(config: DictConfig) -> Path:
    return Path(config.out) / "runs"


class Study:
    """The finished runs of a configuration."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.seeds: list[int] = as_list(config.seeds)
        self.folder = runs_folder(config)
        self.scale: DictConfig = config.scales[config.scale]

    def lines(self, run: str, seed: int) -> Lines:
        """What the run logged."""
        return history(job(self.config, run, seed), self.folder)

    def model(self, run: str, seed: int, phase: str) -> Path:
        """The model folder that a phase left."""
        return self.folder / f"{run}_{seed}" / phase

    def settings(self, run: str, seed: int) -> DictConfig:
        """The run's configuration of `python -m cola_train`."""
        return composed(job(self.config, run, seed), self.folder)

    def loading(self, run: str, seed: int) -> LoadingConfig:
        """How the run loads its data, at which frame rate for one."""
        return LoadingConfig(**self.settings(run, seed).loading)

    def what(self, run: str) -> str:
        return str(self.config.runs[run].what)

    def steps(self, thousands: float) -> int:
        """Our steps for so many thousands of the paper's."""
        return round(thousands * self.scale.steps_per_thousand)

    def paper_steps(self, steps: int) -> int:
        """The paper's steps for so many of ours."""
        return round(1000 * steps / self.scale.steps_per_thousand)


def as_list(value: Any) -> list[Any]:
    """A setting that is one thing or a list of them."""
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return plain if isinstance(plain, list) else [plain]


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
        "explanation_drift": {"data": config.measure.length},
        "explanation_wrong_codes": {"data": rollout},
    }
    for data, frames in needed.get(experiment, {}).items():
        loading = study.loading(runs_of(config, experiment)[0], study.seeds[0])
        for stream in opened(as_list(config[data]), loading).streams("test"):
            if stream.has_actions:
                check_length(stream.with_actions(), frames)


def quality(study: Study, run: str, seed: int, phase: str, data: Any) -> dict[str, Any]:
    """``video_quality`` of the model that a phase left, measured once."""

    def measure() -> dict[str, Any]:
        model = load_model(study.model(run, seed, phase), "auto")
        clips = held_out(study, run, seed, data, model.config.image_size)
        settings = study.config.measure
        networks = Networks.of_files(settings.lpips, settings.fvd)
        return video_quality(model, clips, settings.horizon, networks, count=settings.clips)

    found: dict[str, Any] = measured_once(study, "quality", run, seed, phase, data, measure)
    return found


def measured_once(
    study: Study,
    what: str,
    run: str,
    seed: int,
    phase: str,
    data: Any,
    measure: Callable[[], Any],
) -> Any:
    """What ``measure`` finds on ``data`` of the model that a phase left, a JSON value."""
    weights = sorted(study.model(run, seed, phase).glob("*.safetensors"))
    about = {
        "data": as_list(data),
        "fps": study.loading(run, seed).fps,
        "weights": fingerprint(*weights),
        **{str(k): v for k, v in study.config.measure.items()},
    }
    folder = Path(study.config.out) / "measures"
    return cached(folder / f"{what}_{run}_{seed}_{phase}.json", about, measure)


def cached(path: Path, about: dict[str, Any], measure: Callable[[], Any]) -> Any:
    """What ``measure`` returns, stored with what it is ``about``; anew when that has changed."""
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["about"] == about:
            return stored["found"]
    found = measure()
    write_json(path, {"about": about, "found": found})
    return found
