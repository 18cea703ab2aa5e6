"""The training runs that experiments need, as benchmarks/conf/paper.yaml describes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from benchmarks.training_runs import Job, composed, history
from cola_env.errors import ColaWorldError
from cola_train.command import quoted, written
from cola_train.data.sources import LoadingConfig

Lines = list[dict[str, Any]]

PRETRAINED = ("autoencoder", "vae", "stdit")
"""Components that a run takes from ``init`` unless it says otherwise."""


def chosen(config: DictConfig) -> list[str]:
    """Names of the experiments to do; ColaWorldError for an unknown one, or none."""
    names: list[str] = []
    for kind in ("figure", "table"):
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
        raise ColaWorldError("Say what to reproduce: figure=2|3|4a|4b|5|6|all, table=1|2|3|4|all.")
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
    return list(config.experiments[experiment])


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
        f"init_components=[{','.join(entry.get('keeps', PRETRAINED))}]",
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

    def loading(self, run: str, seed: int) -> LoadingConfig:
        """How the run loads its data, at which frame rate for one."""
        return LoadingConfig(**composed(job(self.config, run, seed), self.folder).loading)

    def what(self, run: str) -> str:
        return str(self.config.runs[run].what)

    def steps(self, thousands: float) -> int:
        """Our steps for so many thousands of the paper's."""
        return round(thousands * self.scale.steps_per_thousand)


def as_list(value: Any) -> list[Any]:
    """A setting that is one thing or a list of them."""
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return plain if isinstance(plain, list) else [plain]
