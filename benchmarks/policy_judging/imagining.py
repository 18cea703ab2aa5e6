"""Episodes of policies in a dream, judged by the success classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.policy_judging.playing import Part, Played
from benchmarks.policy_judging.records import PlayedEpisode
from benchmarks.vp2_protocol.decisions import Agent
from benchmarks.vp2_protocol.episodes import LiveEpisode, moment
from benchmarks.vp2_protocol.records import Rules
from cola_env.envs.dream import Dream
from cola_env.envs.starts import Start
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.rewards import ClassifierReward
from cola_env.scoring.success_classifier import TaskClassifier
from cola_env.scoring.trust import TrustSignal
from cola_env.worlds import WorldInfo


@dataclass(frozen=True)
class Dreamer:
    """A model that dreams, what judges its frames, and what tells how far they can be trusted."""

    label: str
    model: ColaWorldModel
    judge: TaskClassifier
    signal: TrustSignal
    world: WorldInfo

    @torch.no_grad()
    def play(self, policy: str, part: Part, agent: Agent, rules: Rules) -> Iterator[Played]:
        """All steps of a batch side by side, also after what looks like success: whether that
        counts is for who reads the record to say."""
        task = part[0][1].task
        live = [LiveEpisode.start(index, pair) for index, pair in part]
        dream = Dream(len(part), task, world=self.world.name, checkpoint=self.model, reward="mse")
        frames = torch.stack([torch.tensor(pair.initial_frame) for _, pair in part])[:, None]
        dream.begin(range(len(part)), self._starts(part, frames, rules.seed))
        memory = self.signal.begin(frames.to(dream.device))
        success = ClassifierReward(task, self.judge)
        chances: list[Tensor] = []
        expected: list[Tensor] = []
        agent.reset(batch=len(part))
        while len(chances) < rules.steps:
            decision = agent.decide(moment(live, rules, part[0][0], len(chances)))
            left = rules.steps - len(chances)
            for actions in decision.actions.unbind(1)[: min(rules.replan_every, left)]:
                taken = dream.check_actions(actions, len(part))
                dream.step(taken)
                memory, compared = self.signal.step(memory, dream.memory, dream.frames, taken)
                chances.append(success.success_probability(dream.frames.float() / 255).cpu())
                expected.append(self.signal.line(compared).cpu())
                for episode, frame, action in zip(live, dream.observations, actions, strict=True):
                    episode.frames.append(frame)
                    episode.actions.append(action.numpy())
        for episode, chance, trust in zip(
            live, torch.stack(chances, 1).tolist(), torch.stack(expected, 1).tolist(), strict=True
        ):
            yield self._record(policy, episode, chance, trust), episode.frames

    def _record(
        self, policy: str, episode: LiveEpisode, chances: list[float], expected: list[float]
    ) -> PlayedEpisode:
        verdicts = tuple(chance > self.judge.threshold for chance in chances)
        solved = any(verdicts)
        return PlayedEpisode(
            policy,
            self.label,
            episode.pair.task,
            episode.index,
            solved,
            verdicts.index(True) + 1 if solved else len(verdicts),
            probabilities=tuple(round(chance, 4) for chance in chances),
            verdicts=verdicts,
            expected=tuple(round(trust, 2) for trust in expected),
        )

    def _starts(self, part: Part, frames: Tensor, seed: int) -> list[Start]:
        """The noise of a dream is its pair's own, the same for all policies."""
        return [
            Start(frame, torch.tensor(pair.goal_frame), None, 1000 * seed + index)
            for frame, (index, pair) in zip(frames, part, strict=True)
        ]
