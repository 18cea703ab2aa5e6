"""The cross-entropy method over choices."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from planners import MPC, CategoricalCEM, PlanResult, Proposed

SPACE = MultiDiscrete([5, 3], start=[2, -1])


def far_from(wanted):
    """How many choices of a plan are others than those wanted (B, H, A)."""

    def cost(actions):
        assert actions.dtype == torch.long
        assert all(SPACE.contains(action) for action in actions.flatten(0, 2).numpy())
        return (actions != wanted[:, None]).float().sum((-1, -2))

    return cost


@pytest.fixture
def wanted():
    drawn = np.random.default_rng(0).integers([2, -1], [7, 2], (3, 8, 2))
    return torch.from_numpy(drawn)


def test_it_finds_what_random_plans_do_not(wanted):
    """15 ** 8 plans, of which 1,500 are looked at."""
    planner = CategoricalCEM(horizon=8, num_samples=150, iterations=10)
    plan = planner.plan(far_from(wanted), SPACE, batch=3)
    assert torch.equal(plan.actions, wanted) and plan.actions.dtype == torch.long
    assert torch.equal(plan.cost, torch.zeros(3))
    blind = CategoricalCEM(horizon=8, num_samples=1500, iterations=1)
    assert (blind.plan(far_from(wanted), SPACE, batch=3).cost > 3).all()


def test_the_plan_is_the_best_that_was_seen(wanted):
    seen = []
    cost = far_from(wanted)

    def watched(actions):
        seen.append(cost(actions))
        return seen[-1]

    plan = CategoricalCEM(horizon=8, num_samples=20, iterations=4).plan(watched, SPACE, batch=3)
    assert [len(costs[0]) for costs in seen] == [20] * 4
    assert torch.equal(plan.cost, torch.cat(seen, 1).amin(1))
    assert torch.equal(cost(plan.actions[:, None])[:, 0], plan.cost)
    assert [iteration.index for iteration in plan.history] == [0, 1, 2, 3]
    assert (plan.elite_costs.diff() >= 0).all()


def test_the_same_seed_gives_the_same_plan_and_rows_do_not_know_each_other(wanted):
    planner = CategoricalCEM(horizon=8, num_samples=20, iterations=3, repeat=0.3)
    state = torch.get_rng_state()
    first, again = (planner.plan(far_from(wanted), SPACE, batch=3, seed=[4, 5, 6]) for _ in "ab")
    assert torch.equal(first.actions, again.actions)
    assert torch.equal(torch.get_rng_state(), state)
    alone = planner.plan(far_from(wanted[1:2]), SPACE, seed=5)
    assert torch.equal(alone.actions[0], first.actions[1])
    other = planner.plan(far_from(wanted), SPACE, batch=3, seed=7)
    assert not torch.equal(first.actions, other.actions)


def test_what_is_known_is_a_candidate(wanted):
    small = CategoricalCEM(horizon=8, num_samples=4, iterations=1)
    warm = small.plan(far_from(wanted), SPACE, batch=3, warm_start=wanted)
    assert torch.equal(warm.actions, wanted)
    short = small.plan(far_from(wanted), SPACE, batch=3, warm_start=PlanResult(wanted[:, :1]))
    assert (short.cost < 16).all()
    proposed = Proposed(far_from(wanted), torch.stack([wanted, wanted + 0], 1))
    assert torch.equal(small.plan(proposed, SPACE, batch=3).actions, wanted)


def test_the_choices_of_a_warm_start_are_likelier(wanted):
    planner = CategoricalCEM(horizon=8, num_samples=400, iterations=1, warm_start_weight=0.8)
    seen = []

    def cost(actions):
        seen.append(actions)
        return far_from(wanted)(actions)

    planner.plan(cost, SPACE, batch=3, warm_start=wanted)
    alike = (seen[0] == wanted[:, None]).float().mean((0, 1, 2))
    assert alike.numpy() == pytest.approx([0.8 + 0.2 / 5, 0.8 + 0.2 / 3], abs=0.02)


@pytest.mark.parametrize("repeat", [0.0, 0.7])
def test_steps_repeat_as_often_as_said(repeat):
    seen = []

    def cost(actions):
        seen.append(actions)
        return actions.float().sum((-1, -2))

    space = MultiDiscrete([100, 100])
    CategoricalCEM(horizon=6, num_samples=500, iterations=1, repeat=repeat).plan(cost, space)
    same = (seen[0].diff(dim=2) == 0).all(-1).float().mean()
    assert float(same) == pytest.approx(repeat, abs=0.03)


def test_repeated_steps_keep_their_probabilities():
    seen = []

    def cost(actions):
        seen.append(actions)
        return actions.float().sum((-1, -2))

    planner = CategoricalCEM(
        horizon=6, num_samples=2000, iterations=1, repeat=0.5, warm_start_weight=0.9
    )
    wanted = torch.tensor([[[0], [1], [0], [1], [0], [1]]])
    planner.plan(cost, MultiDiscrete([2]), warm_start=wanted)
    alike = (seen[0] == wanted[:, None]).float().mean((0, 1, 3))
    assert alike.numpy() == pytest.approx(np.full(6, 0.95), abs=0.02)


def test_infinite_costs_never_win(wanted):
    cost = far_from(wanted)

    def broken(actions):
        found = cost(actions)
        return torch.where(found < 13, torch.nan, found)

    plan = CategoricalCEM(horizon=8, num_samples=50, iterations=3).plan(broken, SPACE, batch=3)
    assert plan.cost.isfinite().all() and (plan.cost >= 13).all() and plan.non_finite
    with pytest.raises(ValueError, match="every one of the .* candidates"):
        CategoricalCEM(horizon=2).plan(lambda a: a[..., 0, 0] * torch.inf, SPACE)


def test_chunks_change_nothing(wanted):
    sizes = []
    cost = far_from(wanted)

    def watched(actions):
        sizes.append(actions.shape[1])
        return cost(actions)

    whole = CategoricalCEM(horizon=8, num_samples=30, iterations=2)
    parts = CategoricalCEM(horizon=8, num_samples=30, iterations=2, chunk_size=7)
    expected = whole.plan(cost, SPACE, batch=3).actions
    assert torch.equal(parts.plan(watched, SPACE, batch=3).actions, expected)
    assert max(sizes) == 7


class Lock(gym.Env):
    """Opens when three numbers have been dialled in their order."""

    action_space = MultiDiscrete([6, 4])
    observation_space = Box(0, 3, (1,))
    numbers = torch.tensor([[5, 0], [2, 3], [1, 1]])

    def reset(self, *, seed=None, options=None):
        self.dialled = 0
        return np.float32([0]), {}

    def step(self, action):
        right = np.array_equal(action, self.numbers[self.dialled])
        self.dialled = self.dialled + 1 if right else 0
        return np.float32([self.dialled]), float(right), self.dialled == 3, False, {}


def test_a_loop_of_plans_opens_a_lock():
    env = Lock()
    env.reset()
    agent = MPC(CategoricalCEM(horizon=3, num_samples=80, iterations=4))

    def cost(actions):
        left = env.numbers[env.dialled :]
        return -(actions[:, :, : len(left)] == left).float().sum((-1, -2))

    for _ in range(3):
        action = agent.act(cost, env.action_space)[0].numpy()
        assert env.action_space.contains(action)
        terminated = env.step(action)[2]
    assert terminated


@pytest.mark.parametrize(
    "settings, told",
    [
        (dict(horizon=0), "horizon must be a whole number"),
        (dict(elite_fraction=0), r"elite_fraction must be in \(0, 1\]"),
        (dict(smoothing=1.0), r"smoothing must be in \[0, 1\)"),
        (dict(repeat=-0.1), r"repeat must be in \[0, 1\)"),
        (dict(warm_start_weight="a"), "warm_start_weight must be a finite number"),
        (dict(max_seconds=0), "max_seconds must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        CategoricalCEM(**settings)


@pytest.mark.parametrize(
    "space, told",
    [
        (Box(-1, 1, (2,)), "no nvec: this planner searches a MultiDiscrete space"),
        (Discrete(5), "no nvec"),
        (MultiDiscrete([[2, 3], [4, 5]]), "single_action_space"),
        (SimpleNamespace(nvec=[0, 2]), r"nvec \[0, 2\] .* 1 to 65536 choices"),
        (SimpleNamespace(nvec=[2.0, 2.0]), "needs whole numbers"),
        (SimpleNamespace(nvec=[2**40]), "1 to 65536 choices"),
        (SimpleNamespace(nvec=[2, 2], start=[1]), "one each a component"),
    ],
)
def test_other_spaces_are_refused(space, told):
    with pytest.raises(ValueError, match=told):
        CategoricalCEM(horizon=2).plan(lambda a: a.float().sum((-1, -2)), space)


def test_plans_outside_the_space_are_refused(wanted):
    planner = CategoricalCEM(horizon=8)
    for wrong in (wanted + 5, wanted + 0.5):
        with pytest.raises(ValueError, match="warm start must be whole numbers inside"):
            planner.plan(far_from(wanted), SPACE, batch=3, warm_start=wrong)
    with pytest.raises(ValueError, match="warm start has shape"):
        planner.plan(far_from(wanted), SPACE, batch=2, warm_start=wanted)

    for wrong in ("abc", {}):
        with pytest.raises(TypeError, match="warm start must be numbers"):
            planner.plan(far_from(wanted), SPACE, batch=3, warm_start=wrong)
    backwards = wanted.numpy()[:, ::-1].astype(np.int16)
    plan = planner.plan(far_from(wanted), SPACE, batch=3, warm_start=backwards)
    assert plan.cost.isfinite().all()
    no_elites = PlanResult(wanted, elites=wanted[:, None][:, :0])
    assert (planner.plan(far_from(wanted), SPACE, batch=3, warm_start=no_elites).cost == 0).all()

    class Outside:
        def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
            return PlanResult(torch.full((batch, 4, 2), 9))

    with pytest.raises(ValueError, match="the planner returned must be whole numbers inside"):
        MPC(Outside()).act(far_from(wanted), SPACE)
