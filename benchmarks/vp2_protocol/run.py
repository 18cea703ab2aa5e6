"""A whole run: its models, its agents, its episodes, and what is written about them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Box
from omegaconf import DictConfig

from benchmarks.vp2_protocol.agents import Agent, MPCAgent, PlanningAgent, RandomActions
from benchmarks.vp2_protocol.dynamics import make_screen
from benchmarks.vp2_protocol.episodes import Batch, Episode, play
from benchmarks.vp2_protocol.methods import (
    Checkpoints,
    Method,
    ensemble,
    make_method,
)
from benchmarks.vp2_protocol.page import write_video
from benchmarks.vp2_protocol.records import (
    EpisodeRecord,
    Rules,
    RunFolder,
    choose_tasks,
    fingerprint,
    names,
    plain,
)
from benchmarks.vp2_protocol.results import protocol_identity
from cola_env.errors import ColaWorldError
from cola_env.goals.loading import goals_files, load_goals
from cola_env.models.loading import pick_device
from cola_env.scoring.lpips_distance import LPIPS
from cola_env.scoring.rewards import make_reward
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import ROBODESK, find_world

Progress = Callable[[EpisodeRecord], None]

DEFAULT_TASKS = 4
"""How many of the world's tasks a run plays that names none."""


class Run:
    """Everything about a run is checked and loaded here, before the first episode.

    Raises ColaWorldError for anything unknown, missing, or of two rendering profiles.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.world = find_world(config.env)
        self.rules = Rules(**{key: plain(config[key]) for key in Rules.__dataclass_fields__})
        if self.rules.judge == "vp2" and self.world is not ROBODESK:
            raise ColaWorldError(f"judge=vp2 and protocol=vp2 are of RoboDesk, not {config.env}.")
        self.combine = ensemble(config)
        self.device = pick_device(config.device)
        torch.set_num_threads(1)
        specs = names(plain(config.model))
        models = Checkpoints(self.world, specs, self.device)
        if config.compile:
            models.compile()
        self.goals = load_goals(models.rendering(config.rendering), config.goals, self.world)
        tasks = plain(config.tasks) or self.world.goal_tasks[:DEFAULT_TASKS]
        self.tasks = choose_tasks(tasks, self.goals.tasks)
        known = {*self.world.tasks, *self.goals.tasks}
        for task in (plain(config.planner_by_task) or {}).keys() - known:
            raise ColaWorldError(
                f"planner_by_task names '{task}', which is no task of {self.world.simulator}; "
                f"choose some of {', '.join(sorted(known))}."
            )
        self.lpips = LPIPS(config.lpips) if config.lpips else None
        self.methods = [
            make_method(label, spec, models, config, self.tasks, self.goals.rendering, self.device)
            for label, spec in specs.items()
        ]
        self.folder = RunFolder(Path(config.out))
        self.folder.claim(self._identity(), {c.label: c.settings for c in self.methods})

    @property
    def planned(self) -> list[tuple[str, str, int]]:
        """(model, task, pair) of every episode of the run."""
        return [
            (method.label, task, pair)
            for method in self.methods
            for task in self.tasks
            for pair in range(min(self.rules.episodes, len(self.goals.of(task))))
        ]

    def records(self) -> list[EpisodeRecord]:
        """The finished episodes among the planned ones."""
        found = (self.folder.load(*episode) for episode in self.planned)
        return [record for record in found if record is not None]

    def finished(self) -> list[EpisodeRecord]:
        """All finished episodes of the folder: also of models and tasks that earlier commands had,
        which these settings allow to stand beside the planned ones."""
        episodes = range(self.rules.episodes)
        found = (
            self.folder.load(model, task, pair)
            for model in self.folder.settings()["models"]
            for task in self.goals.tasks
            for pair in episodes
        )
        return [record for record in found if record is not None]

    def play(self, progress: Progress) -> None:
        """Play what is not finished, saving every episode as it ends."""
        if len(self.records()) == len(self.planned):
            return
        cores = os.cpu_count() or 1
        workers = self.config.workers or min(16, cores)
        threads = self.config.threads or min(4, cores)
        profile = self.goals.rendering, self.goals.action_repeat
        judge = self.rules.judge
        with SimulatorPool(workers, *profile, threads, judge, self.world.name) as pool:
            for method in self.methods:
                for episode in play(self._batches(method, pool), threads):
                    progress(self._save(method.label, episode))

    def _batches(self, method: Method, pool: SimulatorPool) -> Iterator[Batch]:
        for task in self.tasks:
            pairs = list(enumerate(self.goals.of(task)))[: self.rules.episodes]
            for start in range(0, len(pairs), self.rules.batch_size):
                part = pairs[start : start + self.rules.batch_size]
                if all(self.folder.load(method.label, task, index) for index, _ in part):
                    continue
                yield Batch(part, self._agent(method, task, pool), pool, self.rules)

    def _agent(self, method: Method, task: str, pool: SimulatorPool) -> Agent:
        space = Box(-1, 1, self.goals.pairs[0].expert_actions.shape[1:])
        if method.make_dynamics is None:
            random = RandomActions(self.rules.steps, **plain(self.config.random))
            return MPCAgent(random, space, self.rules)
        dynamics = method.make_dynamics(pool)
        return PlanningAgent(
            method.planners[task],
            dynamics,
            make_reward(self.rules.reward, task, method.classifier, lpips=self.lpips),
            space,
            self.rules,
            sequences=128 if self.device.type == "cpu" else 4096,
            combine=self.combine,
            screen=make_screen(self.config, dynamics[0]),
        )

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
        write_video(
            video, episode.frames, episode.imagined, episode.pair.goal_frame, episode.success
        )
        self.folder.save(record)
        return record

    def _identity(self) -> dict[str, Any]:
        files = goals_files(self.goals.rendering, self.config.goals, self.world)
        return {
            "env": self.config.env,
            **self.rules.identity(),
            "rendering": self.goals.rendering,
            "action_repeat": self.goals.action_repeat,
            "goals": fingerprint(*files),
            **protocol_identity(self.config, self.goals.source),
            "device": self.device.type,
        }
