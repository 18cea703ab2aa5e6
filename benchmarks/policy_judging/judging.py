"""A whole judging: everything is checked and loaded here, then its episodes are played and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from benchmarks.harness import plain
from benchmarks.policy_judging.contestants import Contestant, Field, ReplayAgent, judging_rules
from benchmarks.policy_judging.imagining import Dreamer
from benchmarks.policy_judging.playing import Part, Played, ScriptedTwin, play_agent
from benchmarks.policy_judging.records import TWIN, JudgingFolder, PlayedEpisode
from benchmarks.vp2_protocol.classifiers import Judge
from benchmarks.vp2_protocol.decisions import Agent
from benchmarks.vp2_protocol.methods import choose_tasks
from benchmarks.vp2_protocol.named_models import NamedModels, names, own_sampling
from benchmarks.vp2_protocol.records import Frame, fingerprint
from cola_env.checkpoints import checkpoint_files
from cola_env.errors import ColaWorldError
from cola_env.goals.loading import goals_files, load_goals
from cola_env.models.loading import pick_device
from cola_env.scoring.rewards import ClassifierReward
from cola_env.scoring.success_classifier import check_task
from cola_env.scoring.trust import find_signal
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import find_world

Key = tuple[str, str, str, int]
"""(policy, world, task, pair) of an episode."""
Progress = Callable[[PlayedEpisode], None]


class Judging:
    """Raises ColaWorldError for anything unknown, missing, or of two rendering profiles."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.world = find_world(config.env)
        self.device = pick_device(config.device)
        torch.set_num_threads(1)
        specs = names(plain(config.model))
        for label, spec in specs.items():
            if not isinstance(spec, str) or label == TWIN:
                raise ColaWorldError(f"model={label} must be a checkpoint here, not '{TWIN}'.")
        wanted: dict[str, Any] = dict(specs)
        if config.planner_model:
            wanted[f"planner: {config.planner_model}"] = config.planner_model
        models = NamedModels(self.world, wanted, self.device)
        if unable := [name for name in wanted.values() if name not in models.loaded]:
            raise ColaWorldError(f"model={unable[0]} must be a checkpoint here.")
        self.goals = load_goals(models.rendering(None), config.goals, self.world)
        self.tasks = choose_tasks(plain(config.tasks), self.goals.tasks)
        self.pairs = {task: self.goals.of(task)[: config.pairs] for task in self.tasks}
        made = Field(
            config, self.world, tuple(self.tasks), models, self.goals.rendering, self.device
        )
        self.contestants = {each.name: each for each in made.contestants()}
        self.dreamers: dict[str, Dreamer] = {}
        settings: dict[str, dict[str, Any]] = {}
        for label, name in specs.items():
            folder, model = models.folders[str(name)], models.loaded[str(name)]
            judge = Judge.load(config.judge, folder, self.world, self.goals.rendering, self.device)
            classifier = judge.classifier
            if classifier.discount:
                raise ColaWorldError("judge= is a value function: give success classifiers.")
            for task in self.tasks:
                check_task(classifier, task)
            signal = find_signal(model, model.action_modes[0], self.world)
            self.dreamers[label] = Dreamer(label, model, classifier, signal, self.world)
            settings[f"dream {label}"] = {
                "weights": fingerprint(*checkpoint_files(folder)),
                "classifiers": judge.weights,
                "threshold": classifier.threshold,
                "trust": signal.name,
                **own_sampling([model]),
            }
        for each in self.contestants.values():
            settings[f"policy {each.name}"] = each.settings
        self.folder = JudgingFolder(Path(config.out))
        self.folder.run.claim(self._identity(), settings)

    @property
    def planned(self) -> list[Key]:
        """Of every episode."""
        return [
            (each.name, world, task, pair)
            for task in self.tasks
            for each in self.contestants.values()
            if task in each.tasks
            for world in (TWIN, *self.dreamers)
            for pair in range(len(self.pairs[task]))
        ]

    def finished(self) -> list[PlayedEpisode]:
        """What has been played of the planned ones."""
        found = (self.folder.load(*key) for key in self.planned)
        return [episode for episode in found if episode is not None]

    def play(self, progress: Progress) -> None:
        """Play what is not finished, keeping every episode as it ends."""
        cores = os.cpu_count() or 1
        workers = self.config.workers or min(16, cores)
        profile = self.goals.rendering, self.goals.action_repeat
        with SimulatorPool(workers, *profile, 1, world=self.world.name) as pool:
            for task in self.tasks:
                able = [each for each in self.contestants.values() if task in each.tasks]
                for played in self._in_twin(task, able, pool):
                    progress(self._keep(played))
                for played in self._in_dreams(task, able):
                    progress(self._keep(played))

    def _in_twin(
        self, task: str, contestants: Iterable[Contestant], pool: SimulatorPool
    ) -> Iterator[Played]:
        twin: ScriptedTwin | None = None
        for each in contestants:
            rules = judging_rules(self.config, each.replan_every)
            for part in self._parts(each.name, TWIN, task):
                if each.make is not None:
                    yield from play_agent(each, part, pool, rules)
                    continue
                twin = twin or ScriptedTwin(task, self.goals)
                for index, pair in part:
                    if self.folder.load(each.name, TWIN, task, index) is None:
                        yield twin.play(each, index, pair, rules)
        if twin is not None:
            twin.close()

    def _in_dreams(self, task: str, contestants: Iterable[Contestant]) -> Iterator[Played]:
        for each in contestants:
            steps = each.replan_every if each.make else self.config.steps
            rules = judging_rules(self.config, steps)
            for label, dreamer in self.dreamers.items():
                for part in self._parts(each.name, label, task):
                    agent = each.make(task) if each.make else self._replay(each.name, part)
                    yield from dreamer.play(each.name, part, agent, rules)

    def _parts(self, policy: str, world: str, task: str) -> Iterator[Part]:
        """The batches that have an episode to play: always the same ones, as an agent's random
        numbers belong to a batch."""
        size = self.config.batch_size
        pairs = list(enumerate(self.pairs[task]))
        for first in range(0, len(pairs), size):
            part = pairs[first : first + size]
            if any(self.folder.load(policy, world, task, index) is None for index, _ in part):
                yield part

    def _replay(self, policy: str, part: Part) -> Agent:
        played = [self.folder.load(policy, TWIN, pair.task, index) for index, pair in part]
        actions = [episode.actions for episode in played if episode is not None]
        return ReplayAgent(np.array(actions, np.float32))

    def _keep(self, played: Played) -> PlayedEpisode:
        episode, frames = played
        if episode.world == TWIN:
            episode = self._seen(episode, frames[1:])
        self.folder.save(episode, frames)
        return episode

    def _seen(self, episode: PlayedEpisode, frames: Sequence[Frame]) -> PlayedEpisode:
        """With what the first model's success classifier says of the real frames."""
        judge = next(iter(self.dreamers.values())).judge
        images = torch.from_numpy(np.stack(frames)).to(self.device).float() / 255
        chances = ClassifierReward(episode.task, judge).success_probability(images).tolist()
        return replace(
            episode,
            probabilities=tuple(round(chance, 4) for chance in chances),
            verdicts=tuple(chance > judge.threshold for chance in chances),
        )

    def _identity(self) -> dict[str, Any]:
        files = goals_files(self.goals.rendering, self.config.goals, self.world)
        kept = ("env", "pairs", "steps", "context", "seed", "batch_size")
        return {
            **{name: self.config[name] for name in kept},
            "rendering": self.goals.rendering,
            "action_repeat": self.goals.action_repeat,
            "goals": fingerprint(*files),
            "device": self.device.type,
        }
