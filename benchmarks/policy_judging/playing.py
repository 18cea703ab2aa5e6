"""Episodes of policies in the real twin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.policy_judging.contestants import Contestant
from benchmarks.policy_judging.records import TWIN, PlayedEpisode
from benchmarks.vp2_protocol.episodes import EpisodeBatch, play
from benchmarks.vp2_protocol.records import Frame, Rules
from cola_env.goals.goal_set import GoalPair, GoalSet
from cola_env.simulators.loading import make_simulator
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import find_world
from cola_train.controllers import scripts_of

Part = Sequence[tuple[int, GoalPair]]
"""Some problems of one task, with their numbers."""
Played = tuple[PlayedEpisode, Sequence[Frame]]


def play_agent(
    contestant: Contestant, part: Part, pool: SimulatorPool, rules: Rules
) -> Iterator[Played]:
    """What decides by frames, as benchmarks/vp2.py plays it."""
    assert contestant.make is not None
    batch = EpisodeBatch(part, contestant.make(part[0][1].task), pool, rules)
    for episode in play([batch], 1):
        record = PlayedEpisode(
            contestant.name,
            TWIN,
            episode.pair.task,
            episode.index,
            episode.success,
            len(episode.actions),
        )
        yield record, episode.frames


class ScriptedTwin:
    """The simulator of one task, in this process, for scripts: they read its state."""

    def __init__(self, task: str, goals: GoalSet) -> None:
        world = find_world(goals.world)
        self._env: Any = make_simulator(
            world, task, rendering=goals.rendering, action_repeat=goals.action_repeat
        )
        self._make = scripts_of(world).make_controller

    def play(self, contestant: Contestant, index: int, pair: GoalPair, rules: Rules) -> Played:
        """All steps, as a dream that does not see success goes on, too."""
        self._env.restore(self._env.to_snapshot(pair.initial_state))
        rng = np.random.default_rng([rules.seed, index])
        script = self._make(pair.task, self._env, rng, contestant.noise)
        frames, actions, successes = [pair.initial_frame], [], []
        for _ in range(rules.steps):
            actions.append(np.asarray(script.act(), np.float32))
            frame, _, success, _, _ = self._env.step(actions[-1])
            frames.append(frame)
            successes.append(bool(success))
        steps = successes.index(True) + 1 if any(successes) else rules.steps
        record = PlayedEpisode(
            contestant.name,
            TWIN,
            pair.task,
            index,
            any(successes),
            steps,
            actions=tuple(tuple(map(float, action)) for action in actions),
        )
        return record, frames[: steps + 1]

    def close(self) -> None:
        self._env.close()
