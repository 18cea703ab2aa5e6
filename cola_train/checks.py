"""Are the data and the model what the phases need? Asked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from cola_env.errors import ColaWorldError
from cola_env.models.components import COMPONENTS
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData
from cola_train.data.mixture import check_length
from cola_train.phases import FlowMatching, Phase


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
    over others than those by whose number its noise levels are shifted in training."""
    for phase in phases:
        if not isinstance(phase, FlowMatching):
            continue
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
