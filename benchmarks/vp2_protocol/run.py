"""A whole run: its models, its agents, its episodes, and what is written about them."""

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from gymnasium.spaces import Box
from omegaconf import DictConfig, OmegaConf

from benchmarks.vp2_protocol.agents import Agent, Dynamics, PlanningAgent, RandomAgent
from benchmarks.vp2_protocol.dynamics import SimulatorDynamics, WorldModelDynamics
from benchmarks.vp2_protocol.episodes import Batch, Episode, play
from benchmarks.vp2_protocol.records import EpisodeRecord, RunFolder
from benchmarks.vp2_protocol.settings import (
    WITHOUT_CHECKPOINT,
    Rules,
    choose_tasks,
    fingerprint,
    names,
)
from benchmarks.vp2_protocol.simulation import SimulatorPool
from benchmarks.vp2_protocol.video import write_video
from cola_env.checkpoints import WEIGHTS, find_checkpoint, load_model, pick_device
from cola_env.classifier import SuccessClassifier, find_classifier, load_classifier
from cola_env.errors import ColaWorldError
from cola_env.goals import GOALS_FOLDER, GoalSet, load_goals
from cola_env.rewards import REWARDS, make_reward
from cola_env.simulators.rendering import check_same_profile

Progress = Callable[[EpisodeRecord], None]


@dataclass(frozen=True)
class Contestant:
    """A model of the run: its label, its planner, and its dynamics (None acts at random).

    settings: what decides its results, as JSON values.
    """

    label: str
    planner: Any
    make_dynamics: Callable[[SimulatorPool], Dynamics] | None
    classifier: SuccessClassifier | None
    settings: dict[str, Any]


class Run:
    """Everything about a run is checked and loaded here, before the first episode.

    Raises ColaWorldError for anything unknown, missing, or of two rendering profiles.
    """

    def __init__(self, config: DictConfig) -> None:
        if config.env != "robodesk":
            raise ColaWorldError(f"env={config.env} has no goals here; use env=robodesk.")
        if config.reward not in REWARDS:
            raise ColaWorldError(
                f"Unknown reward '{config.reward}'; choose one of {', '.join(REWARDS)}."
            )
        self.config = config
        self.device = pick_device(config.device)
        torch.set_num_threads(1)
        labels = names(config.model)
        folders = {
            label: find_checkpoint(name)
            for label, name in labels.items()
            if name not in WITHOUT_CHECKPOINT
        }
        self.models = {label: load_model(path, self.device) for label, path in folders.items()}
        if config.compile:
            torch._dynamo.config.recompile_limit = 64  # a graph for each length of past and future
            for model in self.models.values():
                model.compile_repeated_blocks()
        self.goals = self._load_goals()
        self.tasks = choose_tasks(config.tasks, self.goals.tasks)
        self.rules = Rules(**{key: config[key] for key in Rules.__dataclass_fields__})
        self.contestants = [
            self._contestant(label, name, folders.get(label)) for label, name in labels.items()
        ]
        self.folder = RunFolder(Path(config.out))
        self.folder.claim(self._identity(), {c.label: c.settings for c in self.contestants})

    @property
    def planned(self) -> list[tuple[str, str, int]]:
        """(model, task, pair) of every episode of the run."""
        return [
            (contestant.label, task, pair)
            for contestant in self.contestants
            for task in self.tasks
            for pair in range(min(self.rules.episodes, len(self.goals.of(task))))
        ]

    def records(self) -> list[EpisodeRecord]:
        """The finished episodes among the planned ones."""
        found = (self.folder.load(*episode) for episode in self.planned)
        return [record for record in found if record is not None]

    def play(self, progress: Progress) -> None:
        """Play what is not finished, saving every episode as it ends."""
        if len(self.records()) == len(self.planned):
            return
        cores = os.cpu_count() or 1
        workers = self.config.workers or min(16, cores)
        threads = self.config.threads or min(4, cores)
        profile = self.goals.rendering, self.goals.action_repeat
        with SimulatorPool(workers, *profile, tasks=threads) as pool:
            for contestant in self.contestants:
                for episode in play(self._batches(contestant, pool), threads):
                    progress(self._save(contestant.label, episode))

    def _batches(self, contestant: Contestant, pool: SimulatorPool) -> Iterator[Batch]:
        for task in self.tasks:
            agent: Agent | None = None
            pairs = list(enumerate(self.goals.of(task)))[: self.rules.episodes]
            for start in range(0, len(pairs), self.rules.batch_size):
                part = pairs[start : start + self.rules.batch_size]
                if all(self.folder.load(contestant.label, task, index) for index, _ in part):
                    continue
                agent = agent or self._agent(contestant, task, pool)
                yield Batch(part, agent, pool, self.rules)

    def _agent(self, contestant: Contestant, task: str, pool: SimulatorPool) -> Agent:
        space = Box(-1, 1, self.goals.pairs[0].expert_actions.shape[1:])
        if contestant.make_dynamics is None:
            return RandomAgent(space, self.rules.steps)
        reward = make_reward(self.rules.reward, task, contestant.classifier)
        dynamics = contestant.make_dynamics(pool)
        sequences = 128 if self.device.type == "cpu" else 4096
        return PlanningAgent(contestant.planner, dynamics, reward, space, self.rules, sequences)

    def _save(self, label: str, episode: Episode) -> EpisodeRecord:
        task = episode.pair.task
        record = EpisodeRecord(
            task=task,
            model=label,
            pair=episode.index,
            success=episode.success,
            steps=len(episode.actions),
            costs=tuple(episode.costs),
            imagined_psnr=episode.imagined_psnr(),
            seconds=round(episode.seconds, 2),
            spent={name: round(seconds, 2) for name, seconds in episode.spent.items()},
        )
        video = self.folder.episode(label, task, episode.index, ".mp4")
        video.parent.mkdir(parents=True, exist_ok=True)
        write_video(
            video, episode.frames, episode.imagined, episode.pair.goal_frame, episode.success
        )
        self.folder.save(record)
        return record

    def _load_goals(self) -> GoalSet:
        renderings = {label: str(m.config.rendering) for label, m in self.models.items()}
        profile = self.config.rendering or next(iter(renderings.values()), "fast")
        for label, rendering in renderings.items():
            check_same_profile(profile, rendering, f"run and its model '{label}'")
        return load_goals(profile, self.config.goals)

    def _contestant(self, label: str, name: str, folder: Path | None) -> Contestant:
        if name == "random":
            return Contestant(label, None, None, None, {"planner": "none", "checkpoint": None})
        planner = _plain(self.config.planner)
        settings: dict[str, Any] = {"checkpoint": None}
        make_dynamics: Callable[[SimulatorPool], Dynamics]
        if name == "simulator":
            planner |= _plain(self.config.oracle)

            def make_dynamics(pool: SimulatorPool) -> Dynamics:
                return SimulatorDynamics(pool, self.device)
        else:
            weights = fingerprint(find_checkpoint(name) / WEIGHTS)
            sampling = {k: self.config[k] for k in ("num_inference_steps", "guidance_scale")}
            settings = {"checkpoint": name, "weights": weights, **sampling}

            def make_dynamics(pool: SimulatorPool) -> Dynamics:
                return WorldModelDynamics(self.models[label], **sampling)

        made = make_planner(planner)
        settings["planner"] = type(made).__name__.lower()
        settings["planner_settings"] = planner
        classifier = None
        if self.config.reward != "mse":
            place = find_classifier(self.config.classifier or folder)
            classifier = load_classifier(place).to(self.device)
            profiles = self.goals.rendering, classifier.rendering
            check_same_profile(*profiles, "goals and the classifier")
            settings["classifier"] = place and fingerprint(place / WEIGHTS)
        return Contestant(label, made, make_dynamics, classifier, settings)

    def _identity(self) -> dict[str, Any]:
        path = self.config.goals or GOALS_FOLDER / f"{self.goals.rendering}.npz"
        return {
            "env": self.config.env,
            **self.rules.identity(),
            "rendering": self.goals.rendering,
            "action_repeat": self.goals.action_repeat,
            "goals": fingerprint(Path(path)),
            "device": self.device.type,
        }


def _plain(config: DictConfig) -> dict[str, Any]:
    return {str(k): v for k, v in OmegaConf.to_container(config, resolve=True).items()}  # type: ignore[union-attr]


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
        raise ColaWorldError(
            f"The planner {settings.get('_target_')} cannot be built: {error}".splitlines()[0]
        ) from error
    if not callable(getattr(planner, "plan", None)):
        raise ColaWorldError(
            f"The planner {settings['_target_']} has no method plan(cost, action_space, *, "
            "warm_start, seed, batch)."
        )
    return planner
