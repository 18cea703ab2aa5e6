"""A training's folder: what was left in it, and whether a training may go on there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cola_env.checkpoints import RECIPE
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.checkpoints import Checkpoints, place
from cola_train.data.clips import TrainingData
from cola_train.data.training_data import DataSources, LoadingConfig


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


Settings = Mapping[str, Any]
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


def check_same_run(out: Path, recipe: Settings) -> None:
    """Raises ColaWorldError when ``out`` holds checkpoints of a training that ``recipe`` (as it is
    stored in recipe.yaml) cannot go on with: one with other settings than ``HARMLESS`` ones, or of
    phases that have begun. Those of later phases may differ: they have left nothing yet."""
    file = out / RECIPE
    if not file.exists():
        return
    stored: Any = OmegaConf.to_container(OmegaConf.load(file))
    names = phases_to_run(stored["order"], stored["start"])
    checkpoints = Checkpoints(out / "checkpoints", names).files()
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


def _settings(recipe: Settings, begun: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """What must stay, given which phases have ``begun``."""
    yield "order", phases_to_run(recipe["order"], recipe["start"])[: len(begun)]
    for key, value in _flat(recipe, ""):
        if not {key, key.partition(".")[0]} & HARMLESS:
            yield key, value
    yield "trainer.max_gradient_norm", recipe["trainer"]["max_gradient_norm"]
    for name in begun:
        yield from _flat(recipe["phases"].get(name, {}), f"phases.{name}.")


def _flat(settings: Settings, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; `data`, whose keys are paths, is one value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and key != "data":
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
