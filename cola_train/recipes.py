"""A training's settings: the model, the phases and their lengths that `cfg` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_train.phases import Distillation, Phase
from cola_train.preconditions import phases_to_run
from cola_train.trained_models import component_settings, start_from

COUNTED = {"steps", "lr_warmup", "continuous_steps", "restart_steps"}
"""Settings of a phase that ``steps_scale`` scales."""


def build_model(
    cfg: DictConfig, rendering: str, action_dim: int | None = None, fps: float | None = None
) -> ColaWorldModel:
    """The recipe's model: ``cfg.size`` with what ``cfg.model`` says otherwise.

    ``cfg.opensora`` gives it Open-Sora's weights, ``cfg.init`` (a model folder) its size and the
    weights of ``cfg.init_components``; ``action_dim`` and ``fps`` are those of the data, the latter
    for a model that embeds it. Raises ColaWorldError for an unknown size.
    """
    if cfg.size not in MODEL_SIZES:
        raise ColaWorldError(f"size must be one of {', '.join(MODEL_SIZES)}, not {cfg.size}.")
    size = MODEL_SIZES[cfg.size]
    source = load_model(cfg.init, "cpu") if cfg.init else None
    if source is not None:
        size = size | component_settings(source, {*size, *cfg.model})
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
