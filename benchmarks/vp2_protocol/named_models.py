"""The models that a run names: by checkpoints, under labels, several as one ensemble."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cola_env.checkpoints import find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.replicas import Replicas, replicated
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.vp2_classifier import IMAGE_SIZE
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo

SHIPPED_MODELS = ("cola", "direct", "random")
WITHOUT_CHECKPOINT = ("simulator", "random", "copy")

USUAL_SAMPLING = {"num_inference_steps": 1, "guidance_scale": 1.0}
"""Of a checkpoint whose config says nothing else."""

ModelSpec = str | Mapping[str, Any]
"""A name, a folder, a hub id, several of them joined by "+", or {"_target_": ..., **arguments}."""


def names(value: str | Mapping[str, Any] | Sequence[ModelSpec] | None) -> dict[str, ModelSpec]:
    """{label: model} of names, folders, hub ids, "label:folder" and {label: ...}, one or several.

    None means SHIPPED_MODELS. Without a label of its own a folder is labelled with its path, the
    slashes replaced, so that the label can name a folder again. Raises ColaWorldError for none, or
    two of one label.
    """
    value = SHIPPED_MODELS if value is None else value
    listed = [value] if isinstance(value, str | Mapping) else list(value)
    pairs = [pair for given in listed for pair in _labelled(given)]
    found = dict(pairs)
    if not found or len(found) != len(pairs):
        raise ColaWorldError(
            f"model={listed} must name at least one model, and each under a label of its own: "
            "model=[label:folder,label:folder]."
        )
    return found


def _labelled(given: ModelSpec) -> list[tuple[str, ModelSpec]]:
    if isinstance(given, Mapping):
        if "_target_" in given:
            raise ColaWorldError(
                "A model of your own needs a label: model=[{mine:{_target_:my_package.Model}}]."
            )
        return [(str(label).replace("/", "--"), model) for label, model in given.items()]
    label, colon, name = given.partition(":")
    return [(label.strip("/").replace("/", "--"), name if colon else given)]


def members(name: str) -> list[str]:
    """The models of an ensemble "first+second", or the one model of that name."""
    return [name] if Path(name).exists() else name.split("+")


class NamedModels:
    """The checkpoints that a run names, each loaded once; replicas of them are on the `others`."""

    def __init__(
        self,
        world: WorldInfo,
        specs: Mapping[str, ModelSpec],
        device: torch.device,
        *others: torch.device,
    ) -> None:
        self.world = world
        self.folders: dict[str, Path] = {}
        self.loaded: dict[str, ColaWorldModel] = {}
        self.replicas: dict[str, ColaWorldModel | Replicas] = {}
        for spec in specs.values():
            for name in members(spec) if isinstance(spec, str) else []:
                if name not in (*WITHOUT_CHECKPOINT, *self.loaded):
                    self.folders[name] = find_checkpoint(name, world)
                    self.loaded[name] = _able(
                        name, load_model(self.folders[name], device), world.action_dim
                    )
                    self.replicas[name] = replicated(self.loaded[name], others)

    def compile(self) -> None:
        for model in self.replicas.values():
            model.compile_repeated_blocks()

    def rendering(self, wanted: str | None) -> str | None:
        """The profile of all of them and of `wanted`; None when none of them has one."""
        for name, model in self.loaded.items():
            own = str(model.config.rendering)
            wanted = wanted or own
            check_same_profile(wanted, own, f"run and its model '{name}'")
        return wanted


def own_sampling(
    checkpoints: Sequence[ColaWorldModel], asked: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the checkpoints' own sampling adds to a run's identity where it is not `asked` for
    another; nothing for the usual one, so that the folders of earlier runs stay theirs."""
    asked = dict.fromkeys(USUAL_SAMPLING) if asked is None else asked
    own = [{k: each.config[k] for k, v in asked.items() if v is None} for each in checkpoints]
    usual = all(each.items() <= USUAL_SAMPLING.items() for each in own)
    return {} if usual else {"own_sampling": own}


def _able(name: str, model: ColaWorldModel, action_dim: int) -> ColaWorldModel:
    """The model, if it imagines frames of the goals' size under real actions of the world; else
    ColaWorldError."""
    if model.action_modes == ("latent",):
        raise ColaWorldError(
            f"The model '{name}' was trained on video alone and takes no real actions, with which "
            "one plans here: give it an adapter, 'python -m cola_train recipe=joint_mini "
            f"data=EPISODES_WITH_ACTIONS init={name} start=adapter out=RUN', and plan with "
            "model=RUN."
        )
    if model.config.action_dim != action_dim:
        raise ColaWorldError(
            f"The model '{name}' takes actions of {model.config.action_dim} dimensions, this world "
            f"{action_dim}: choose env=, or another model."
        )
    if model.config.image_size != IMAGE_SIZE:
        raise ColaWorldError(
            f"The goals have {IMAGE_SIZE} x {IMAGE_SIZE} pixels, the model '{name}' imagines "
            f"{model.config.image_size} x {model.config.image_size}: train one at image_size="
            f"{IMAGE_SIZE}."
        )
    return model
