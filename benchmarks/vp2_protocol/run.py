"""A whole run: its models and agents are made here, and its episodes played, batch by batch, and
kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Box
from omegaconf import DictConfig

from benchmarks.harness import plain
from benchmarks.vp2_protocol.agents import MPCAgent, RandomActions, StateOracle
from benchmarks.vp2_protocol.classifiers import ensemble
from benchmarks.vp2_protocol.comparison import planners_differ
from benchmarks.vp2_protocol.decisions import Agent
from benchmarks.vp2_protocol.dynamics import SimulatorDynamics
from benchmarks.vp2_protocol.episodes import EpisodeBatch, LiveEpisode, play
from benchmarks.vp2_protocol.methods import Method, choose_tasks, make_methods
from benchmarks.vp2_protocol.named_models import NamedModels, names
from benchmarks.vp2_protocol.planning import planning_agent
from benchmarks.vp2_protocol.proposals import Policy
from benchmarks.vp2_protocol.records import (
    EpisodeRecord,
    Rules,
    RunFolder,
    fingerprint,
    write_video,
)
from benchmarks.vp2_protocol.results import protocol_identity
from benchmarks.vp2_protocol.screening import check_screen
from cola_env.errors import ColaWorldError
from cola_env.goals.loading import goals_files, load_goals
from cola_env.models.loading import pick_devices
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
        self.screen_factor: int | None = check_screen(config).get("screen_factor")
        self.devices = pick_devices(config.device, plain(config.devices))
        self.device = self.devices[0]
        torch.set_num_threads(1)
        specs = names(plain(config.model))
        models = NamedModels(self.world, specs, *self.devices)
        if config.compile:
            models.compile()
        self.goals = load_goals(models.rendering(config.rendering), config.goals, self.world)
        tasks = plain(config.tasks)
        if tasks is None:
            tasks = self.world.goal_tasks[:DEFAULT_TASKS]
        self.tasks = choose_tasks(tasks, self.goals.tasks)
        self.pairs = {task: self.goals.of(task)[: self.rules.episodes] for task in self.tasks}
        known = {*self.world.tasks, *self.goals.tasks}
        for task in (plain(config.planner_by_task) or {}).keys() - known:
            raise ColaWorldError(
                f"planner_by_task names '{task}', which is no task of {self.world.simulator}; "
                f"choose some of {', '.join(sorted(known))}."
            )
        self.policy, proposing = Policy.of(
            config, self.world, self.tasks, self.goals.rendering, self.device
        )
        self.lpips = LPIPS(config.lpips) if config.lpips else None
        methods = [
            method
            for label, spec in specs.items()
            for method in make_methods(
                label, spec, models, config, self.tasks, self.goals.rendering, self.device
            )
        ]
        planners = {
            each.name.planner
            for each in methods
            if each.make_dynamics is not None and not each.plans_codes
        }
        self.proposed_to = set(plain(config.proposal_for) or planners)
        if proposing and not planners:
            raise ColaWorldError("proposal= is of no use here: no planner of this run takes one.")
        if unknown := sorted(self.proposed_to - planners):
            raise ColaWorldError(
                f"proposal_for={unknown} are none of this run's planners that take proposals: "
                f"{', '.join(sorted(planners)) or 'there are none'}."
            )
        for method in methods:
            if method.make_dynamics is not None and method.name.planner in self.proposed_to:
                method.settings.update(proposing)
        self.folder = RunFolder(Path(config.out))
        alone = not planners_differ(each.name for each in methods)
        self.methods = {self.folder.label(each.name, alone): each for each in methods}
        self.folder.claim(
            self._identity(), {label: each.settings for label, each in self.methods.items()}
        )

    @property
    def planned(self) -> list[tuple[str, str, int]]:
        """(label, task, pair) of every episode of the run, with the labels of its folder."""
        return [
            (label, task, pair)
            for label in self.methods
            for task in self.tasks
            for pair in range(len(self.pairs[task]))
        ]

    def records(self) -> list[EpisodeRecord]:
        """The finished episodes among the planned ones."""
        found = (self.folder.load(*episode) for episode in self.planned)
        return [record for record in found if record is not None]

    def finished(self) -> list[EpisodeRecord]:
        """All finished episodes of the folder: also of models, planners and tasks that earlier
        commands had, which these settings allow to stand beside the planned ones."""
        episodes = range(self.rules.episodes)
        found = (
            self.folder.load(label, task, pair)
            for label in self.folder.settings()["models"]
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
            for label in self.methods:
                for episode in play(self._batches(label, pool), threads):
                    progress(self._save(label, episode))

    def _batches(self, label: str, pool: SimulatorPool) -> Iterator[EpisodeBatch]:
        for task in self.tasks:
            pairs = list(enumerate(self.pairs[task]))
            for start in range(0, len(pairs), self.rules.batch_size):
                part = pairs[start : start + self.rules.batch_size]
                if all(self.folder.load(label, task, index) for index, _ in part):
                    continue
                agent = self._agent(self.methods[label], task, pool)
                yield EpisodeBatch(part, agent, pool, self.rules)

    def _agent(self, method: Method, task: str, pool: SimulatorPool) -> Agent:
        space = Box(-1, 1, self.goals.pairs[0].expert_actions.shape[1:])
        if method.make_dynamics is None:
            random = RandomActions(self.rules.steps, **plain(self.config.random))
            return MPCAgent(random, space, self.rules)
        dynamics = method.make_dynamics(pool)
        planner = method.planners[task]
        reward = make_reward(self.rules.reward, task, method.classifier, lpips=self.lpips)
        if method.own_reward is not None:
            assert isinstance(simulator := dynamics[0], SimulatorDynamics)
            own = method.own_reward
            return StateOracle(planner, simulator, reward, own, space, self.rules)
        return planning_agent(
            planner,
            dynamics,
            reward,
            space,
            self.rules,
            devices=len(self.devices),
            combine=self.combine,
            policy=self.policy if method.name.planner in self.proposed_to else None,
            screen_factor=self.screen_factor,
        )

    def _save(self, label: str, episode: LiveEpisode) -> EpisodeRecord:
        task = episode.pair.task
        record = EpisodeRecord(
            task=task,
            **self.methods[label].name._asdict(),
            pair=episode.index,
            success=episode.success,
            steps=episode.steps,
            costs=tuple(episode.costs),
            imagined_psnr=episode.imagined_psnr(),
            seconds=round(episode.seconds, 2),
            spent={name: round(seconds, 2) for name, seconds in episode.spent.items()},
        )
        video = self.folder.episode(label, task, episode.index, ".mp4")
        write_video(
            video, episode.frames, episode.imagined, episode.pair.goal_frame, episode.success
        )
        self.folder.save(label, record)
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
