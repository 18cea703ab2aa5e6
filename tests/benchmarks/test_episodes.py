from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from benchmarks.vp2_protocol.agents import PlanningAgent
from benchmarks.vp2_protocol.decisions import Decision
from benchmarks.vp2_protocol.episodes import EpisodeBatch, play
from benchmarks.vp2_protocol.records import Rules
from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalPair
from cola_env.scoring.rewards import MSEReward
from cola_env.simulators.pool import Outcome
from planners import CEM, ICEM, MPPI, Chain, Gradient, PlanResult
from tests.marks import needs_memory_peaks


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
        self.seen, self.told = [], []

    def reset(self, *, batch):
        self.told.append(batch)

    def select(self, episodes):
        self.told.append(episodes.tolist())

    def decide(self, problem):
        self.seen.append(problem)
        plans = torch.zeros(len(problem.states), 4, 5)
        plans[..., 0] = 1
        plans[..., 1] = torch.arange(4)
        return Decision(plans, costs=np.arange(len(plans)) + 0.5)


@pytest.fixture
def played():
    agent = Walker()
    rules = Rules("mse", episodes=3, seed=5, steps=8, replan_every=3)
    pairs = list(enumerate([pair(20.0), pair(2.0), pair(5.0)]))
    episodes = list(play([EpisodeBatch(pairs, agent, Counter(), rules)], at_once=1))
    return agent, {episode.index: episode for episode in episodes}


@pytest.mark.parametrize("warmup_steps", [0, 2])
def test_subgoals_are_what_the_scripts_solution_shows_some_steps_on(warmup_steps):
    agent, walk = Walker(), np.zeros((6, 5), np.float32)
    walk[:, 0] = 1
    rules = Rules(
        "mse",
        episodes=1,
        seed=5,
        steps=8,
        replan_every=3,
        subgoal_steps=2,
        warmup_steps=warmup_steps,
    )
    problem = replace(pair(7.0), expert_actions=walk)
    list(play([EpisodeBatch([(0, problem)], agent, Counter(), rules)], at_once=1))
    goals = [float(each.goals[0].mean() * 255) for each in agent.seen]
    assert goals == pytest.approx([20, 50, 200])


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


def test_the_agent_sees_the_last_frames_the_actions_between_and_who_goes_on(played):
    agent, _ = played
    first, second, third = agent.seen
    assert first.frames.shape[:2] == (3, 1) and first.actions.shape == (3, 0, 5)
    assert agent.told == [3, [True, False, True], [True, False]]
    assert second.frames[:, :, 0, 0, 0].tolist() == [[20, 30], [20, 30]]
    assert second.actions[:, 0, :2].tolist() == [[1, 2], [1, 2]]
    assert second.states[:, 1].tolist() == [20, 5]
    assert third.frames[:, :, 0, 0, 0].tolist() == [[50, 60]]
    assert third.states.tolist() == [[6, 20]]
    assert len({problem.seed for problem in agent.seen}) == 3


def test_zero_actions_come_first_and_only_the_idle_ones_count():
    agent = Walker()
    rules = Rules("mse", episodes=1, seed=5, steps=4, replan_every=2, warmup_steps=2, idle_steps=1)
    (episode,) = play([EpisodeBatch([(0, pair(20.0))], agent, Counter(), rules)], at_once=1)
    assert [action[0] for action in episode.actions] == [0, 0, 0, 1, 1, 1]
    assert episode.steps == 4
    assert len(agent.seen) == 2
    assert agent.seen[0].frames.shape[1] == 2 and agent.seen[0].actions.tolist() == [[[0.0] * 5]]


def test_batches_at_once_play_as_one_after_the_other():
    rules = Rules("mse", episodes=4, seed=5, steps=4, replan_every=2)

    def run(at_once):
        agents = [Walker() for _ in range(4)]
        batches = [
            EpisodeBatch([(i, pair(3.0 + i))], agent, Counter(), rules)
            for i, agent in enumerate(agents)
        ]
        episodes = sorted(play(batches, at_once), key=lambda episode: episode.index)
        seeds = [[problem.seed for problem in agent.seen] for agent in agents]
        return [(e.success, len(e.actions)) for e in episodes], seeds

    assert run(1) == run(3)


def test_an_agents_error_ends_the_play():
    class Broken(Walker):
        def decide(self, problem):
            raise RuntimeError("no idea")

    rules = Rules("mse", episodes=1, seed=0)
    with pytest.raises(RuntimeError, match="no idea"):
        list(play([EpisodeBatch([(0, pair(1.0))], Broken(), Counter(), rules)], at_once=2))


def test_the_compilers_settings_reach_the_threads():
    class Asking(Walker):
        def decide(self, problem):
            found.append(torch._dynamo.config.recompile_limit)
            return super().decide(problem)

    found: list[int] = []
    rules = Rules("mse", episodes=1, seed=0, steps=1, replan_every=1)
    with torch._dynamo.config.patch(recompile_limit=77):
        list(play([EpisodeBatch([(0, pair(1))], Asking(), Counter(), rules)], at_once=2))
    assert found == [77]


class Painter:
    """A model that imagines frames as bright as the Counter's walk is long."""

    device = torch.device("cpu")

    def imagine(self, problem):
        start = torch.from_numpy(problem.states[:, 0]).float()[:, None, None]

        def imagination(rows, candidates):
            level = (start[rows] + candidates[..., 0].cumsum(-1)) * 10 / 255
            return level.clamp(0, 1)[..., None, None, None].expand(*level.shape, 64, 64, 3)

        return imagination


def planned(planner, targets, **rules):
    """The finished episodes, of one batch, of a planning agent."""
    rules = Rules("mse", episodes=len(targets), seed=5, **rules)
    space = Box(-1, 1, (5,))
    agent = PlanningAgent(planner, [Painter()], MSEReward(), space, rules)
    batch = EpisodeBatch(list(enumerate(map(pair, targets))), agent, Counter(), rules)
    return sorted(play([batch], at_once=1), key=lambda episode: episode.index)


class Protocol:
    """A planner of someone else's that follows `planners.Planner`; keeps what it was given."""

    def __init__(self, horizon=4):
        self.horizon, self.given = horizon, []

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
        self.given.append((warm_start, seed, batch))
        if warm_start is not None:
            assert warm_start.actions.shape == (batch, self.horizon, 5)
        actions = torch.full((batch, self.horizon, 5), 1.0)
        actions[..., 1] = torch.arange(batch)[:, None] / 10  # tells the problems apart
        actions[..., 2] = torch.arange(self.horizon) / 10  # and the steps
        return PlanResult(actions)


def test_a_planner_that_follows_the_protocol_is_given_its_shifted_plan_of_the_live_episodes():
    planner = Protocol()
    episodes = planned(planner, [20.0, 2.0, 5.0], steps=8, replan_every=3)
    assert [(e.success, len(e.actions)) for e in episodes] == [(False, 8), (True, 2), (True, 5)]
    assert all(e.imagined_psnr() == pytest.approx(100) for e in episodes), "a true model"
    (first, *_), (second, _, two), (third, _, one) = planner.given
    assert first is None and (two, one) == (2, 1)
    assert isinstance(second, PlanResult)
    torch.testing.assert_close(second.actions[:, 0, 1], torch.tensor([0.0, 0.2]))
    torch.testing.assert_close(second.actions[0, :, 2], torch.full((4,), 0.3))
    torch.testing.assert_close(third.actions[:, 0, 1], torch.tensor([0.0]))
    assert len({seed for _, seed, _ in planner.given}) == 3


def test_icem_is_given_the_elites_that_it_kept_shifted():
    """The candidates of the second plan have the shifted elites of the first in them."""

    class Remembering(ICEM):
        def plan(self, cost, action_space, *, warm_start=None, **others):
            def seen(actions):
                populations[-1].append(actions.clone())
                return cost(actions)

            populations.append([])
            starts.append(warm_start)
            plans.append(super().plan(seen, action_space, warm_start=warm_start, **others))
            return plans[-1]

    populations, starts, plans = [], [], []
    planner = Remembering(horizon=4, num_samples=20, iterations=1)
    planned(planner, [20.0, 0.01, 20.0], steps=4, replan_every=2)
    assert len(plans) == 2 and len(plans[0].actions) == 3
    live = torch.tensor([0, 2])
    kept = round(planner.keep_fraction * planner.num_elites)
    expected = plans[0].elites[live][:, :kept, 2:]
    assert kept == 1 and starts[1].elites.shape == (2, 2, 4, 5)
    torch.testing.assert_close(populations[1][0][:, -kept:, :2], expected)


@pytest.mark.parametrize(
    "planner",
    [
        CEM(horizon=4, num_samples=20, max_seconds=9.0, chunk_size=7),
        pytest.param(CEM(horizon=4, num_samples=20, max_memory_gb=1.0), marks=needs_memory_peaks),
        MPPI(horizon=4, num_samples=20, evaluate_plan=False),
        Chain([CEM(horizon=4, num_samples=20), Gradient(horizon=4, iterations=2)]),
    ],
    ids=["chunks", "memory", "MPPI", "chain"],
)
def test_planners_with_budgets_and_chains_play_episodes_that_end_at_different_times(planner):
    episodes = planned(planner, [1e9, 0.5, 1.5], steps=6, replan_every=2)
    steps = [len(episode.actions) for episode in episodes]
    assert steps[0] == 6 and not episodes[0].success
    assert steps[1] < 6 and episodes[1].success
    assert all(np.isfinite(cost) for episode in episodes for cost in episode.costs)


@needs_memory_peaks
def test_the_memory_budget_goes_on_from_one_decision_to_the_next():
    class Remembering(CEM):
        def plan(self, cost, action_space, *, warm_start=None, **others):
            starts.append(warm_start)
            return super().plan(cost, action_space, warm_start=warm_start, **others)

    starts = []
    planned(
        Remembering(horizon=2, num_samples=8, max_memory_gb=1.0), [20.0], steps=4, replan_every=2
    )
    assert starts[1].chunk_size > 1


def test_a_seeded_episode_of_cem_has_the_numbers_that_it_had_before():
    """Written down when the benchmark still shifted its plans itself."""
    first, second = planned(CEM(horizon=4, num_samples=30), [9.0, 2.0], steps=6, replan_every=2)
    assert [action[0] for action in first.actions] == pytest.approx(
        [0.998236, 0.825139, 1.0, 1.0, 1.0, 1.0], abs=1e-5
    )
    assert [action[0] for action in second.actions] == pytest.approx(
        [0.950721, 0.341274, 1.0], abs=1e-5
    )


def test_a_plan_need_not_be_longer_than_the_episode_and_is_told_of_where_it_is_too_short():
    (episode,) = planned(Protocol(horizon=2), [20.0], steps=2, replan_every=3)
    assert len(episode.actions) == 2
    with pytest.raises(ColaWorldError, match="Protocol cannot plan: .*2 actions, too few.*every 3"):
        planned(Protocol(horizon=2), [20.0], steps=8, replan_every=3)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (lambda: PlanResult(torch.full((1, 4, 5), torch.nan)), "NaN or infinite"),
        (lambda: PlanResult(torch.full((1, 4, 5), 1.5)), "outside the action space, by up to 0.5"),
        (lambda: PlanResult(torch.zeros(1, 4, 4)), r"\(1, 4, 4\): it must return .*\(1, H, 5\)"),
        (lambda: torch.zeros(1, 4, 5), "returned Tensor: it must return a planners.PlanResult"),
    ],
)
def test_a_plan_that_cannot_be_executed_is_told_of_in_one_sentence(plan, told):
    class Wrong:
        def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
            return plan()

    with pytest.raises(ColaWorldError, match=f"The planner Wrong cannot plan: .*{told}") as error:
        planned(Wrong(), [20.0])
    assert "\n" not in str(error.value)
