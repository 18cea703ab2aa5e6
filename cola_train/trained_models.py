"""Models that a training left: what they learned from, and a training that starts from one."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cola_env.checkpoints import RECIPE
from cola_env.errors import ColaWorldError
from cola_env.models.components import COMPONENTS
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData
from cola_train.data.sources import DataSources, LoadingConfig


def has_codes(model: ColaWorldModel) -> bool:
    """Whether its actions are codes of a codebook."""
    config = model.config
    return config.conditioning == "latent" and config.quantizer_config["kind"] == "codes"


def coded_model(run: Path, device: str = "auto") -> ColaWorldModel:
    """The model of ``run``, a model's folder or a training's ``out``, in float32 for inference.

    Raises ColaWorldError when its actions are not codes of a codebook.
    """
    model = load_model(run, device).float()
    if not has_codes(model):
        raise ColaWorldError(f"{run} has no codebook: its actions are continuous.")
    return model


def recipe_of(folder: Path) -> dict[str, Any]:
    """That of a training's ``out``, or of a model's folder in it; empty where there is none."""
    places = (folder, folder.resolve().parent)
    found = [file for place in places if (file := place / RECIPE).exists()]
    recipe: Any = OmegaConf.to_container(OmegaConf.load(found[0])) if found else {}
    return recipe


def data_of(run: Path, data: Any = None, fps: float | None = None) -> DataSources:
    """``data`` (as for training) at ``fps``; where they are None, those that ``run``, a training's
    ``out`` or a model's folder in it, was trained with. Actions are scaled as they were there,
    and the same camera is read.

    Raises ColaWorldError when nothing says which.
    """
    recipe = recipe_of(run)
    data, fps = data or recipe.get("data"), fps or recipe.get("fps")
    if not data:
        raise ColaWorldError(f"{run} does not say what it was trained on: give data=FOLDER.")
    kept = {name: recipe.get("loading", {}).get(name) for name in ("action_range", "camera")}
    return DataSources(data, LoadingConfig(fps=fps, workers=0, **kept))


def fits_actions(sources: DataSources, model: ColaWorldModel) -> bool:
    """Whether real actions of the data are held out, and all are of the model's size."""
    return sources.action_dims == {model.config.action_dim} and (
        sources.num_episodes("test", with_actions=True) > 0
    )


def held_out_of(sources: DataSources, model: ColaWorldModel, with_actions: bool) -> TrainingData:
    """What ``model`` is measured on: all that is held out, or what of it has real actions.

    Raises ColaWorldError when these are asked for, and are not there or of another size.
    """
    held_out = sources.split("test", model.config.image_size)
    if not with_actions:
        return held_out
    if not fits_actions(sources, model):
        sizes = " and ".join(map(str, sorted(sources.action_dims))) or "none"
        raise ColaWorldError(
            f"This needs held-out actions of {model.config.action_dim} dimensions; the data has "
            f"{sizes}."
        )
    return held_out.with_actions()


OF_TRAINING = {"commitment_weight", "codebook_weight", "kl_weight", "gradient", "zero_start"}
"""Settings of components that change how their weights are learned or begin, not what they mean."""

READS_ACTIONS = {"adapter", "action_in"}
"""Components whose weights are of one kind of real actions."""


ONLY_WHERE_ASKED = {"fdm", "vae"}
"""Components that not every model has."""


def component_settings(source: ColaWorldModel, asked: Collection[str]) -> dict[str, Any]:
    """Those of all components of ``source``, as arguments of ``ColaWorldModel``: what starts from
    some of its weights has its size, as components must fit each other. One that not every model
    has is among them where ``asked``, names of arguments, has it."""
    config = json.loads(source.to_json_string())
    optional = {f"{name}_config" for name in ONLY_WHERE_ASKED} - set(asked)
    names = {f"{name}_config" for name in COMPONENTS} & config.keys() - optional
    return {name: config[name] for name in names}


def start_from(
    model: ColaWorldModel, source: ColaWorldModel, init: str, components: Sequence[str] | None
) -> None:
    """Gives ``model`` the weights of ``components`` (None: all) of ``source``, which the user knows
    as ``init``. Where that one was made for actions of another size, what reads them starts fresh.

    Raises ColaWorldError when it was made with other settings, or a component is not known.
    """
    unknown = sorted(set(components or ()) - set(COMPONENTS))
    if unknown:
        raise ColaWorldError(
            f"init_components names {' and '.join(unknown)}; there are {', '.join(COMPONENTS)}."
        )
    chosen = {name for name, _ in source.named_children()}
    if components:
        chosen &= set(components)
    if source.config.action_dim != model.config.action_dim:
        chosen -= READS_ACTIONS
    chosen &= {name for name, _ in model.named_children()}
    check_same(source, model, sorted(chosen), init)
    state = {k: v for k, v in source.state_dict().items() if k.partition(".")[0] in chosen}
    fresh = model.load_state_dict(state, strict=False).missing_keys
    print(f"Took {len(state)} tensors from {init}; {len(fresh)} start fresh.")


def check_same(
    source: ColaWorldModel, model: ColaWorldModel, components: Sequence[str], init: str
) -> None:
    """Raises ColaWorldError when the ``components`` mean another thing in ``source``, the model of
    ``init``, than in ``model``: they have other settings, or weights of other shapes."""
    for name in components:
        there, here = settings(source, name), settings(model, name)
        if other := [key for key in here if there[key] != here[key]]:
            told = "; ".join(f"model.{key}: {there[key]} there, {here[key]} here" for key in other)
            raise ColaWorldError(
                f"The {name} of {init} was made with other settings than the model to train "
                f"({told}): give those of its config.json, or leave it out of init_components."
            )
        if shapes(source, name) != shapes(model, name):
            raise ColaWorldError(
                f"The {name} of {init} is of another size than in the model to train, as what it "
                "is connected to is: give the settings of its config.json, or leave it out of "
                "init_components."
            )


def settings(model: ColaWorldModel, component: str) -> dict[str, Any]:
    """What the component's weights mean depends on these, by name; on how the model is sampled by
    default it does not."""
    config = json.loads(model.to_json_string())
    own = config.get(f"{component}_config") or {}
    found = {f"{component}_config.{k}": v for k, v in own.items() if k not in OF_TRAINING}
    if component == "stdit":
        found["stdit_config.fps"] = None if own["fps"] is None else "of the data"
        found["timestep_shift"] = config["timestep_shift"]
    return found


def shapes(model: ColaWorldModel, component: str) -> dict[str, torch.Size]:
    state = model.get_submodule(component).state_dict()
    return {name: weight.shape for name, weight in state.items()}
