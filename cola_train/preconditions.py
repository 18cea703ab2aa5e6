"""Do data, model and folder fit what a training needs? Asked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cola_env.checkpoints import RECIPE
from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.autoencoder import Pixels
from cola_env.models.components import COMPONENTS
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData
from cola_train.data.mixture import check_length
from cola_train.phases import FlowMatching, Phase
from cola_train.run_folder import TrainingCheckpoints, place


def require_actions(phases: Sequence[Phase], has_actions: bool) -> None:
    """Raises ColaWorldError, naming the phases, when some need the actions that the data lacks."""
    names = [phase.name for phase in phases if phase.needs_actions]
    if names and not has_actions:
        kept = ",".join(phase.name for phase in phases if not phase.needs_actions)
        without = f", or train without them with order=[{kept}] (recipe=video_mini)" if kept else ""
        raise ColaWorldError(
            f"The data has no actions, which the phase(s) {', '.join(names)} need: add data with "
            f"actions{without}."
        )


def check_data(phase: Phase, data: TrainingData) -> None:
    """Raises ColaWorldError when the data lacks the actions or the clips that a phase needs."""
    require_actions([phase], data.has_actions)
    if phase.on_latents:
        check_length(data.with_actions() if phase.needs_actions else data, phase.clip)


def check_clips(phases: Sequence[Phase], model: ColaWorldModel) -> None:
    """Raises ColaWorldError when the world model would dream over more latents than a clip has, or
    over others than those by whose number its noise levels are shifted in training; or does not see
    the frames that it should see its own of."""
    for phase in phases:
        if not isinstance(phase, FlowMatching):
            continue
        if phase.own_frames and not model.residual:
            raise ColaWorldError(
                f"phases.{phase.name}.own_frames={phase.own_frames} has no use: this model does "
                "not see the frame before (model.stdit_config.residual=false); give 0."
            )
        if phase.motion_threshold is not None and not isinstance(model.coder, Pixels):
            raise ColaWorldError(
                f"phases.{phase.name}.motion_threshold={phase.motion_threshold} is for models of "
                "pixels (size=pixels): give null."
            )
        latents = (phase.clip - 1) // model.frames_per_latent + 1
        if latents < model.window or (model.config.timestep_shift and latents != model.window):
            frames = (model.window - 1) * model.frames_per_latent + 1
            raise ColaWorldError(
                f"phases.{phase.name}.clip={phase.clip} trains on clips of {latents} latents, but "
                f"the model dreams over a window of {model.window}: give "
                f"phases.{phase.name}.clip={frames} or model.stdit_config.window={latents}."
            )


def check_components(phases: Sequence[Phase], model: ColaWorldModel) -> None:
    """Raises ColaWorldError, naming the phases, when some need what the model does not have."""
    check_clips(phases, model)
    there = [name for name, _ in model.named_children()]
    for phase in phases:
        if unknown := sorted(set(phase.learns) - set(COMPONENTS)):
            raise ColaWorldError(
                f"phases.{phase.name}.learns names {' and '.join(unknown)}; this model has "
                f"{', '.join(there)}."
            )
    able = [phase.name for phase in phases if phase.uses <= set(there)]
    unable = [phase.name for phase in phases if phase.name not in able]
    if unable:
        lacking = sorted(set().union(*(phase.uses for phase in phases)) - set(there))
        raise ColaWorldError(
            f"This model has no {' and no '.join(lacking)}, which the phase(s) {', '.join(unable)} "
            f"need: train without them with order=[{','.join(able)}], or with a model that has it "
            "(model.conditioning, model.quantizer_config.kind, model.fdm_config)."
        )


HARMLESS = {
    "out",
    "device",
    "threads",
    "loading.workers",
    "loading.memory_gb",
    "loading.index",
    "order",  # of what has begun, it is compared with `start` taken off
    "start",
    "phases",
    "trainer",
}
"""Settings, and groups of them, that a training need not keep to the end."""
TOLD = 5
"""At most so many differences are named."""


def phases_to_run(order: Sequence[str], start: str | None) -> list[str]:
    """Those of ``order`` from the phase ``start`` on; None: all."""
    return list(order[order.index(start) :] if start else order)


def check_same_run(out: Path, recipe: Mapping[str, Any]) -> None:
    """Raises ColaWorldError when ``out`` holds checkpoints of a training that ``recipe`` (as it is
    stored in recipe.yaml) cannot go on with: one with other settings than ``HARMLESS`` ones, or of
    phases that have begun. Those of later phases may differ: they have left nothing yet."""
    file = out / RECIPE
    if not file.exists():
        return
    stored: Any = OmegaConf.to_container(OmegaConf.load(file))
    names = phases_to_run(stored["order"], stored["start"])
    checkpoints = TrainingCheckpoints(out / "checkpoints", names).files()
    if not checkpoints:
        return
    begun = names[: names.index(place(checkpoints[-1])[0]) + 1]
    there, here = (dict(_settings(each, begun)) for each in (stored, recipe))
    wrong = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if wrong:
        told = [f"{key}: {there.get(key)} there, {here.get(key)} here" for key in wrong[:TOLD]]
        more = f"; and {len(wrong) - TOLD} more" if len(wrong) > TOLD else ""
        raise ColaWorldError(
            f"{out} holds a training with other settings ({'; '.join(told)}{more}): choose another "
            "out=FOLDER, or the same settings to go on with it."
        )


def _settings(recipe: Mapping[str, Any], begun: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """What must stay, given which phases have ``begun``."""
    yield "order", phases_to_run(recipe["order"], recipe["start"])[: len(begun)]
    for key, value in _flat(recipe, ""):
        if not {key, key.partition(".")[0]} & HARMLESS:
            yield key, value
    yield "trainer.max_gradient_norm", recipe["trainer"]["max_gradient_norm"]
    for name in begun:
        yield from _flat(recipe["phases"].get(name, {}), f"phases.{name}.")


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; `data`, whose keys are paths, is one value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and key != "data":
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
