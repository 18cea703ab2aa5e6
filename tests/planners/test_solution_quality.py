"""The plans themselves, against closed forms, formulas and random shooting."""

import pytest
import torch

from planners import CEM, MPPI, AR1Noise, ColoredNoise, RandomShooting, WhiteNoise

WHITE = WhiteNoise()
CONVERGED = [
    CEM(horizon=6, num_samples=300, iterations=25, elite_fraction=0.1, noise=WHITE),
    CEM(horizon=6, num_samples=300, iterations=25, smoothing=0.3, noise=WHITE, returns="best"),
    MPPI(horizon=6, num_samples=1000, iterations=25, std=0.1),
]


def name(planner):
    return f"{type(planner).__name__}-{type(planner.noise).__name__}-{planner.returns}"


@pytest.mark.parametrize("planner", CONVERGED, ids=name)
def test_quadratic_cost_reaches_its_minimum(planner, box, tracking, targets):
    plan = planner.plan(tracking(targets), box(2), batch=3)
    assert (plan.actions - targets).abs().max() < 0.06
    torch.testing.assert_close(plan.cost, tracking(targets)(plan.actions.unsqueeze(1))[:, 0])


@pytest.mark.parametrize("planner", CONVERGED, ids=name)
def test_quadratic_cost_with_its_minimum_outside_ends_on_the_bounds(
    planner, box, tracking, targets
):
    cost = tracking(targets * 3)
    plan = planner.plan(cost, box(2), batch=3)
    lowest, start = (
        cost(actions.unsqueeze(1))[:, 0]
        for actions in ((targets * 3).clamp(-1, 1), torch.zeros_like(targets))
    )
    assert (plan.cost - lowest < 0.03 * (start - lowest)).all()


def test_linear_cost_ends_in_the_right_corner(box, targets):
    plan = CEM(horizon=6, num_samples=300, iterations=15, std=1.0, noise=WHITE).plan(
        lambda actions: (actions * targets.unsqueeze(1)).sum((-1, -2)), box(2), batch=3
    )
    optimum = -targets.abs().sum((-1, -2))
    assert ((plan.cost - optimum) / optimum.abs()).max() < 0.03


def test_linear_system_comes_within_two_percent_of_least_squares(box):
    """x' = A x + B u with quadratic costs: the optimal open-loop plan is a least squares one."""
    horizon, generator = 8, torch.Generator().manual_seed(0)
    a = torch.eye(4) * 0.95 + 0.1 * torch.randn(4, 4, generator=generator)
    b, x0 = torch.randn(4, 2, generator=generator), torch.randn(4, generator=generator)

    def residuals(actions):
        x, out = x0.expand(*actions.shape[:-2], 4), [actions.flatten(-2)]
        for step in actions.unbind(-2):
            x = x @ a.T + step @ b.T
            out.append(x)
        return torch.cat(out, -1)

    offset = residuals(torch.zeros(horizon, 2))
    basis = residuals(torch.eye(horizon * 2).view(-1, horizon, 2)) - offset
    optimum = torch.linalg.lstsq(basis.T, -offset.unsqueeze(1)).solution.view(horizon, 2)
    lowest = residuals(optimum).square().sum()
    assert optimum.abs().max() < 5, "the bounds must not matter"

    for planner in (
        CEM(horizon=horizon, num_samples=400, iterations=20, std=1.0),
        MPPI(horizon=horizon, num_samples=400, iterations=40, std=0.2),
    ):
        plan = planner.plan(lambda u: residuals(u).square().sum(-1), box(2, -5, 5))
        assert plan.cost.item() < 1.02 * lowest.item()


def navigation(offsets):
    """A point goes round a disc to its goal; inside the disc it pays a thousand a step."""

    def cost(actions):
        position = actions.cumsum(2) * 0.2
        centre = torch.stack([torch.full_like(offsets, 0.8), offsets], -1)[:, None, None]
        inside = (position - centre).norm(dim=-1) < 0.4
        goal = torch.tensor([1.6, 0.0])
        return (position - goal).square().sum((-1, -2)) + 1000 * inside.sum(-1)

    return cost


PLANNERS = [
    CEM(horizon=15, returns="best"),
    CEM(horizon=15, returns="best", noise=ColoredNoise(1.0)),
    MPPI(horizon=15, iterations=3, returns="best"),
]


@pytest.mark.parametrize("planner", PLANNERS, ids=name)
@pytest.mark.parametrize("kind", ["obstacle", "tracking"])
def test_better_than_random_shooting_with_the_same_budget(planner, kind, box, tracking):
    generator = torch.Generator().manual_seed(3)
    if kind == "obstacle":
        cost = navigation(torch.rand(20, generator=generator) * 0.3 - 0.15)
    else:
        cost = tracking(torch.rand(20, 15, 2, generator=generator) - 0.5)
    shooting = RandomShooting(horizon=15, iterations=3, noise=planner.noise)
    baseline = shooting.plan(cost, box(2), batch=20)
    plan = planner.plan(cost, box(2), batch=20)
    assert (plan.cost < 1000).all(), "no plan goes through the disc"
    difference = baseline.cost - plan.cost
    assert difference.mean() > 2 * difference.std() / 20**0.5, "two standard errors better"


def test_correlated_noise_helps_where_actions_add_up(box):
    def cost(actions):  # come to rest at (3, -3), thrusting
        velocity = actions.cumsum(2) * 0.2
        position = velocity.cumsum(2) * 0.2
        target = torch.tensor([3.0, -3.0])
        return (position[:, :, -1] - target).square().sum(-1) + velocity[:, :, -1].square().sum(-1)

    white, correlated = (
        CEM(horizon=20, num_samples=100, noise=noise).plan(cost, box(2), batch=20).cost.mean()
        for noise in (WhiteNoise(), AR1Noise(0.5))
    )
    assert correlated < 0.8 * white


def test_one_iteration_is_the_formula_of_the_paper(box, tracking, targets):
    seen = {}

    def cost(actions):
        costs = tracking(targets)(actions)
        if actions.shape[1] > 1:
            seen.update(actions=actions.double(), costs=costs.double())
        return costs

    cem = CEM(horizon=6, num_samples=40, iterations=1, elite_fraction=0.25)
    plan = cem.plan(cost, box(2), batch=3)
    for b in range(3):
        elites = seen["actions"][b][seen["costs"][b].argsort()[:10]]
        torch.testing.assert_close(plan.elites[b].double(), elites)
        torch.testing.assert_close(plan.mean[b].double(), elites.mean(0), atol=1e-6, rtol=1e-5)
        std = elites.std(0, correction=0)
        torch.testing.assert_close(plan.std[b].double(), std, atol=1e-6, rtol=1e-5)

    mppi = MPPI(horizon=6, num_samples=40, temperature=0.7, elite_fraction=0.25)
    plan = mppi.plan(cost, box(2), batch=3)
    for b in range(3):
        costs = seen["costs"][b]
        scale = costs.sort().values[:10].mean() - costs.min()
        weights = (-(costs - costs.min()) / (0.7 * scale)).exp()
        mean = torch.einsum("n,nha->ha", weights / weights.sum(), seen["actions"][b])
        torch.testing.assert_close(plan.mean[b].double(), mean, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_plan_does_not_depend_on_the_scale_or_offset_of_the_cost(scale, box, tracking, targets):
    def cost(actions):
        return tracking(targets)(actions).double() * scale + 100 * scale

    for planner in (CEM(horizon=6), MPPI(horizon=6)):
        plan = planner.plan(cost, box(2), batch=3)
        reference = planner.plan(tracking(targets), box(2), batch=3)
        torch.testing.assert_close(plan.actions, reference.actions, atol=1e-4, rtol=0)


@pytest.mark.parametrize("temperature", [1e-300, 1e-12, 1e-3, 1e12])
def test_mppi_survives_any_temperature_and_huge_costs(temperature, box, tracking, targets):
    planner = MPPI(horizon=6, num_samples=50, iterations=2, temperature=temperature)
    for factor, offset in [(1.0, 0.0), (1e30, 0.0), (1.0, -1e9), (0.0, 3.0)]:
        plan = planner.plan(
            lambda x, f=factor, o=offset: tracking(targets)(x) * f + o, box(2), batch=3
        )
        assert plan.actions.isfinite().all() and plan.cost.isfinite().all()
    coldest = planner.plan(tracking(targets), box(2), batch=3)
    if temperature < 1e-6:
        torch.testing.assert_close(coldest.mean, coldest.elites[:, 0])


def test_random_shooting_returns_the_best_of_uniform_candidates(box, tracking, targets):
    seen = []

    def cost(actions):
        seen.append(actions.clone())
        return tracking(targets)(actions)

    plan = RandomShooting(horizon=6, num_samples=5000, iterations=2).plan(
        cost, box(2, -1, 3), batch=3
    )
    candidates = torch.cat(seen, 1)
    torch.testing.assert_close(plan.cost, tracking(targets)(candidates).amin(1))
    quantiles = torch.quantile(candidates.flatten()[:200_000], torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quantiles, torch.tensor([0.0, 1.0, 2.0]), atol=0.03, rtol=0)
