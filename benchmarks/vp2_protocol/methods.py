"""The methods that a run compares, made of its settings: what each imagines with, plans with, and
is known by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig

from benchmarks.harness import plain
from benchmarks.vp2_protocol.classifiers import Judge, ensemble
from benchmarks.vp2_protocol.codes import check_latent_actions
from benchmarks.vp2_protocol.dynamics import (
    CopyDynamics,
    Dynamics,
    SimulatorDynamics,
    VideoPredictionDynamics,
    WorldModelDynamics,
)
from benchmarks.vp2_protocol.named_models import (
    USUAL_SAMPLING,
    WITHOUT_CHECKPOINT,
    ModelSpec,
    NamedModels,
    members,
    own_sampling,
)
from benchmarks.vp2_protocol.named_planners import make_planner, named_planners
from benchmarks.vp2_protocol.records import NO_PLANNER, MethodName, fingerprint
from benchmarks.vp2_protocol.results import VP2, departures
from benchmarks.vp2_protocol.screening import check_screen
from cola_env.checkpoints import checkpoint_files
from cola_env.errors import ColaWorldError, in_short
from cola_env.scoring.rewards import is_judged
from cola_env.scoring.success_classifier import TaskClassifier
from cola_env.simulators.loading import simulator_class
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import WorldInfo
from planners import CategoricalCEM

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
        return any(isinstance(each, CategoricalCEM) for each in self.planners.values())


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
    for name, given in named_planners(config).items():
        if isinstance(make_planner(given), CategoricalCEM):
            first = members(spec)[0] if isinstance(spec, str) else ""
            check_latent_actions(label, models.loaded.get(first))
            if config.screen is not None:
                raise ColaWorldError("planner=codes judges all its candidates: leave out screen=.")
        planner = given | oracle
        built = {task: make_planner(planner | by_task.get(task, {})) for task in tasks}
        settings = {**imagining, "planner": name, "planner_settings": planner}
        if by_task:
            settings["planner_by_task"] = by_task
        settings |= judging | _departures(config, given)
        methods.append(Method(MethodName(label, name), built, make_dynamics, classifier, settings))
    return methods


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
    folder = models.folders.get(name)
    judge = Judge.load(config.classifier, folder, models.world, rendering, device, ensemble(config))
    if len(judge.weights) > 1:
        return judge.classifier, {"classifier": judge.weights, "ensemble": plain(config.ensemble)}
    return judge.classifier, {"classifier": judge.weights[0]}


def _own_reward(name: str | None, world: WorldInfo) -> dict[str, Any]:
    """What an oracle that plans against the simulator's own reward adds to its identity."""
    if name is None:
        return {}
    known = simulator_class(world).own_rewards
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
    sampling = {k: config[k] for k in USUAL_SAMPLING}
    prints = [fingerprint(*checkpoint_files(models.folders[name])) for name in listed]
    settings = {"checkpoint": spec, "weights": "+".join(prints), **sampling}
    settings |= own_sampling([models.loaded[name] for name in listed], sampling)
    settings |= check_screen(config)
    if len(listed) > 1:
        settings["ensemble"] = plain(config.ensemble)
    worlds = [
        WorldModelDynamics(models.loaded[name], models.replicas[name], **sampling)
        for name in listed
    ]
    return lambda _: worlds, settings


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
