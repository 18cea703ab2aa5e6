"""ICEM, PredictiveSampling, the control cost of MPPI, gradients and chains."""

import dataclasses

import pytest
import torch

from planners import (
    CEM,
    ICEM,
    LBFGS,
    MPPI,
    AR1Noise,
    Chain,
    Gradient,
    PredictiveSampling,
    Proposed,
    WhiteNoise,
)


def recorder(cost):
    """The cost, and the list of all actions that it was called with."""
    seen = []

    def recording(actions):
        seen.append(actions.clone())
        return cost(actions)

    return recording, seen


def contains(candidates, plan):
    """(B,): whether the plans (B, H, A) are among the candidates (B, N, H, A)."""
    return (candidates == plan.unsqueeze(1)).all(-1).all(-1).any(1)


def test_icem_keeps_its_best_elites_and_ends_with_the_mean(box, tracking, targets):
    cost, seen = recorder(tracking(targets))
    planner = ICEM(horizon=6, num_samples=100, iterations=3, elite_fraction=0.1, keep_fraction=0.3)
    plan = planner.plan(cost, box(2), batch=3)
    for before, after in zip(seen[:2], seen[1:3], strict=True):
        order = tracking(targets)(before).argsort(dim=1)
        for rank in range(3):
            best = before[torch.arange(3), order[:, rank]]
            assert contains(after, best).all(), "three of ten elites are evaluated again"
        assert not contains(after, before[torch.arange(3), order[:, 3]]).any()
    assert contains(seen[2], plan.history[1].mean).all()
    assert not contains(seen[1], plan.history[0].mean).any()
    best = torch.stack([iteration.best for iteration in plan.history])
    assert (best.diff(dim=0) <= 0).all(), "so that the best never gets worse"


def test_icem_starts_from_the_elites_of_a_warm_start(box, tracking, targets):
    planner = ICEM(horizon=6, num_samples=100, elite_fraction=0.1)
    plan = planner.plan(tracking(targets), box(2), batch=3).shift(1)
    cost, seen = recorder(tracking(targets))
    planner.plan(cost, box(2), batch=3, warm_start=plan)
    assert contains(seen[0], plan.elites[:, 0]).all()
    cost, seen = recorder(tracking(targets))
    planner.plan(cost, box(2), batch=3, warm_start=plan.actions)
    assert not contains(seen[0], plan.elites[:, 0]).any()


def test_icem_population_decays_to_twice_the_elites(box, tracking, targets):
    planner = ICEM(horizon=6, num_samples=100, iterations=6, elite_fraction=0.2, decay=2.0)
    plan = planner.plan(tracking(targets), box(2), batch=3)
    assert [i.costs.shape[1] for i in plan.history] == [100, 50, 40, 40, 40, 40]


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_icem_works_with_very_few_samples(samples, box, tracking, targets):
    planner = ICEM(horizon=6, num_samples=samples, keep_fraction=1.0, elite_fraction=1.0)
    plan = planner.plan(tracking(targets), box(2), batch=3)
    again = planner.plan(tracking(targets), box(2), batch=3, warm_start=plan)
    assert (again.cost <= plan.elite_costs[:, 0] + 10).all()


def test_predictive_sampling_never_gets_worse_than_its_warm_start(box, tracking, targets):
    planner = PredictiveSampling(horizon=6, num_samples=10)
    plan = targets + 0.05
    before = tracking(targets)(plan.unsqueeze(1))[:, 0]
    for seed in range(30):
        result = planner.plan(tracking(targets), box(2), batch=3, warm_start=plan, seed=seed)
        assert (result.cost <= before).all()
        plan, before = result.actions, result.cost
    several = dataclasses.replace(planner, iterations=30)
    better = several.plan(tracking(targets), box(2), batch=3)
    assert (better.history[-1].best <= better.history[0].best).all()
    assert (better.cost < better.history[0].best).all()


def test_predictive_sampling_keeps_the_first_proposal_unless_another_is_better_by_the_margin(
    box, tracking, targets
):
    plans = torch.stack([0.6 * targets, 0.8 * targets], dim=1)
    cost = tracking(targets)
    first, other = cost(plans).T
    ahead = first - other
    for margin, chosen in ((0.0, other), (0.9 * ahead.min(), other), (1.1 * ahead.max(), first)):
        planner = PredictiveSampling(horizon=6, num_samples=3, margin=float(margin))
        found = planner.plan(Proposed(cost, plans), box(2), batch=3, warm_start=0.4 * targets)
        torch.testing.assert_close(found.cost, chosen)
        torch.testing.assert_close(cost(found.actions[:, None])[:, 0], chosen)
    for warm in (None, targets):
        found = planner.plan(cost, box(2), batch=3, warm_start=warm)
        assert (found.cost < found.history[0].costs.amax(1)).all(), "without proposals as ever"
    with pytest.raises(ValueError, match="margin must be at least 0, not -1"):
        PredictiveSampling(horizon=6, margin=-1)


@pytest.mark.parametrize("noise", [WhiteNoise(), AR1Noise(0.6), AR1Noise([0.3, 0.8])], ids=str)
def test_the_control_cost_of_mppi_is_the_term_of_the_paper(noise, box, tracking, targets):
    cost, seen = recorder(tracking(targets))
    mean = targets / 2
    planner = MPPI(
        horizon=6, num_samples=50, std=[0.3, 0.1], noise=noise, control_cost=1.0, temperature=0.5
    )
    plan = planner.plan(cost, box(2), batch=3, warm_start=mean)
    mixing = torch.eye(6) if noise.matrix(6) is None else noise.matrix(6)
    scaled = torch.zeros(6, 2, 6, 2, dtype=torch.float64)
    for component, std in enumerate((0.3, 0.1)):
        scaled[:, component, :, component] = mixing.expand(2, 6, 6)[component] * std
    scaled = scaled.view(12, 12)
    precision = torch.linalg.inv(scaled @ scaled.T)  # of the 12 actions of a plan
    for b in range(3):
        actions = seen[0][b].double().flatten(1)
        costs = tracking(targets)(seen[0])[b].double()
        scale = 0.5 * (costs.sort().values[: planner.num_elites].mean() - costs.min())
        logits = -(costs - costs.min()) / scale - actions @ precision @ mean[b].flatten().double()
        expected = logits.softmax(0) @ actions
        torch.testing.assert_close(plan.mean[b].flatten().double(), expected, atol=1e-4, rtol=1e-3)


def test_the_control_cost_draws_towards_zero(box, tracking, targets):
    free, held = (
        MPPI(horizon=6, iterations=10, num_samples=1000, control_cost=weight).plan(
            tracking(targets), box(2), batch=3, warm_start=targets
        )
        for weight in (0.0, 1.0)
    )
    assert held.actions.norm() < 0.8 * free.actions.norm()


def rosenbrock(actions):
    x = actions.flatten(2) * 2
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


DESCENT = [Gradient(horizon=6, iterations=300), LBFGS(horizon=6, iterations=100)]
descent = pytest.mark.parametrize("planner", DESCENT, ids=lambda p: type(p).__name__)


@descent
def test_gradients_find_the_floor_of_a_curved_valley(planner, box):
    plan = planner.plan(rosenbrock, box(2), batch=2)
    torch.testing.assert_close(plan.actions, torch.full((2, 6, 2), 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(plan.cost, rosenbrock(plan.actions.unsqueeze(1))[:, 0])


@descent
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_gradients_do_not_depend_on_the_scale_of_the_cost(planner, scale, box):
    planner = dataclasses.replace(planner, iterations=30)
    plan = planner.plan(rosenbrock, box(2))
    scaled = planner.plan(lambda actions: rosenbrock(actions).double() * scale, box(2))
    torch.testing.assert_close(scaled.cost.float() / scale, plan.cost, rtol=0.1, atol=1e-2)


@descent
def test_gradients_end_on_the_bounds_where_the_minimum_lies_outside(
    planner, box, tracking, targets
):
    weights = torch.randn(12, 12, generator=torch.Generator().manual_seed(2))

    def cost(actions):
        return ((actions - 2 * targets.unsqueeze(1)).flatten(2) @ weights).square().sum(-1)

    plan = planner.plan(cost, box(2), batch=3)
    x = plan.actions.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(x.unsqueeze(1)).sum(), x)
    inside = (x.abs() < 0.999).detach()
    assert inside.any() and not inside.all()
    start = torch.zeros_like(plan.actions, requires_grad=True)
    (steepest,) = torch.autograd.grad(cost(start.unsqueeze(1)).sum(), start)
    assert slope[inside].abs().max() < 0.02 * steepest.abs().max(), "no slope inside"
    assert (slope * x)[~inside].max() < 0, "and outwards on the bounds"


@descent
def test_gradient_planners_need_a_differentiable_cost(planner, box):
    for cost in (
        lambda actions: torch.from_numpy(actions.detach().numpy().sum((-1, -2))),
        lambda actions: actions.detach().sum((-1, -2)),
        lambda actions: torch.ones(actions.shape[:2], requires_grad=True),
    ):
        with pytest.raises(ValueError, match="not differentiable"):
            planner.plan(cost, box(2))


@descent
def test_gradients_work_under_no_grad_and_inference_mode_and_leave_no_graph(
    planner, box, tracking, targets
):
    planner = dataclasses.replace(planner, iterations=20)
    weight = torch.ones(2, requires_grad=True)

    def cost(actions):
        return tracking(targets)(actions * weight)

    plain = planner.plan(cost, box(2), batch=3)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            plan = planner.plan(cost, box(2), batch=3)
        torch.testing.assert_close(plan.actions, plain.actions)
    assert not plain.actions.requires_grad and weight.grad is None


@descent
def test_a_hole_in_the_cost_stops_its_own_candidates_only(planner, box, tracking, targets):
    def cost(actions):
        hole = actions[:, :, 0, 0] > 0
        return torch.where(hole, torch.nan, tracking(targets)(actions))

    plan = planner.plan(cost, box(2), batch=3)
    assert plan.cost.isfinite().all() and (plan.actions[:, 0, 0] <= 0).all()
    assert plan.non_finite > 0 and plan.elite_costs.isfinite().all()
    assert (plan.cost < 0.8 * plan.history[0].best).all()
    outside = targets[:, 0, 0] < 0
    assert outside.any() and (plan.cost[outside] < 1e-3).all()


@pytest.mark.parametrize("kind", [CEM, ICEM, MPPI])
def test_few_samples_still_search_in_every_iteration(kind, box, tracking, targets):
    plan = kind(horizon=6, num_samples=6, iterations=3).plan(tracking(targets), box(2), batch=3)
    for iteration in plan.history:
        assert (iteration.std > 0).all()
        assert all(len(costs.unique()) == 6 for costs in iteration.costs)


@descent
def test_a_cost_of_other_precision_leaves_the_actions_float32(planner, box, tracking, targets):
    def cost(actions):
        assert actions.dtype == torch.float32
        return tracking(targets)(actions).double()

    planner = dataclasses.replace(planner, iterations=5)
    assert planner.plan(cost, box(2), batch=3).actions.dtype == torch.float32


@descent
def test_gradients_start_from_the_warm_start_and_its_elites(planner, box, tracking, targets):
    warm = CEM(horizon=6, elite_fraction=0.03).plan(tracking(targets), box(2), batch=3)
    cost, seen = recorder(tracking(targets))
    planner.plan(cost, box(2), batch=3, warm_start=warm)
    torch.testing.assert_close(seen[0][:, 0], warm.actions)
    torch.testing.assert_close(seen[0][:, 1:7], warm.elites)
    assert seen[0].shape == (3, 8, 6, 2)


def test_a_chain_refines_what_the_first_planner_found(box):
    def cost(actions):  # two valleys; the gradient at the start leads to the shallow one
        x = actions.flatten(2)
        shallow = (x - 0.3).square().sum(-1)
        deep = (x + 0.6).square().sum(-1) - 1
        return torch.minimum(shallow, deep)

    search, refine = CEM(horizon=2, num_samples=300), LBFGS(horizon=2, num_samples=4)
    found = search.plan(cost, box(2), seed=3)
    plan = Chain([search, refine]).plan(cost, box(2), seed=3)
    torch.testing.assert_close(plan.actions, torch.full((1, 2, 2), -0.6), atol=1e-3, rtol=0)
    assert plan.cost <= found.cost
    assert len(plan.history) == search.iterations + refine.iterations
    with pytest.raises(ValueError, match="the same horizon"):
        Chain([CEM(horizon=2), LBFGS(horizon=3)])
    with pytest.raises(ValueError, match="at least one"):
        Chain([])


def test_a_refinement_never_makes_a_plan_worse(box, tracking, targets):
    def bumpy(actions):
        x = (actions - targets.unsqueeze(1)) * 8
        return (x.square() / 64 + 1 - (5 * x).cos()).sum((-1, -2))

    found = CEM(horizon=6).plan(bumpy, box(2), batch=3)
    for refine in (Gradient(horizon=6, iterations=5), LBFGS(horizon=6, iterations=5)):
        plan = Chain([CEM(horizon=6), refine]).plan(bumpy, box(2), batch=3)
        assert (plan.cost <= found.cost).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ICEM(keep_fraction=1.5), "keep_fraction must be in"),
        (lambda: ICEM(decay=0.5), "decay must be at least 1"),
        (lambda: MPPI(control_cost=-1), "control_cost must not be negative"),
        (lambda: Gradient(learning_rate=0), "learning_rate must be positive"),
        (lambda: Gradient(betas=(0.9, 1.0)), "betas must be two numbers"),
        (lambda: LBFGS(memory=0), "memory must be at least 1"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
