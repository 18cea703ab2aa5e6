"""The methods that a run compares, made of its settings: what each imagines with, plans with, and
is known by."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig

import planners
from benchmarks.harness import plain
from benchmarks.vp2_protocol.codes import check_latent_actions
from benchmarks.vp2_protocol.planning import (
    CopyDynamics,
    Dynamics,
    SimulatorDynamics,
    VideoPredictionDynamics,
    WorldModelDynamics,
)
from benchmarks.vp2_protocol.records import NO_PLANNER, MethodName, fingerprint
from benchmarks.vp2_protocol.results import VP2, departures
from cola_env.checkpoints import checkpoint_files, find_checkpoint
from cola_env.errors import ColaWorldError, in_short
from cola_env.models.loading import load_model
from cola_env.models.replicas import Replicas, replicated
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.ensembles import ClassifierEnsemble, Combination
from cola_env.scoring.rewards import is_judged
from cola_env.scoring.success_classifier import (
    TaskClassifier,
    find_classifier,
    load_classifier,
    weight_files,
)
from cola_env.scoring.vp2_classifier import IMAGE_SIZE
from cola_env.simulators.pool import SimulatorPool
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo

SHIPPED_MODELS = ("cola", "direct", "random")
WITHOUT_CHECKPOINT = ("simulator", "random", "copy")

ModelSpec = str | Mapping[str, Any]
"""A name, a folder, a hub id, several of them joined by "+", or {"_target_": ..., **arguments}."""
MakeDynamics = Callable[[SimulatorPool], Sequence[Dynamics]]


@dataclass(frozen=True)
class Method:
    """A model with a planner, one for every task. Its dynamics are several for an ensemble; None
    acts at random.

    settings: what decides its results, as JSON values.
    """

    name: MethodName
    planners: Mapping[str, Any]
    make_dynamics: MakeDynamics | None
    classifier: TaskClassifier | None
    settings: dict[str, Any]

    @property
    def own_reward(self) -> str | None:
        """The reward of the simulator itself that it plans against, if it does."""
        return self.settings.get("own_reward")

    @property
    def plans_codes(self) -> bool:
        """Whether it plans in latent codes, and so takes no plans of a policy and no screen."""
        return any(isinstance(each, planners.CategoricalCEM) for each in self.planners.values())


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


def make_methods(
    label: str,
    spec: ModelSpec,
    models: NamedModels,
    config: DictConfig,
    tasks: Sequence[str],
    rendering: str,
    device: torch.device,
) -> list[Method]:
    """A model of the run with each planner, checked; ColaWorldError for what does not fit."""
    if spec == "random":
        settings: dict[str, Any] = {"planner": NO_PLANNER, "checkpoint": None}
        settings |= check_random(plain(config.random), models.world.action_dim)
        settings |= _departures(config, None)
        return [Method(MethodName(label, NO_PLANNER), {}, None, None, settings)]
    make_dynamics, imagining = _dynamics(spec, models, config, device)
    classifier, judging = _classifier(spec, models, config, rendering, device)
    by_task = plain(config.planner_by_task) or {}
    oracle: dict[str, Any] = {}
    if spec == "simulator":
        oracle = plain(config.oracle) or {}
        imagining |= _own_reward(oracle.pop("reward", None), models.world)
    methods = []
    for name, given in named_planners(plain(config.planner)).items():
        if isinstance(make_planner(given), planners.CategoricalCEM):
            first = members(spec)[0] if isinstance(spec, str) else ""
            check_latent_actions(label, models.loaded.get(first))
            if config.screen is not None:
                raise ColaWorldError("planner=codes judges all its candidates: leave out screen=.")
        planner = given | oracle
        built = {task: make_planner(planner | by_task.get(task, {})) for task in tasks}
        name = name or type(next(iter(built.values()))).__name__.lower()
        settings = {**imagining, "planner": name, "planner_settings": planner}
        if by_task:
            settings["planner_by_task"] = by_task
        settings |= judging | _departures(config, given)
        methods.append(Method(MethodName(label, name), built, make_dynamics, classifier, settings))
    return methods


def named_planners(value: Any) -> dict[str | None, dict[str, Any]]:
    """{label: settings} of one planner, which is known by its class (None), or of several."""
    if isinstance(value, Mapping):
        return {None: dict(value)}
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return {label: settings for each in value for label, settings in each.items()}
    raise ColaWorldError(
        f"planner={value} is no planner's settings: lists of names are for benchmarks/vp2.py."
    )


def _departures(config: DictConfig, planner: Mapping[str, Any] | None) -> dict[str, Any]:
    """What protocol=vp2 adds to a method's identity."""
    if config.get("protocol") != VP2:
        return {}
    return {"departures": departures(config, planner)}


def _classifier(
    spec: ModelSpec,
    models: NamedModels,
    config: DictConfig,
    rendering: str,
    device: torch.device,
) -> tuple[TaskClassifier | None, dict[str, Any]]:
    """What judges a model's frames, and what it adds to the identity; nothing for a reward that
    asks no classifier."""
    if not is_judged(plain(config.reward)):
        return None, {}
    name = members(spec)[0] if isinstance(spec, str) else ""
    places = classifier_places(config.classifier, models.folders.get(name), models.world)
    classifier = load_classifiers(places, ensemble(config), rendering).to(device)
    prints = [fingerprint(*weight_files(place)) for place in places]
    if len(prints) > 1:
        return classifier, {"classifier": prints, "ensemble": plain(config.ensemble)}
    return classifier, {"classifier": prints[0]}


def ensemble(config: DictConfig) -> Combination:
    """How a run combines the members of its ensembles."""
    return Combination(str(config.ensemble.how), float(config.ensemble.penalty))


def _own_reward(name: str | None, world: WorldInfo) -> dict[str, Any]:
    """What an oracle that plans against the simulator's own reward adds to its identity."""
    if name is None:
        return {}
    known = world.simulator_class.own_rewards
    if name not in known:
        raise ColaWorldError(
            f"oracle.reward={name} is no reward of {world.simulator} itself: choose one of "
            f"{', '.join(known)}, or null for that of the run."
        )
    return {"own_reward": name}


def _dynamics(
    spec: ModelSpec, models: NamedModels, config: DictConfig, device: torch.device
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
    worlds = [
        WorldModelDynamics(models.loaded[name], models.replicas[name], **sampling)
        for name in listed
    ]
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

    A planner of the user's own gets those settings of ours alone that its constructor takes, so
    that `planner._target_=my_package.MyPlanner` runs without a config file of its own.
    Raises ColaWorldError when it cannot be built or has no `plan`.
    """
    try:
        target = hydra.utils.get_class(settings["_target_"])
        taken = inspect.signature(target).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
        if not takes_all and not target.__module__.startswith("planners."):
            given = settings.items()
            settings = {k: v for k, v in given if k in taken or k not in _settings_of_ours()}
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


@cache
def _settings_of_ours() -> frozenset[str]:
    """The names of all settings of the planners of `planners`."""
    ours = (getattr(planners, name) for name in planners.__all__)
    made = (each for each in ours if callable(getattr(each, "plan", None)))
    return frozenset(name for each in made for name in inspect.signature(each).parameters)


def make_foreign(spec: Mapping[str, Any], device: torch.device, context: int) -> Dynamics:
    """Build the model of `_target_`, with the other keys as its arguments.

    context: real frames that the run keeps for it.
    Raises ColaWorldError when it cannot be built, is neither of the two, or needs more frames.
    """
    target = spec.get("_target_")
    try:
        model = hydra.utils.instantiate(dict(spec))
    except Exception as error:
        told = in_short(error)
        raise ColaWorldError(f"The model {target} cannot be built: {told}") from error
    if hasattr(model, "imagine") and hasattr(model, "device"):
        dynamics: Dynamics = model
        return dynamics
    if not callable(model):
        raise ColaWorldError(
            f"The model {target} is neither a callable of {{'video', 'actions'}} nor has it "
            "imagine(problem) and a device."
        )
    predictor = VideoPredictionDynamics(model, device)
    if predictor.context < 1:
        raise ColaWorldError(f"The model {target} sees num_context={predictor.context} frames.")
    if predictor.context > context:
        raise ColaWorldError(
            f"The model {target} sees num_context={predictor.context} frames, but the run keeps "
            f"{context}: give context={predictor.context}."
        )
    return predictor


def check_screen(config: DictConfig) -> dict[str, Any]:
    """What the screen adds to a run's identity: {} for none; ColaWorldError for an unknown one."""
    if config.screen is None:
        return {}
    if config.screen != "latent":
        raise ColaWorldError(f"Unknown screen '{config.screen}'; choose screen=latent or null.")
    if config.screen_factor < 2:
        raise ColaWorldError(
            f"screen_factor={config.screen_factor} screens nothing: give 2 or more, or screen=null."
        )
    return {"screen": config.screen, "screen_factor": config.screen_factor}


def check_spread(name: str, value: float | Sequence[float], action_dim: int) -> None:
    """ColaWorldError for what is no standard deviation of actions, nor one for each component."""
    spread = np.atleast_1d(value)
    if spread.shape not in ((1,), (action_dim,)) or not (spread >= 0).all():
        raise ColaWorldError(
            f"{name}={value} must be a standard deviation of 0 or more, or one for each of the "
            f"{action_dim} components of an action."
        )


def check_random(settings: Mapping[str, Any], action_dim: int) -> dict[str, Any]:
    """What model=random adds to a run's identity; ColaWorldError for what it cannot draw."""
    check_spread("random.scale", settings["scale"], action_dim)
    if not 0 <= settings["correlation"] < 1:
        raise ColaWorldError(f"random.correlation={settings['correlation']} must be in [0, 1).")
    return {"random": dict(settings)}


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


def choose_tasks(value: str | Sequence[str], available: tuple[str, ...]) -> list[str]:
    """The tasks asked for ("all" for every one); ColaWorldError for one without goals."""
    if value == "all":
        return list(available)
    tasks = list(dict.fromkeys([value] if isinstance(value, str) else value))
    if not tasks:
        raise ColaWorldError("tasks is empty; name at least one, or tasks=all.")
    for task in tasks:
        if task not in available:
            raise ColaWorldError(
                f"There are no goals for task '{task}'; choose tasks=all or some of "
                f"{', '.join(available)}."
            )
    return tasks
