"""Trains a world model: `cola train recipe=joint_mini data=FOLDER out=FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cola_env.checkpoints import RECIPE
from cola_env.errors import ColaWorldError
from cola_env.files import write_atomically
from cola_env.models.loading import load_model, pick_device
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_train.collapse import CollapseConfig
from cola_train.command import command, cpu_threads
from cola_train.data.clips import TrainingData
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.phases import Distillation, Phase
from cola_train.preconditions import check_same_run, phases_to_run, require_actions
from cola_train.trained_models import has_codes, settings_to_start_from, start_from
from cola_train.trainer import Trainer, TrainerConfig

COUNTED = {"steps", "lr_warmup", "continuous_steps", "restart_steps"}
"""Settings of a phase that ``steps_scale`` scales."""


def build_model(
    cfg: DictConfig, rendering: str, action_dim: int | None = None, fps: float | None = None
) -> ColaWorldModel:
    """The recipe's model: ``cfg.size`` with what ``cfg.model`` says otherwise.

    ``cfg.opensora`` gives it Open-Sora's weights, ``cfg.init`` (a model folder) those of
    ``cfg.init_components``; ``action_dim`` and ``fps`` are those of the data, the latter for a
    model that embeds it. Raises ColaWorldError for an unknown size.
    """
    if cfg.size not in MODEL_SIZES:
        raise ColaWorldError(f"size must be one of {', '.join(MODEL_SIZES)}, not {cfg.size}.")
    size = MODEL_SIZES[cfg.size]
    source = load_model(cfg.init, "cpu") if cfg.init else None
    if source is not None:
        size = size | settings_to_start_from(source, cfg.init_components, {*size, *cfg.model})
    of_data: dict[str, Any] = {} if action_dim is None else {"action_dim": action_dim}
    if fps is not None and size.get("stdit_config", {}).get("fps") is not None:
        of_data["stdit_config"] = {"fps": fps}
    merged = OmegaConf.merge(size, of_data, cfg.model, {"rendering": rendering})
    settings: dict[str, Any] = OmegaConf.to_container(merged)  # type: ignore[assignment]
    if cfg.opensora:
        model = ColaWorldModel.from_opensora(cfg.opensora, cfg.opensora_vae, **settings)
    else:
        model = ColaWorldModel(**settings)
    if source is not None:
        start_from(model, source, cfg.init, cfg.init_components)
    return model


def chosen_phases(cfg: DictConfig) -> list[str]:
    """Names of the phases to run, in order; ColaWorldError for an unknown one."""
    order = list(cfg.order)
    unknown = [name for name in order if name not in cfg.phases]
    if unknown:
        raise ColaWorldError(f"order names unknown phases {unknown}; there are {list(cfg.phases)}.")
    if cfg.start and cfg.start not in order:
        raise ColaWorldError(f"start={cfg.start} is no phase of this recipe: {', '.join(order)}.")
    return phases_to_run(order, cfg.start)


def scaled(cfg: DictConfig) -> DictConfig:
    """``cfg`` with what its phases count in steps times ``cfg.steps_scale``, which is then 1."""
    cfg, factor = cfg.copy(), cfg.steps_scale
    for phase in cfg.phases.values():
        for key in COUNTED & phase.keys():
            phase[key] = round(phase[key] * factor)
        phase.steps = max(1, phase.steps)
    cfg.steps_scale = 1.0
    return cfg


def make_phase(cfg: DictConfig, name: str) -> Phase:
    """The phase called ``name``. Raises ColaWorldError for settings that do not fit."""
    try:
        phase: Phase = instantiate(cfg.phases[name], name=name)
    except InstantiationException as error:
        raise ColaWorldError(str(error.__cause__ or error)) from error
    return phase


def name_teachers(phases: list[Phase], cfg: DictConfig) -> None:
    """The teacher of a distillation is the model of the phase before, or that of ``cfg.init``."""
    before = cfg.init
    for phase in phases:
        if isinstance(phase, Distillation) and phase.teacher is None:
            phase.teacher = before
        before = str(Path(cfg.out) / phase.name)


def stored_recipe(cfg: DictConfig) -> dict[str, Any]:
    """What a training notes of its settings: those of the phases in its order, all resolved."""
    saved = cfg.copy()
    saved.phases = {name: cfg.phases[name] for name in cfg.order}
    recipe: Any = OmegaConf.to_container(saved, resolve=True)
    return dict(recipe)


def train(cfg: DictConfig, sources: DataSources | None = None) -> None:
    """Run the recipe's phases. Raises ColaWorldError for settings or data that do not fit.

    sources: what ``cfg.data`` names, where it is open already.
    """
    cfg = scaled(cfg)
    with cpu_threads(cfg.threads):
        _train(cfg, sources)


def _train(cfg: DictConfig, sources: DataSources | None) -> None:
    torch.manual_seed(cfg.seed)
    phases = [make_phase(cfg, name) for name in chosen_phases(cfg)]
    name_teachers(phases, cfg)
    out, recipe = Path(cfg.out), stored_recipe(cfg)
    check_same_run(out, recipe)
    sources = sources or DataSources(cfg.data, LoadingConfig(**cfg.loading))
    require_actions(phases, sources.has_actions)
    if needs := any(phase.needs_actions for phase in phases):
        sources.check_actions()
    action_dim = sources.action_dim if needs else None
    model = build_model(cfg, sources.rendering, action_dim, sources.fps)
    data, held_out = (sources.split(name, model.config.image_size) for name in ("train", "test"))
    if cfg.max_episodes:
        data = data.first(cfg.max_episodes)
    out.mkdir(parents=True, exist_ok=True)
    config = TrainerConfig(**{**cfg.trainer, "collapse": CollapseConfig(**cfg.trainer.collapse)})
    device = pick_device(cfg.device)
    trainer = Trainer(model, phases, data, held_out, out, cfg.seed, config, device)
    if trainer.accelerator.is_main_process:
        write_atomically(out / RECIPE, lambda target: OmegaConf.save(recipe, target))
        print(plan(phases, data, held_out, out))
    try:
        trainer.run()
    finally:
        if sources.damage_report.files:
            print(sources.damage_report.summary())
    if trainer.accelerator.is_main_process:
        print(f"Finished: the model is {out / phases[-1].name}.")
        if has_codes(model):
            print(f"What it has learned: python -m cola_train.show run={out}")


def plan(phases: list[Phase], data: TrainingData, held_out: TrainingData, out: Path) -> str:
    """What is about to happen, for the user."""
    steps = ", ".join(f"{phase.name} {phase.steps:,}" for phase in phases)
    return (
        f"Training on {data.num_frames:,} frames; {held_out.num_frames:,} are held out.\n"
        f"Steps: {steps}. Models, checkpoints and logs: {out}"
    )


@command("train", "Stopped; the same command goes on from the last checkpoint.")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
