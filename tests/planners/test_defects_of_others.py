"""What goes wrong in other planner libraries, shown not to go wrong here.

Defects that other files test: a variance that depends on the colour of the noise (test_noise), a
shared noise between problems and a changed warm start (test_sampling_planner).
"""

import pytest
import torch

from planners import (
    CEM,
    ICEM,
    LBFGS,
    MPC,
    MPPI,
    Chain,
    ColoredNoise,
    Gradient,
    PredictiveSampling,
    RandomShooting,
    Screened,
)
from planners.noise import NoiseStream, problem_seeds

ALL = [
    CEM(horizon=6),
    ICEM(horizon=6),
    MPPI(horizon=6, iterations=2),
    PredictiveSampling(horizon=6),
    RandomShooting(horizon=6),
    Gradient(horizon=6, iterations=5),
    LBFGS(horizon=6, iterations=5),
    Chain([CEM(horizon=6), LBFGS(horizon=6, iterations=5)]),
]
every_planner = pytest.mark.parametrize("planner", ALL, ids=lambda p: type(p).__name__)


@pytest.mark.parametrize("offset", [-1e6, 0.0, 1e6])
def test_mppi_has_no_nan_at_temperature_20(offset, box):
    """TorchRL's MPPI subtracts no maximum before it exponentiates."""
    planner = MPPI(horizon=6, temperature=20.0)
    plan = planner.plan(lambda a: 1e3 * a.sum((-1, -2)).double() + offset, box(2))
    assert plan.actions.isfinite().all() and plan.cost.isfinite().all()


@every_planner
def test_a_nan_does_not_win_where_all_costs_are_positive_or_negative(planner, box):
    """In mbrl-lib a NaN becomes a constant that beats every negative reward."""
    for sign in (1, -1):

        def cost(actions, sign=sign):
            hole = actions[:, :, 0, 0] > 0
            inside = actions.square().sum((-1, -2))
            return torch.where(hole, torch.nan, inside + sign * 1e5)

        plan = planner.plan(cost, box(2), warm_start=torch.full((1, 6, 2), -0.5))
        assert (plan.actions[:, 0, 0] <= 0).all() and plan.cost.isfinite().all()


def test_the_std_of_mppi_matters(box):
    """In mbrl-lib the sigma of MPPI has no effect."""
    spread = []
    for std in (0.1, 0.4):
        seen = []

        def cost(actions, seen=seen):
            seen.append(actions.clone())
            return actions.sum((-1, -2))

        MPPI(horizon=6, std=std, num_samples=2000).plan(cost, box(2, -9, 9))
        spread.append(seen[0].std().item())
    assert spread == pytest.approx([0.1, 0.4], rel=0.05)


@every_planner
def test_nothing_survives_from_one_plan_to_the_next_unless_it_is_handed_on(
    planner, box, tracking, targets
):
    """In mbrl-lib the elites of iCEM survive a reset."""
    fresh = planner.plan(tracking(targets), box(2), batch=3, seed=1)
    planner.plan(tracking(-targets), box(2), batch=3, seed=2)
    again = planner.plan(tracking(targets), box(2), batch=3, seed=1)
    assert torch.equal(fresh.actions, again.actions)

    agent = MPC(planner)
    actions = []
    for _ in range(2):
        agent.reset(seed=3, batch=3)
        actions.append(torch.stack([agent.act(tracking(targets), box(2)) for _ in range(3)]))
    assert torch.equal(*actions)


@pytest.mark.parametrize("horizon", [5, 15, 40])
def test_colored_noise_has_unit_std_over_all_candidates(horizon):
    """That of stable-worldmodel's iCEM has 1.19 at exponent 2."""
    stream = NoiseStream(ColoredNoise(2.0), problem_seeds(0, 1), horizon, 3, torch.device("cpu"))
    std = stream.draw(20_000, torch.ones(1, horizon, 3)).std()
    assert std.item() == pytest.approx(1.0, abs=0.02)


@every_planner
def test_nothing_is_printed(planner, box, tracking, targets, capfd):
    """stable-worldmodel prints the time of every plan."""
    planner.plan(tracking(targets), box(2), batch=3)
    out, err = capfd.readouterr()
    assert not out and not err


@every_planner
def test_the_callers_tensors_do_not_change(planner, box, tracking, targets):
    """SMPPI of pytorch_mppi adds to the U_init that it was given."""
    warm_start, space = targets.clone(), box(2)
    space.low, space.high = torch.full((2,), -1.0), torch.full((2,), 1.0)
    plan = planner.plan(tracking(targets), space, batch=3, warm_start=warm_start)
    kept = {name: getattr(plan, name).clone() for name in ("actions", "mean", "std", "elites")}
    planner.plan(tracking(-targets), space, batch=3, warm_start=plan)
    assert torch.equal(warm_start, targets)
    assert (space.low == -1).all() and (space.high == 1).all()
    assert all(torch.equal(getattr(plan, name), value) for name, value in kept.items())


def in_place(actions):
    actions *= 0.08


def through_numpy(actions):
    if not actions.requires_grad:
        actions.numpy()[...] *= 100


@every_planner
@pytest.mark.parametrize("change", [in_place, lambda a: a.mul_(100), through_numpy])
def test_a_cost_that_changes_its_argument_changes_no_plan(change, planner, box, tracking, targets):
    def cost(actions):
        costs = tracking(targets)(actions)
        change(actions)
        return costs

    def screened(cost):
        return Screened(cost, cost, factor=2)

    for wrapped in (lambda cost: cost, screened):
        plan = planner.plan(wrapped(cost), box(2), batch=3, seed=4)
        untouched = planner.plan(wrapped(tracking(targets)), box(2), batch=3, seed=4)
        assert torch.equal(plan.actions, untouched.actions)
        assert torch.equal(plan.cost, untouched.cost)


def test_gradients_of_a_cost_that_scales_its_argument_in_place(box, targets, tracking):
    def cost(actions):
        actions *= 0.5
        return tracking(targets / 2)(actions)

    plan = Gradient(horizon=6, iterations=60).plan(cost, box(2), batch=3)
    torch.testing.assert_close(plan.actions, targets, atol=0.05, rtol=0)


@every_planner
def test_a_cost_may_write_to_the_same_memory_again(planner, box, tracking, targets):
    """Also with chunks, of which it would hold only the last."""
    memory = torch.empty(3, 1000)

    def cost(actions):
        costs = tracking(targets)(actions)
        if costs.requires_grad:
            return costs
        return memory[:, : costs.shape[1]].copy_(costs)

    plan = planner.plan(cost, box(2), batch=3, seed=4)
    plain = planner.plan(tracking(targets), box(2), batch=3, seed=4)
    assert torch.equal(plan.actions, plain.actions)
    for iteration, expected in zip(plan.history, plain.history, strict=True):
        assert torch.equal(iteration.costs, expected.costs)


@every_planner
def test_no_graph_is_left_in_a_plan(planner, box, tracking, targets):
    weight = torch.ones((), requires_grad=True)

    @torch.enable_grad()
    def cost(actions):
        return weight * tracking(targets)(actions.requires_grad_())

    def screened(actions):
        return tracking(targets)(actions)

    for given in (cost, Screened(cost, screened, factor=2)):
        plan = planner.plan(given, box(2), batch=3, warm_start=targets * weight)
        found = [plan.actions, plan.cost, plan.mean, plan.std, plan.elites, plan.elite_costs]
        for iteration in plan.history:
            found += [iteration.costs, iteration.mean, iteration.std]
        assert not any(tensor.requires_grad for tensor in found)


@every_planner
def test_problems_of_a_batch_draw_their_own_noise(planner, box, tracking, targets):
    """MPPI_Batched of pytorch_mppi shares its noise between the environments."""
    same = targets[:1].expand(3, -1, -1)
    seen = []

    def cost(actions):
        seen.append(actions.detach().clone())
        return tracking(same)(actions)

    planner.plan(cost, box(2), batch=3)
    varied = seen[0][:, 1:]
    assert not torch.isclose(varied[0], varied[1]).all(-1).all(-1).any()


def test_planning_does_not_end_for_any_reason_that_was_not_given(box):
    """DINO-WM ends CEM as soon as the simulator reports success, which no robot could know."""
    calls = []

    def solved(actions):
        calls.append(actions.shape[1])
        return torch.zeros(actions.shape[:2])

    CEM(horizon=6, iterations=7, num_samples=50).plan(solved, box(2))
    assert calls == [50] * 7 + [1]


def test_a_linear_cost_is_followed_up_to_the_bounds_that_lower_it(box):
    """VP2's CEM-GD projects everything to the lower bound and inverts its line search."""
    for sign in (1, -1):
        refine = Chain([CEM(horizon=6), LBFGS(horizon=6)])
        plan = refine.plan(lambda a, s=sign: s * a.sum((-1, -2)), box(2))
        torch.testing.assert_close(plan.actions, torch.full((1, 6, 2), -1.0 * sign))
