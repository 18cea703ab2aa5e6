"""The policies that are judged: what acts on a batch of episodes, in the twin as in a dream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.harness import plain
from benchmarks.vp2_protocol.agents import MPCAgent, RandomActions
from benchmarks.vp2_protocol.classifiers import Judge
from benchmarks.vp2_protocol.codes import check_latent_actions
from benchmarks.vp2_protocol.decisions import Agent, Decision, PlanningProblem
from benchmarks.vp2_protocol.dynamics import WorldModelDynamics
from benchmarks.vp2_protocol.methods import check_random
from benchmarks.vp2_protocol.named_models import NamedModels, own_sampling
from benchmarks.vp2_protocol.named_planners import make_planner
from benchmarks.vp2_protocol.planning import planning_agent
from benchmarks.vp2_protocol.proposals import Policy
from benchmarks.vp2_protocol.records import Rules, fingerprint
from cola_env.checkpoints import checkpoint_files, find_checkpoint, finished_phases
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.scoring.rewards import is_judged, make_reward
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo
from cola_train.controllers import scripts_of
from planners import CategoricalCEM

MakeAgent = Callable[[str], Agent]
"""Makes what acts for the episodes of one task; every batch gets one of its own."""


@dataclass(frozen=True)
class Contestant:
    """A policy.

    kind: "script", "random", "clone", "planner" or "ppo".
    tasks: that it can play.
    settings: what decides its episodes, as JSON values.
    make: None for a script, which reads the simulator's state: a dream has none, so it is given
        the actions that the script took in the twin.
    noise: standard deviation of a script's noise.
    replan_every: steps from one decision to the next.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    settings: dict[str, Any]
    make: MakeAgent | None = None
    noise: float = 0.0
    replan_every: int = 1


class FrameAgent:
    """Acts on the present frame alone: `act` gives actions (B, A) for uint8 frames (B, S, S, 3)."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        self._act = act

    def reset(self, *, batch: int) -> None:
        pass

    def select(self, episodes: Tensor) -> None:
        pass

    def decide(self, problem: PlanningProblem) -> Decision:
        return Decision(self._act(problem.frames[:, -1]).cpu()[:, None])


class ReplayAgent:
    """Takes actions (B, T, A) that are known, all by its one decision."""

    def __init__(self, actions: NDArray[np.float32]) -> None:
        self._actions = torch.from_numpy(actions)

    def reset(self, *, batch: int) -> None:
        pass

    def select(self, episodes: Tensor) -> None:
        self._actions = self._actions[episodes]

    def decide(self, problem: PlanningProblem) -> Decision:
        return Decision(self._actions)


class Field:
    """What contestants are made with.

    models: the checkpoints that judge, and that the planner plans in.
    """

    def __init__(
        self,
        config: DictConfig,
        world: WorldInfo,
        tasks: tuple[str, ...],
        models: NamedModels,
        rendering: str,
        device: torch.device,
    ) -> None:
        self.config, self.world, self.tasks = config, world, tasks
        self.models, self.rendering, self.device = models, rendering, device
        self.space = Box(-1, 1, (world.action_dim,))

    def contestants(self) -> list[Contestant]:
        """All that the settings name. Raises ColaWorldError for what there is not, and for two of
        one name."""
        found = [
            *self._scripts(),
            *self._random(),
            *self._clones(),
            *self._planner(),
            *self._ppo(),
        ]
        names = [each.name for each in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ColaWorldError(f"Two policies are called {twice[0]}: give one another label.")
        if not found:
            raise ColaWorldError("There are no policies to judge: give noise=[0] or others.")
        return found

    def _scripts(self) -> list[Contestant]:
        levels = [float(level) for level in plain(self.config.noise) or []]
        if wrong := [level for level in levels if level < 0]:
            raise ColaWorldError(f"noise={wrong} must be standard deviations of 0 or more.")
        scripted = scripts_of(self.world).SCRIPTED_TASKS
        tasks = tuple(task for task in self.tasks if task in scripted)
        return [
            Contestant(f"script {level:g}", "script", tasks, {"noise": level}, noise=level)
            for level in levels
        ]

    def _random(self) -> list[Contestant]:
        given = plain(self.config.random)
        if not given:
            return []
        settings = check_random(given, self.world.action_dim)
        rules = self._rules(1)

        def make(task: str) -> Agent:
            return MPCAgent(RandomActions(rules.steps, **given), self.space, rules)

        return [Contestant("random", "random", self.tasks, settings, make)]

    def _clones(self) -> list[Contestant]:
        """A policy a stage of `clone=OUT`, or those of the folders {label: folder}."""
        given = plain(self.config.clone)
        if not given:
            return []
        if isinstance(given, str):
            run = Path(given).expanduser()
            given = {f"clone {stage}": run / stage for stage in finished_phases(run)}
        return [self._clone(str(label), folder) for label, folder in given.items()]

    def _clone(self, label: str, checkpoint: str | Path) -> Contestant:
        policy = load_policy(checkpoint, self.device, self.world)
        check_same_profile(self.rendering, str(policy.config.rendering), f"goals and {label}")
        if policy.config.action_dim != self.world.action_dim:
            raise ColaWorldError(
                f"{label} gives actions of {policy.config.action_dim} components, "
                f"{self.world.simulator} takes {self.world.action_dim}."
            )
        files = checkpoint_files(find_checkpoint(checkpoint, self.world))
        tasks = tuple(task for task in self.tasks if task in policy.tasks)
        settings = {"checkpoint": str(checkpoint), "weights": fingerprint(*files)}

        def make(task: str) -> Agent:
            return FrameAgent(partial(_act, policy, task))

        return Contestant(label, "clone", tasks, settings, make)

    def _planner(self) -> list[Contestant]:
        name = self.config.planner_model
        if not name:
            return []
        planner, reward = plain(self.config.planner), plain(self.config.reward)
        if isinstance(make_planner(planner), CategoricalCEM):
            check_latent_actions(name, self.models.loaded[name])
        folder = self.models.folders[name]
        judge = None
        if is_judged(reward):
            judge = Judge.load(
                self.config.classifier, folder, self.world, self.rendering, self.device
            )
        settings = {
            "model": name,
            "weights": fingerprint(*checkpoint_files(folder)),
            "classifiers": [] if judge is None else judge.weights,
            "planner": planner,
            "reward": reward,
            "replan_every": self.config.replan_every,
            "final_weight": self.config.final_weight,
            **own_sampling([self.models.loaded[name]]),
        }
        policy, proposing = Policy.of(
            self.config, self.world, self.tasks, self.rendering, self.device
        )
        settings |= proposing
        rules = self._rules(self.config.replan_every)
        dynamics = WorldModelDynamics(self.models.loaded[name])

        def make(task: str) -> Agent:
            classifier = None if judge is None else judge.classifier
            scored, search = make_reward(reward, task, classifier), make_planner(planner)
            return planning_agent(search, [dynamics], scored, self.space, rules, policy=policy)

        return [
            Contestant("planner", "planner", self.tasks, settings, make, 0.0, rules.replan_every)
        ]

    def _ppo(self) -> list[Contestant]:
        """{label: file}, or {label: {task: file}} for agents that know one task each."""
        found = []
        for label, given in (plain(self.config.ppo) or {}).items():
            files = dict(given) if isinstance(given, Mapping) else dict.fromkeys(self.tasks, given)
            paths = {task: Path(file).expanduser() for task, file in files.items()}
            for task, path in paths.items():
                if task not in self.world.tasks:
                    raise ColaWorldError(f"ppo.{label} names '{task}', which is no task.")
                if not path.is_file():
                    raise ColaWorldError(f"There is no file {path} of ppo.{label}.")
            tasks = tuple(task for task in self.tasks if task in paths)
            settings = {task: fingerprint(paths[task]) for task in tasks}
            loaded = {path: self._load_ppo(path) for path in {paths[task] for task in tasks}}
            make = partial(_of_task, {task: loaded[paths[task]] for task in tasks})
            found.append(Contestant(str(label), "ppo", tasks, settings, make))
        return found

    def _load_ppo(self, path: Path) -> Callable[[Tensor], Tensor]:
        try:
            from cola_env.envs.adapters.stable_baselines3 import load_agent
        except ModuleNotFoundError as error:
            raise ColaWorldError(
                "Agents of Stable-Baselines3 need the package: pip install 'colaworld[rl]'."
            ) from error
        return load_agent(path, self.space, self.device)

    def _rules(self, replan_every: int) -> Rules:
        return judging_rules(self.config, replan_every)


def judging_rules(config: DictConfig, replan_every: int) -> Rules:
    """The rules of the episodes of a contestant that decides every so many steps."""
    return Rules(
        reward=plain(config.reward),
        episodes=config.pairs,
        seed=config.seed,
        steps=config.steps,
        replan_every=replan_every,
        context=config.context,
        final_weight=config.final_weight,
        batch_size=config.batch_size,
    )


def _of_task(agents: Mapping[str, Callable[[Tensor], Tensor]], task: str) -> Agent:
    return FrameAgent(agents[task])


def _act(policy: VisualPolicy, task: str, frames: Tensor) -> Tensor:
    return policy.act(frames, task)
