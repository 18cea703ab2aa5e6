"""Common random numbers, finalists and screening: what stochastic world models need."""

import dataclasses
import functools

import pytest
import torch

from planners import CEM, ICEM, MPPI, Gradient, Screened


class Seeded:
    """A cost with noise drawn from the seed it is given, one number a problem."""

    def __init__(self, cost, scale=1.0):
        self.cost, self.scale, self.seeds = cost, scale, []

    def __call__(self, actions, *, seed):
        self.seeds.append(seed)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(actions.shape[0], 1, generator=generator)
        return self.cost(actions) + self.scale * noise


@pytest.mark.parametrize("planner", [CEM(horizon=6), ICEM(horizon=6), MPPI(horizon=6)])
def test_all_calls_of_a_plan_get_one_seed_that_follows_from_the_plans(
    planner, box, tracking, targets
):
    def seeds_of(**arguments):
        cost = Seeded(tracking(targets))
        planner.plan(cost, box(2), batch=3, **arguments)
        assert len(cost.seeds) == planner.iterations + 1
        return set(cost.seeds)

    assert len(seeds_of(seed=1)) == 1 and seeds_of(seed=1) == seeds_of(seed=1)
    assert seeds_of(seed=1) != seeds_of(seed=2)
    assert seeds_of(seed=[1, 2, 3]) != seeds_of(seed=[1, 2, 4])


def test_noise_that_all_candidates_share_does_not_change_the_plan(box, tracking, targets):
    noisy = CEM(horizon=6).plan(Seeded(tracking(targets), scale=5.0), box(2), batch=3)
    exact = CEM(horizon=6).plan(tracking(targets), box(2), batch=3)
    torch.testing.assert_close(noisy.actions, exact.actions, atol=1e-3, rtol=0)


@pytest.mark.parametrize("chunk_size", [None, 17])
def test_common_noise_can_change_with_the_iteration(chunk_size, box, tracking, targets):
    cost = Seeded(tracking(targets))
    planner = CEM(horizon=6, num_samples=50, common_noise="iteration", chunk_size=chunk_size)
    planner.plan(cost, box(2), batch=3)
    calls = 1 if chunk_size is None else 3
    seeds = [cost.seeds[i * calls : (i + 1) * calls] for i in range(3)]
    assert all(len(set(of_iteration)) == 1 for of_iteration in seeds)
    assert len(set(cost.seeds)) == 3


def test_wrapped_costs_methods_and_objects_are_seen_to_take_a_seed(box):
    got = []

    def cost(actions, seed=None):
        got.append(seed)
        return actions.sum((-1, -2))

    class Network(torch.nn.Module):
        def forward(self, actions, seed):
            return cost(actions, seed)

    class Model:
        def cost(self, actions, *, seed):
            return cost(actions, seed)

        def __call__(self, actions, seed=None):
            return cost(actions, seed)

    @functools.wraps(cost)
    def wrapped(*args, **kwargs):
        return cost(*args, **kwargs)

    for takes in (cost, torch.no_grad()(cost), wrapped, Model().cost, Model(),
                  Network(), functools.partial(cost)):  # fmt: skip
        got.clear()
        CEM(horizon=3).plan(takes, box(2))
        assert None not in got and len(set(got)) == 1
    for takes_none in (lambda actions: cost(actions), lambda actions, **kwargs: cost(actions)):
        CEM(horizon=3).plan(takes_none, box(2))
        assert got[-1] is None


def test_gradients_see_the_common_noise_too(box, tracking, targets):
    cost = Seeded(tracking(targets))
    Gradient(horizon=6, iterations=4).plan(cost, box(2), batch=3)
    assert len(cost.seeds) == 4 and len(set(cost.seeds)) == 1


def independent(cost, scale):
    """Noise that every candidate draws for itself."""
    generator = torch.Generator().manual_seed(0)
    return lambda actions: (
        cost(actions) + scale * torch.randn(actions.shape[:2], generator=generator)
    )


def test_finalists_are_evaluated_again_with_new_noise(box, tracking, targets):
    cost = Seeded(tracking(targets))
    planner = CEM(horizon=6, returns="finalist", reevaluations=5)
    plan = planner.plan(cost, box(2), batch=3)
    assert len(cost.seeds) == 3 + 5 and len(set(cost.seeds)) == 1 + 5
    noise = torch.stack(
        [torch.randn(3, 1, generator=torch.Generator().manual_seed(s)) for s in cost.seeds[3:]]
    ).mean(0)
    expected = tracking(targets)(plan.actions.unsqueeze(1)) + noise
    torch.testing.assert_close(plan.cost, expected[:, 0])


def test_the_best_finalist_of_an_exact_cost_is_returned(box):
    def valleys(actions):  # the mean of two valleys is no good
        x = actions[:, :, 0, 0]
        return torch.minimum((x - 0.5).abs(), (x + 0.5).abs() + 0.001)

    mean, finalist = (
        CEM(horizon=1, iterations=1, returns=returns).plan(valleys, box(1), batch=10)
        for returns in ("mean", "finalist")
    )
    assert (finalist.cost <= mean.cost).all() and finalist.cost.mean() < 0.1 * mean.cost.mean()


def test_finalists_and_mean_beat_the_luckiest_candidate_under_noise(box, tracking):
    targets = torch.rand(40, 6, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    true_cost = {}
    for returns in ("mean", "best", "finalist"):
        cost = independent(tracking(targets), scale=2.0)
        plan = CEM(horizon=6, returns=returns).plan(cost, box(2), batch=40)
        true_cost[returns] = tracking(targets)(plan.actions.unsqueeze(1)).mean()
    assert true_cost["mean"] < 0.7 * true_cost["best"]
    assert true_cost["finalist"] < 0.75 * true_cost["best"]


def test_a_finalist_without_a_finite_cost_never_wins(box):
    def cost(actions):  # the mean of two valleys, and only it, has no cost
        x = actions[:, :, 0, 0]
        return torch.where(x.abs() < 0.3, torch.nan, (x.abs() - 0.5).abs())

    plan = CEM(horizon=1, iterations=1, returns="finalist").plan(cost, box(1), batch=3)
    assert (plan.mean.abs() < 0.3).all() and (plan.actions.abs() >= 0.3).all()
    assert plan.cost.isfinite().all()


class Counted:
    def __init__(self, cost):
        self.cost, self.count = cost, 0

    def __call__(self, actions):
        self.count += actions.shape[1]
        return self.cost(actions)


@pytest.mark.parametrize("planner", [CEM(horizon=6), ICEM(horizon=6), MPPI(horizon=6, std=0.5)])
def test_screening_makes_better_plans_from_the_same_number_of_true_evaluations(
    planner, box, tracking
):
    targets = torch.rand(20, 6, 2, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    planner = dataclasses.replace(planner, num_samples=40)
    true, cheap = Counted(tracking(targets)), Counted(tracking(targets + 0.1))
    plain = planner.plan(Counted(tracking(targets)), box(2), batch=20)
    screened = planner.plan(Screened(true, cheap, factor=8), box(2), batch=20)
    assert true.count == planner.iterations * 40 + 1
    assert cheap.count == planner.iterations * 40 * 8
    assert screened.cost.mean() < 0.8 * plain.cost.mean()
    assert all(iteration.costs.shape == (20, 40) for iteration in screened.history)


def test_screening_survives_a_cheap_cost_with_holes_and_passes_the_seed_on(box, tracking, targets):
    def cheap(actions):
        return torch.where(actions[:, :, 0, 0] > 0, -torch.inf, tracking(targets)(actions))

    cost = Seeded(tracking(targets))
    plan = CEM(horizon=6).plan(Screened(cost, cheap), box(2), batch=3)
    assert len(set(cost.seeds)) == 1 and plan.cost.isfinite().all() and plan.non_finite == 0
    assert (plan.elites[:, :, 0, 0] <= 0).all(), "what the cheap cost rules out is not evaluated"
    with pytest.raises(ValueError, match="factor must be at least 2"):
        Screened(cost, cheap, factor=1)


def test_a_screened_cost_is_the_true_one_for_anybody_else(box, tracking, targets):
    cost = Screened(tracking(targets), lambda actions: 1 / 0)
    actions = torch.zeros(3, 2, 6, 2)
    torch.testing.assert_close(cost(actions), tracking(targets)(actions))
    assert cost.device == torch.device("cpu")
