from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.vp2_protocol.agents import Decision
from benchmarks.vp2_protocol.episodes import Batch, play
from benchmarks.vp2_protocol.settings import Rules
from benchmarks.vp2_protocol.simulation import Outcome
from cola_env.errors import ColaWorldError
from cola_env.goals import GoalPair


def pair(target: float) -> GoalPair:
    return GoalPair(
        task="push_red",
        initial_state=np.array([0.0, target]),
        initial_frame=np.zeros((64, 64, 3), np.uint8),
        goal_state=np.array([target, target]),
        goal_frame=np.full((64, 64, 3), 200, np.uint8),
        expert_actions=np.zeros((2, 5), np.float32),
        start_index=0,
        seed=0,
    )


class Counter:
    """A pool whose state is (sum of the first action, target); success at the target."""

    def advance(self, task, state, actions):
        position, target = state
        frames = []
        for action in actions:
            position += action[0]
            frames.append(np.full((64, 64, 3), round(10 * position), np.uint8))
            if position >= target:
                break
        future: Future[Outcome] = Future()
        success = bool(position >= target)
        future.set_result(Outcome(np.stack(frames), np.array([position, target]), success))
        return future


class Walker:
    """Walks one unit a step and keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def decide(self, situation):
        self.seen.append(situation)
        plans = torch.zeros(len(situation.states), 4, 5)
        plans[..., 0] = 1
        plans[..., 1] = torch.arange(4)
        return Decision(plans, costs=np.arange(len(plans)) + 0.5)


@pytest.fixture
def played():
    agent = Walker()
    rules = Rules("mse", episodes=3, seed=5, steps=8, replan_every=3)
    pairs = list(enumerate([pair(20.0), pair(2.0), pair(5.0)]))
    episodes = list(play([Batch(pairs, agent, Counter(), rules)], at_once=1))
    return agent, {episode.index: episode for episode in episodes}


def test_every_episode_ends_at_success_or_at_the_limit(played):
    _, episodes = played
    assert {i: (e.success, len(e.actions)) for i, e in episodes.items()} == {
        0: (False, 8),
        1: (True, 2),
        2: (True, 5),
    }
    for episode in episodes.values():
        assert len(episode.frames) == len(episode.imagined) == len(episode.actions) + 1
    assert [len(episodes[i].costs) for i in range(3)] == [3, 1, 2]


def test_the_agent_sees_the_last_frames_the_actions_between_and_its_moved_plan(played):
    agent, _ = played
    first, second, third = agent.seen
    assert first.frames.shape[:2] == (3, 1) and first.actions.shape == (3, 0, 5)
    assert first.plans is None
    assert second.frames[:, :, 0, 0, 0].tolist() == [[20, 30], [20, 30]]
    assert second.actions[:, 0, :2].tolist() == [[1, 2], [1, 2]]
    assert second.states[:, 1].tolist() == [20, 5]
    assert second.plans[0, :, 1].tolist() == [3, 3, 3, 3]
    assert third.frames[:, :, 0, 0, 0].tolist() == [[50, 60]]
    assert third.states.tolist() == [[6, 20]]
    assert len({situation.seed for situation in agent.seen}) == 3


def test_zero_actions_come_first_and_only_the_idle_ones_count():
    agent = Walker()
    rules = Rules("mse", episodes=1, seed=5, steps=4, replan_every=2, warmup_steps=2, idle_steps=1)
    (episode,) = play([Batch([(0, pair(20.0))], agent, Counter(), rules)], at_once=1)
    assert [action[0] for action in episode.actions] == [0, 0, 0, 1, 1, 1]
    assert len(agent.seen) == 2 and agent.seen[0].plans is None
    assert agent.seen[0].frames.shape[1] == 2 and agent.seen[0].actions.tolist() == [[[0.0] * 5]]


def test_a_plan_need_not_be_longer_than_the_episode():
    rules = Rules("mse", episodes=1, seed=5, steps=2, replan_every=3)

    class Short(Walker):
        def decide(self, situation):
            decision = super().decide(situation)
            return replace(decision, plans=decision.plans[:, :2])

    (episode,) = play([Batch([(0, pair(20.0))], Short(), Counter(), rules)], at_once=1)
    assert len(episode.actions) == 2


def test_batches_at_once_play_as_one_after_the_other():
    rules = Rules("mse", episodes=4, seed=5, steps=4, replan_every=2)

    def run(at_once):
        agents = [Walker() for _ in range(4)]
        batches = [
            Batch([(i, pair(3.0 + i))], agent, Counter(), rules) for i, agent in enumerate(agents)
        ]
        episodes = sorted(play(batches, at_once), key=lambda episode: episode.index)
        seeds = [[situation.seed for situation in agent.seen] for agent in agents]
        return [(e.success, len(e.actions)) for e in episodes], seeds

    assert run(1) == run(3)


def test_an_agents_error_ends_the_play():
    class Broken:
        def decide(self, situation):
            raise RuntimeError("no idea")

    rules = Rules("mse", episodes=1, seed=0)
    with pytest.raises(RuntimeError, match="no idea"):
        list(play([Batch([(0, pair(1.0))], Broken(), Counter(), rules)], at_once=2))


def test_a_plan_that_is_too_short_is_told():
    rules = Rules("mse", episodes=1, seed=0, steps=8, replan_every=5)
    with pytest.raises(ColaWorldError, match="A plan has 4 actions, of which replan_every=5"):
        list(play([Batch([(0, pair(20.0))], Walker(), Counter(), rules)], at_once=1))


def test_the_compilers_settings_reach_the_threads():
    class Asking(Walker):
        def decide(self, situation):
            found.append(torch._dynamo.config.recompile_limit)
            return super().decide(situation)

    found: list[int] = []
    rules = Rules("mse", episodes=1, seed=0, steps=1, replan_every=1)
    with torch._dynamo.config.patch(recompile_limit=77):
        list(play([Batch([(0, pair(1))], Asking(), Counter(), rules)], at_once=2))
    assert found == [77]
