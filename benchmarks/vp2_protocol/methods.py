"""The methods that a run compares: what each imagines with, plans with, and is known by."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig

from benchmarks.vp2_protocol.agents import check_random
from benchmarks.vp2_protocol.dynamics import (
    CopyDynamics,
    Dynamics,
    SimulatorDynamics,
    WorldModelDynamics,
    check_screen,
    make_foreign,
)
from benchmarks.vp2_protocol.records import (
    WITHOUT_CHECKPOINT,
    ModelSpec,
    fingerprint,
    members,
    plain,
)
from cola_env.checkpoints import checkpoint_files, find_checkpoint, load_model
from cola_env.classifier import TaskClassifier, find_classifier, load_classifier, weight_files
from cola_env.ensembles import ClassifierEnsemble, Combination
from cola_env.errors import ColaWorldError, in_short
from cola_env.models.world_model import ColaWorldModel
from cola_env.rewards import is_judged
from cola_env.simulators.pool import SimulatorPool
from cola_env.simulators.rendering import check_same_profile
from cola_env.vp2_classifier import IMAGE_SIZE
from cola_env.worlds import WorldInfo

MakeDynamics = Callable[[SimulatorPool], Sequence[Dynamics]]


@dataclass(frozen=True)
class Method:
    """A model with its planner for every task. Its dynamics are several for an ensemble; None acts
    at random.

    settings: what decides its results, as JSON values.
    """

    label: str
    planners: Mapping[str, Any]
    make_dynamics: MakeDynamics | None
    classifier: TaskClassifier | None
    settings: dict[str, Any]


class Checkpoints:
    """The checkpoints that a run names, each loaded once."""

    def __init__(
        self, world: WorldInfo, specs: Mapping[str, ModelSpec], device: torch.device
    ) -> None:
        self.world = world
        self.folders: dict[str, Path] = {}
        self.loaded: dict[str, ColaWorldModel] = {}
        for spec in specs.values():
            for name in members(spec) if isinstance(spec, str) else []:
                if name not in (*WITHOUT_CHECKPOINT, *self.loaded):
                    self.folders[name] = find_checkpoint(name, world)
                    self.loaded[name] = _able(
                        name, load_model(self.folders[name], device), world.action_dim
                    )

    def compile(self) -> None:
        for model in self.loaded.values():
            model.compile_repeated_blocks()

    def rendering(self, wanted: str | None) -> str | None:
        """The profile of all of them and of `wanted`; None when none of them has one."""
        for name, model in self.loaded.items():
            own = str(model.config.rendering)
            wanted = wanted or own
            check_same_profile(wanted, own, f"run and its model '{name}'")
        return wanted


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


def make_method(
    label: str,
    spec: ModelSpec,
    models: Checkpoints,
    config: DictConfig,
    tasks: Sequence[str],
    rendering: str,
    device: torch.device,
) -> Method:
    """One method of the run, checked; ColaWorldError for what does not fit."""
    if spec == "random":
        settings = check_random(plain(config.random), models.world.action_dim)
        return Method(label, {}, None, None, {"planner": "none", "checkpoint": None} | settings)
    make_dynamics, settings = _dynamics(spec, models, config, device)
    planner = plain(config.planner)
    if spec == "simulator":
        planner |= plain(config.oracle) or {}
    by_task = plain(config.planner_by_task) or {}
    planners = {task: make_planner(planner | by_task.get(task, {})) for task in tasks}
    settings["planner"] = type(next(iter(planners.values()))).__name__.lower()
    settings["planner_settings"] = planner
    if by_task:
        settings["planner_by_task"] = by_task
    classifier = None
    if is_judged(plain(config.reward)):
        name = members(spec)[0] if isinstance(spec, str) else ""
        places = classifier_places(config.classifier, models.folders.get(name), models.world)
        classifier = load_classifiers(places, ensemble(config), rendering).to(device)
        prints = [fingerprint(*weight_files(place)) for place in places]
        settings["classifier"] = prints if len(prints) > 1 else prints[0]
        if len(prints) > 1:
            settings["ensemble"] = plain(config.ensemble)
    return Method(label, planners, make_dynamics, classifier, settings)


def ensemble(config: DictConfig) -> Combination:
    """How a run combines the members of its ensembles."""
    return Combination(str(config.ensemble.how), float(config.ensemble.penalty))


def _dynamics(
    spec: ModelSpec, models: Checkpoints, config: DictConfig, device: torch.device
) -> tuple[MakeDynamics, dict[str, Any]]:
    if spec == "simulator":
        return lambda pool: [SimulatorDynamics(pool, device)], {"checkpoint": None}
    if spec == "copy":
        return lambda _: [CopyDynamics(device)], {"checkpoint": None}
    if isinstance(spec, Mapping):
        foreign = make_foreign(spec, device, config.context)
        return lambda _: [foreign], {"checkpoint": None, "model": dict(spec)}
    listed = members(spec)
    for name in listed:
        if name in WITHOUT_CHECKPOINT:
            raise ColaWorldError(f"'{name}' cannot be in the ensemble {spec}: it needs no model.")
    sampling = {k: config[k] for k in ("num_inference_steps", "guidance_scale")}
    prints = [fingerprint(*checkpoint_files(models.folders[name])) for name in listed]
    settings = {"checkpoint": spec, "weights": "+".join(prints), **sampling}
    settings |= check_screen(config)
    if len(listed) > 1:
        settings["ensemble"] = plain(config.ensemble)
    worlds = [WorldModelDynamics(models.loaded[name], **sampling) for name in listed]
    return lambda _: worlds, settings


VALUES = "values"
"""As a name in classifier=: the shipped value function of the world."""


def classifier_places(
    given: str | Sequence[str] | None, folder: Path | None, world: WorldInfo
) -> list[Path]:
    """Folders of the classifiers that were asked for, or of the one that belongs to the model in
    `folder`; ColaWorldError when there is none."""
    if given is None:
        place = find_classifier(folder, world)
        if place is None:
            raise ColaWorldError(
                f"There are no shipped classifiers of {world.simulator}; give classifier=FOLDER or "
                "reward=mse."
            )
        return [place]
    named = [given] if isinstance(given, str) else given
    listed = [_shipped_values(world) if n == VALUES else Path(n).expanduser() for n in named]
    places = [find_classifier(place) for place in listed]
    for place, found in zip(listed, places, strict=True):
        if found is None or not found.is_relative_to(place.parent):
            raise ColaWorldError(
                f"There is no classifier in {place}; classifier= takes a folder that holds one of "
                "ours or VP2's <task>.pt files."
            )
    return [place for place in places if place is not None]


def _shipped_values(world: WorldInfo) -> Path:
    place = world.assets / VALUES
    if not place.is_dir():
        raise ColaWorldError(
            f"{world.simulator} has no shipped value function: train one with 'python -m "
            "cola_train.classifier data=FOLDER out=FOLDER discount=0.8' and give classifier=FOLDER."
        )
    return place


def load_classifiers(
    places: Sequence[Path], combine: Combination, rendering: str
) -> TaskClassifier:
    """The classifiers of these folders as one; ColaWorldError for any of another rendering profile
    than that of the goals."""
    loaded: list[TaskClassifier] = [load_classifier(place) for place in places]
    judge = loaded[0] if len(loaded) == 1 else ClassifierEnsemble(loaded, combine)
    check_same_profile(rendering, judge.rendering, "goals and the classifier")
    return judge


def make_planner(settings: dict[str, Any]) -> Any:
    """Build the planner of `_target_`.

    A planner of the user's own gets only those settings that its constructor takes, so that
    `planner._target_=my_package.MyPlanner` runs without a config file of its own.
    Raises ColaWorldError when it cannot be built or has no `plan`.
    """
    try:
        target = hydra.utils.get_class(settings["_target_"])
        taken = inspect.signature(target).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
        if not takes_all and not target.__module__.startswith("planners."):
            given = settings.items()
            settings = {k: v for k, v in given if k in taken or k.startswith("_")}
        planner = hydra.utils.instantiate(settings)
    except Exception as error:
        told = in_short(error)
        raise ColaWorldError(
            f"The planner {settings.get('_target_')} cannot be built: {told}"
        ) from error
    if not callable(getattr(planner, "plan", None)):
        raise ColaWorldError(
            f"The planner {settings['_target_']} has no method plan(cost, action_space, *, "
            "warm_start, seed, batch)."
        )
    return planner
