"""The model that a dream is dreamt with, its actions and its judge, checked against the world."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cola_env.checkpoints import find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model, pick_device
from cola_env.scoring.success_classifier import (
    TaskClassifier,
    check_frames,
    find_classifier,
    load_classifier,
)
from cola_env.worlds import OWN, WorldInfo

if TYPE_CHECKING:
    from cola_env.models.world_model import ColaWorldModel


def open_model(
    checkpoint: "str | Path | ColaWorldModel | None", world: WorldInfo, device: str | torch.device
) -> "tuple[ColaWorldModel, Path | None]":
    """The model on its device, and the folder that it was loaded from.

    A loaded model is left as it is: for another device, in training, and in half precision on a CPU
    a copy dreams.

    Raises ColaWorldError when there is no such checkpoint, or none is named and none shipped.
    """
    if checkpoint is None and world is OWN:
        raise ColaWorldError("ColaWorld-Own-v0 has no shipped model: give checkpoint=FOLDER.")
    if checkpoint is None or isinstance(checkpoint, str | Path):
        folder = find_checkpoint(checkpoint, world)
        return load_model(folder, device), folder
    where = checkpoint.device if device == "auto" else pick_device(device)
    precision = torch.float32 if where.type == "cpu" else checkpoint.dtype
    here = (where, precision) == (checkpoint.device, checkpoint.dtype)
    if here and not checkpoint.training:
        return checkpoint, None
    return nn.Module.to(copy.deepcopy(checkpoint), where, precision).eval(), None


def choose_mode(model: "ColaWorldModel", action_mode: str | None, world: WorldInfo) -> str:
    """How actions are given, by default the model's first way.

    Raises ColaWorldError for one that it does not offer, for actions of another robot, and for
    latent actions without codes.
    """
    mode = action_mode or model.action_modes[0]
    if mode not in model.action_modes:
        raise ColaWorldError(
            f"This checkpoint has no action_mode '{action_mode}'; it offers "
            f"{' and '.join(repr(mode) for mode in model.action_modes)}."
        )
    if mode == "latent" and model.continuous:
        raise ColaWorldError(
            "This checkpoint has continuous latent actions, no codes to step an environment with: "
            "use ColaWorldModel.rollout."
        )
    known, taken = world.action_dim, model.config.action_dim
    if mode != "latent" and world is not OWN and taken != known:
        raise ColaWorldError(
            f"This checkpoint takes {taken} actions, but those of {world.simulator} have {known} "
            "components: choose a checkpoint trained on it, or action_mode='latent'."
        )
    return mode


def matching_classifier(
    model: "ColaWorldModel", folder: Path | None, world: WorldInfo, needed: bool
) -> TaskClassifier | None:
    """The success classifier beside the checkpoint, or else that of the world, if there is one.

    needed: whether the reward asks it. Then one that knows other frames than the model's raises
        ColaWorldError; else it is left out.
    """
    path = find_classifier(folder, world)
    if path is None:
        return None
    classifier = load_classifier(path)
    try:
        check_frames(classifier, model.config.rendering, model.config.image_size)
    except ColaWorldError:
        if needed:
            raise
        return None
    return classifier
