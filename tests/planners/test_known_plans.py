"""Plans that are known before the search begins are candidates of it."""

import numpy as np
import pytest
import torch

from planners import (
    CEM,
    ICEM,
    LBFGS,
    MPC,
    MPPI,
    VP2CEM,
    VP2MPPI,
    Gradient,
    PredictiveSampling,
    Proposed,
    RandomShooting,
    Screened,
)

OURS = [CEM, ICEM, MPPI, RandomShooting, PredictiveSampling, Gradient, LBFGS]


class Asked:
    """A cost that remembers what it was asked about."""

    def __init__(self, cost):
        self.cost, self.calls = cost, []

    def __call__(self, actions):
        self.calls.append(actions.detach().clone())
        return self.cost(actions)

    def saw(self, plans, call):
        """Whether candidate plans (B, K, H, A) are all among those of a call."""
        apart = (self.calls[call].unsqueeze(2) - plans.unsqueeze(1)).abs().amax((-1, -2))
        return bool((apart < 1e-6).any(1).all())


@pytest.mark.parametrize("planner", OURS)
def test_the_plan_that_a_search_starts_from_is_a_candidate(planner, box, tracking, targets) -> None:
    planner = planner(horizon=6, num_samples=9, iterations=2)
    cost = Asked(tracking(targets))
    start = torch.full((3, 6, 2), 0.33)
    planner.plan(cost, box(2), batch=3, warm_start=start)
    assert cost.saw(start[:, None], 0)
    assert all(call.shape[1] <= 9 for call in cost.calls)
    fresh = Asked(tracking(targets))
    planner.plan(fresh, box(2), batch=3)
    assert not fresh.saw(start[:, None], 0)


def test_mpc_offers_its_planner_the_rest_of_the_plan_before(box, tracking, targets) -> None:
    cost = Asked(tracking(targets))
    agent = MPC(CEM(horizon=6, num_samples=20, iterations=1, evaluate_plan=False), replan_every=2)
    agent.reset(seed=0, batch=3)
    agent.act(cost, box(2))
    first = agent.plan.actions
    agent.act(cost, box(2))
    agent.act(cost, box(2))
    assert len(cost.calls) == 2
    rest = torch.cat([first[:, 2:], first[:, -1:].expand(-1, 2, -1)], dim=1)
    assert cost.saw(rest[:, None], 1)


@pytest.mark.parametrize("planner", [*OURS, VP2CEM, VP2MPPI])
def test_proposals_are_candidates_of_the_first_iteration(planner, box, tracking, targets) -> None:
    planner = planner(horizon=6, num_samples=12, iterations=2)
    plans = torch.rand(3, 4, 6, 2, generator=torch.Generator().manual_seed(0)) * 0.5
    cost = Asked(tracking(targets))
    result = planner.plan(Proposed(cost, plans), box(2), batch=3)
    assert cost.calls[0].shape == (3, 12, 6, 2)
    assert cost.saw(plans, 0)
    assert torch.isfinite(result.actions).all()


@pytest.mark.parametrize("planner", [CEM, ICEM, MPPI, RandomShooting])
def test_a_good_proposal_is_found_by_a_search_that_would_not_find_it(planner, box, targets) -> None:
    """Costs are alike but in a small corner of twelve dimensions, in which the proposal lies."""
    best = targets[:, None]

    def needle(actions: torch.Tensor) -> torch.Tensor:
        return -((actions - best).abs().amax((-1, -2)) < 0.1).float()

    planner = planner(horizon=6, num_samples=40, iterations=1, returns="best")
    near = torch.cat([torch.zeros_like(best), best + 0.05], dim=1)
    alone = planner.plan(needle, box(2), batch=3)
    helped = planner.plan(Proposed(needle, near), box(2), batch=3)
    assert (alone.cost == 0).all() and (helped.cost == -1).all()
    torch.testing.assert_close(helped.actions, near[:, 1])


def test_proposals_are_clipped_cut_and_lengthened(box, tracking, targets) -> None:
    cost = Asked(tracking(targets))
    planner = CEM(horizon=6, num_samples=8, iterations=1, evaluate_plan=False)
    planner.plan(Proposed(cost, np.full((3, 1, 2, 2), 7.0)), box(2), batch=3)
    assert cost.saw(torch.ones(3, 1, 6, 2), 0)
    long = torch.linspace(-1, 1, 9)[None, None, :, None].expand(3, 1, 9, 2)
    planner.plan(Proposed(cost, long), box(2), batch=3)
    assert cost.saw(long[:, :, :6], 1)


def test_more_proposals_than_candidates_are_cut(box, tracking, targets) -> None:
    cost = Asked(tracking(targets))
    plans = torch.rand(3, 9, 6, 2)
    CEM(horizon=6, num_samples=8, iterations=2).plan(Proposed(cost, plans), box(2), batch=3)
    torch.testing.assert_close(cost.calls[0], plans[:, :8])
    assert cost.calls[1].shape[1] == 8


def test_a_screened_cost_can_be_proposed_to(box, tracking, targets) -> None:
    cost, cheap = Asked(tracking(targets)), Asked(tracking(targets))
    plans = torch.full((3, 2, 6, 2), 0.9)
    given = Proposed(Screened(cost, cheap, factor=3), plans)
    CEM(horizon=6, num_samples=10, iterations=1).plan(given, box(2), batch=3)
    assert cost.saw(plans, 0) and not cheap.saw(plans, 0)
    assert cheap.calls[0].shape[1] == 24


@pytest.mark.parametrize(
    ("plans", "told"),
    [
        (torch.zeros(3, 6, 2), r"what the cost proposes has shape \(3, 6, 2\)"),
        (torch.zeros(2, 4, 6, 2), r"must be \(B, K, h, A\) = \(3, K, h, 2\)"),
        (torch.zeros(3, 4, 0, 2), "at least one step"),
        (torch.full((3, 4, 6, 2), torch.nan), "proposes contains NaN"),
    ],
)
def test_proposals_that_do_not_fit_are_refused(plans, told, box, tracking, targets) -> None:
    with pytest.raises(ValueError, match=told):
        CEM(horizon=6).plan(Proposed(tracking(targets), plans), box(2), batch=3)


def test_without_a_start_or_proposals_nothing_is_added(box, tracking, targets) -> None:
    cost = Asked(tracking(targets))
    CEM(horizon=6, num_samples=10, iterations=1).plan(cost, box(2), batch=3)
    assert cost.calls[0].shape[1] == 10
    nothing = Asked(tracking(targets))
    none = torch.zeros(3, 0, 6, 2)
    CEM(horizon=6, num_samples=10, iterations=1).plan(Proposed(nothing, none), box(2), batch=3)
    assert torch.equal(cost.calls[0], nothing.calls[0])
