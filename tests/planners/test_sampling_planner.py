"""What every planner promises, whichever it is."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from planners import (
    CEM,
    ICEM,
    MPPI,
    VP2CEM,
    VP2MPPI,
    PlanResult,
    PredictiveSampling,
    RandomShooting,
)
from planners import Planner as PlannerProtocol

PLANNERS = [
    CEM(horizon=6, num_samples=60, iterations=3),
    MPPI(horizon=6, num_samples=60, iterations=3),
    RandomShooting(horizon=6, num_samples=60, iterations=2),
    ICEM(horizon=6, num_samples=60, iterations=3),
    PredictiveSampling(horizon=6, num_samples=60, iterations=2),
    VP2MPPI(horizon=6, num_samples=60),
    VP2CEM(horizon=6, num_samples=60),
]
every_planner = pytest.mark.parametrize("planner", PLANNERS, ids=lambda p: type(p).__name__)


def assert_same(a: PlanResult, b: PlanResult) -> None:
    for name in ("actions", "cost", "mean", "std", "elites", "elite_costs"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@every_planner
def test_the_result_is_complete(planner, box, tracking, targets):
    plan = planner.plan(tracking(targets), box(2), batch=3)
    assert plan.actions.shape == plan.mean.shape == plan.std.shape == (3, 6, 2)
    assert plan.actions.dtype == torch.float32
    assert plan.elites.shape == (3, 3, 6, 2) and plan.elite_costs.shape == (3, 3)
    torch.testing.assert_close(plan.elite_costs, tracking(targets)(plan.elites))
    assert (plan.elite_costs.diff(dim=1) >= 0).all()
    torch.testing.assert_close(plan.cost, tracking(targets)(plan.actions.unsqueeze(1))[:, 0])
    assert [iteration.index for iteration in plan.history] == list(range(planner.iterations))
    assert all(iteration.costs.shape == (3, 60) for iteration in plan.history)
    assert torch.equal(plan.history[-1].best, plan.elite_costs[:, 0])
    assert torch.equal(plan.history[-1].mean, plan.mean)
    assert plan.non_finite == 0
    assert isinstance(planner, PlannerProtocol)


@every_planner
def test_the_same_seed_gives_the_same_bits_and_global_state_is_left_alone(
    planner, box, tracking, targets
):
    before = torch.get_rng_state()
    plan = planner.plan(tracking(targets), box(2), batch=3, seed=7)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(123)
    assert_same(plan, planner.plan(tracking(targets), box(2), batch=3, seed=7))
    other = planner.plan(tracking(targets), box(2), batch=3, seed=8)
    assert not torch.equal(plan.actions, other.actions)

    first, again = (torch.Generator().manual_seed(3) for _ in range(2))
    plan = planner.plan(tracking(targets), box(2), batch=3, seed=first)
    assert_same(plan, planner.plan(tracking(targets), box(2), batch=3, seed=again))
    onward = planner.plan(tracking(targets), box(2), batch=3, seed=first)
    assert not torch.equal(plan.actions, onward.actions), "a generator advances"


@every_planner
def test_a_problem_is_solved_alike_alone_and_in_any_batch(planner, box, tracking, targets):
    together = planner.plan(tracking(targets), box(2), batch=3, seed=[11, 12, 13])
    for b, seed in enumerate([11, 12, 13]):
        alone = planner.plan(tracking(targets[b : b + 1]), box(2), seed=seed)
        torch.testing.assert_close(alone.actions[0], together.actions[b], atol=1e-5, rtol=0)
    full = planner.plan(tracking(targets), box(2), batch=3, seed=4)
    part = planner.plan(tracking(targets[:2]), box(2), batch=2, seed=4)
    torch.testing.assert_close(part.actions, full.actions[:2], atol=1e-5, rtol=0)


@every_planner
def test_problems_of_a_batch_have_independent_noise(planner, box, tracking, targets):
    same = targets[:1].expand(3, -1, -1)
    plan = planner.plan(tracking(same), box(2), batch=3)
    first = plan.history[0].costs[:, 1:]  # the first candidate may be the mean
    assert not torch.isclose(first[0], first[1]).any()
    assert not torch.equal(plan.actions[0], plan.actions[1])


@every_planner
@pytest.mark.parametrize("low, high", [(-1, 1), (0.5, 0.6), (-3, 0), (2, 2)])
def test_candidates_and_plans_are_always_inside_the_bounds(planner, low, high, box):
    planner = dataclasses.replace(planner, std=5.0)

    def cost(actions):
        assert (actions >= low_bound).all() and (actions <= high_bound).all()
        return actions.square().sum((-1, -2))

    space = box(3, low, high)
    low_bound, high_bound = torch.tensor(space.low).float(), torch.tensor(space.high).float()
    warm_start = torch.full((2, 6, 3), 100.0)
    plan = planner.plan(cost, space, batch=2, warm_start=warm_start)
    for actions in (plan.actions, plan.elites):
        assert (actions >= low_bound).all() and (actions <= high_bound).all()


@pytest.mark.parametrize("planner", PLANNERS[:2], ids=lambda p: type(p).__name__)
def test_an_unbounded_space_needs_a_std_and_then_works(planner, box, tracking, targets):
    space = box(2, -np.inf, np.inf)
    with pytest.raises(ValueError, match="give the planner a std"):
        planner.plan(tracking(targets), space, batch=3)
    planner = dataclasses.replace(planner, std=1.0, iterations=20, num_samples=200)
    plan = planner.plan(tracking(targets * 3), space, batch=3)
    assert plan.cost.max() < 3


@every_planner
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_costs_never_win_and_are_counted(planner, bad, box, tracking, targets):
    counted = 0

    def cost(actions):  # the minimum lies where the cost is not finite
        nonlocal counted
        hole = actions[:, :, 0, 0] > 0
        counted += int(hole.sum()) if actions.shape[1] > 1 else 0
        return torch.where(hole, bad, tracking(targets)(actions))

    plan = planner.plan(cost, box(2), batch=3)
    assert plan.cost.isfinite().all() and (plan.actions[:, 0, 0] <= 0).all()
    assert (plan.elites[:, :, 0, 0] <= 0).all() and plan.elite_costs.isfinite().all()
    assert plan.non_finite == counted > 0


@every_planner
def test_a_single_finite_candidate_is_enough(planner, box):
    def cost(actions):
        costs = torch.full(actions.shape[:2], torch.nan)
        costs[:, 0] = 1.0
        return costs

    plan = planner.plan(cost, box(2), batch=2)
    assert plan.actions.isfinite().all() and (plan.cost == 1).all()


def test_a_mean_without_a_finite_cost_is_not_returned(box):
    def cost(actions):  # two valleys; between them, where their mean lies, there is no cost
        x = actions[:, :, 0, 0]
        return torch.where(x.abs() < 0.3, torch.nan, (x.abs() - 0.5).abs())

    plan = CEM(horizon=1, num_samples=200, iterations=1).plan(cost, box(1))
    assert plan.mean.abs() < 0.3 <= plan.actions.abs()
    assert plan.cost.isfinite().all()


@every_planner
def test_a_problem_without_a_finite_cost_is_an_error_that_names_it(planner, box):
    def cost(actions):
        costs = actions.sum((-1, -2))
        costs[1] = torch.nan
        return costs

    with pytest.raises(ValueError, match=r"problem \[1\] has a NaN or infinite cost"):
        planner.plan(cost, box(2), batch=3)


@every_planner
@pytest.mark.parametrize("chunk_size", [1, 7, 59, 60, 1000])
def test_chunked_equals_unchunked(planner, chunk_size, box, tracking, targets):
    sizes = []

    def cost(actions):
        sizes.append(actions.shape[1])
        assert actions.is_contiguous()
        return tracking(targets)(actions)

    chunked = dataclasses.replace(planner, chunk_size=chunk_size).plan(cost, box(2), batch=3)
    assert max(sizes) == min(chunk_size, 60)
    whole = planner.plan(tracking(targets), box(2), batch=3)
    torch.testing.assert_close(chunked.actions, whole.actions, atol=1e-5, rtol=0)
    torch.testing.assert_close(chunked.cost, whole.cost)


def test_a_warm_start_helps_and_is_not_changed(box, tracking, targets):
    planner = CEM(horizon=6, num_samples=50, iterations=1, std=0.1)
    cold = planner.plan(tracking(targets), box(2), batch=3)
    warm_start = targets + 0.02
    kept = warm_start.clone()
    warm = planner.plan(tracking(targets), box(2), batch=3, warm_start=warm_start)
    assert torch.equal(warm_start, kept)
    assert (warm.cost < 0.1 * cold.cost).all()
    array = planner.plan(tracking(targets), box(2), batch=3, warm_start=warm_start.numpy())
    assert_same(array, warm)


def test_a_plan_shifts_into_the_next_warm_start(box, tracking, targets):
    planner = CEM(horizon=6, num_samples=200, iterations=6)
    plan = planner.plan(tracking(targets), box(2), batch=3)
    kept = plan.actions.clone()
    shifted = plan.shift(2)
    assert shifted.cost is None and not shifted.history
    for name in ("actions", "mean", "std"):
        after, before = getattr(shifted, name), getattr(plan, name)
        assert torch.equal(after[:, :4], before[:, 2:])
        assert torch.equal(after[:, 4:], before[:, -1:].expand(-1, 2, -1))
    assert torch.equal(shifted.elites[:, :, :4], plan.elites[:, :, 2:])
    assert torch.equal(plan.shift(100).actions, plan.actions[:, -1:].expand(-1, 6, -1))

    later = torch.cat([targets[:, 1:], targets[:, -1:]], 1)
    quick = CEM(horizon=6, num_samples=50, iterations=1, std=0.1)
    warm = quick.plan(tracking(later), box(2), batch=3, warm_start=plan.shift(1))
    cold = quick.plan(tracking(later), box(2), batch=3)
    assert (warm.cost < 0.5 * cold.cost).all()
    assert torch.equal(plan.actions, kept)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_warm_start_of_another_length_fits(steps, box, tracking, targets):
    planner = MPPI(horizon=6, num_samples=50, std=0.0)
    plan = planner.plan(
        tracking(targets), box(2), batch=3, warm_start=torch.full((3, steps, 2), 0.3)
    )
    torch.testing.assert_close(plan.actions, torch.full((3, 6, 2), 0.3))


def test_best_ever_is_returned_on_request(box, tracking, targets):
    plan = CEM(horizon=6, num_samples=30, iterations=4, returns="best").plan(
        tracking(targets), box(2), batch=3
    )
    best = torch.stack([iteration.best for iteration in plan.history]).amin(0)
    torch.testing.assert_close(plan.cost, best)
    torch.testing.assert_close(tracking(targets)(plan.actions.unsqueeze(1))[:, 0], best)


def test_the_mean_beats_the_luckiest_candidate_under_a_noisy_cost(box, tracking):
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(30, 6, 2, generator=generator) - 0.5

    def noisy(actions):
        costs = tracking(targets)(actions)
        return costs + 2 * torch.randn(costs.shape, generator=generator)

    true_cost = {
        returns: tracking(targets)(
            CEM(horizon=6, returns=returns).plan(noisy, box(2), batch=30).actions.unsqueeze(1)
        ).mean()
        for returns in ("mean", "best")
    }
    assert true_cost["mean"] < 0.7 * true_cost["best"]


def test_the_plan_is_not_evaluated_on_request(box, tracking, targets):
    calls = []

    def cost(actions):
        calls.append(actions.shape[1])
        return tracking(targets)(actions)

    planner = CEM(horizon=6, num_samples=60, evaluate_plan=False)
    plan = planner.plan(cost, box(2), batch=3)
    assert calls == [60, 60, 60] and plan.cost.isnan().all()
    evaluated = CEM(horizon=6, num_samples=60).plan(cost, box(2), batch=3)
    assert torch.equal(plan.actions, evaluated.actions)


def test_the_callback_sees_every_iteration_as_it_ends(box, tracking, targets):
    seen = []
    plan = CEM(horizon=6, iterations=4).plan(
        tracking(targets), box(2), batch=3, callback=seen.append
    )
    assert tuple(seen) == plan.history


def test_time_is_told_apart(box, tracking, targets):
    def cost(actions):
        time.sleep(0.02)
        return tracking(targets)(actions)

    plan = CEM(horizon=6, iterations=2).plan(cost, box(2), batch=3)
    assert plan.cost_seconds >= 0.06 and plan.planner_seconds > 0


def test_the_cost_may_return_arrays_integers_and_half_floats(box):
    planner = CEM(horizon=4, num_samples=50)
    for convert in (lambda c: c.numpy(), lambda c: c.half(), lambda c: c.mul(1000).int()):
        plan = planner.plan(lambda a, f=convert: f(a.square().sum((-1, -2))), box(2))
        assert plan.cost.dtype == torch.float32 and plan.actions.isfinite().all()


def test_gradients_are_not_recorded(box):
    weight = torch.ones((), requires_grad=True)
    plan = MPPI(horizon=4).plan(lambda a: (a * weight).sum((-1, -2)), box(2))
    assert not plan.actions.requires_grad and not plan.cost.requires_grad


def test_gymnasium_boxes_and_hydra_configs_work(tracking, targets):
    gymnasium = pytest.importorskip("gymnasium")
    hydra = pytest.importorskip("hydra")
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {
            "_target_": "planners.CEM",
            "horizon": 6,
            "std": [0.5, 0.1],
            "noise": {"_target_": "planners.ColoredNoise", "exponent": 1.0},
        }
    )
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    plan = hydra.utils.instantiate(config).plan(tracking(targets), space, batch=3)
    assert space.contains(plan.actions[0, 0].numpy())
