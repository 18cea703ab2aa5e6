"""What a sampling planner refuses, and in which words."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from planners import CEM, ICEM, LBFGS, MPPI, VP2CEM, Chain, Gradient, RandomShooting, Screened


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CEM(horizon=0), "horizon must be a whole number of at least 1"),
        (lambda: CEM(antithetic="false"), "antithetic must be true or false, not 'false'"),
        (lambda: CEM(evaluate_plan="no"), "evaluate_plan must be true or false"),
        (lambda: CEM(num_samples=0), "num_samples must be a whole number of at least 1"),
        (lambda: CEM(iterations=0), "iterations must be a whole number of at least 1"),
        (lambda: CEM(chunk_size=0), "chunk_size must be a whole number of at least 1"),
        (lambda: CEM(elite_fraction=0), "elite_fraction must be in"),
        (lambda: CEM(smoothing=1), "smoothing must be in"),
        (lambda: CEM(std=[0.5, -1]), "std must be finite"),
        (lambda: CEM(returns="worst"), "'mean', 'best' or 'finalist'"),
        (lambda: MPPI(temperature=0), "temperature must be positive"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(batch=0), "batch must be a whole number of at least 1"),
        (dict(seed=-1), "seeds must not be negative"),
        (dict(seed=[1, 2]), "2 seeds for 1 problems"),
        (dict(warm_start=torch.zeros(2, 6, 2)), r"\(2, 6, 2\): it must be \(B, h, A\) = \(1, h, 2"),
        (dict(warm_start=torch.zeros(1, 6, 3)), "it must be"),
        (dict(warm_start=torch.zeros(1, 0, 2)), "at least one step"),
        (dict(warm_start=torch.full((1, 6, 2), torch.nan)), "NaN or infinite actions"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, box):
    with pytest.raises(ValueError, match=message):
        CEM(horizon=6).plan(lambda a: a.sum((-1, -2)), box(2), **arguments)


def test_bad_spaces_costs_and_std_are_refused(box):
    def cost(actions):
        return actions.sum((-1, -2))

    vector_env = box(2)
    vector_env.shape = (4, 2)
    with pytest.raises(ValueError, match="single_action_space"):
        CEM().plan(cost, vector_env)
    with pytest.raises(ValueError, match="low <= high"):
        CEM().plan(cost, box(2, 1, -1))
    with pytest.raises(ValueError, match="std has 3 values for 2 action dimensions"):
        CEM(std=[1, 1, 1]).plan(cost, box(2))
    with pytest.raises(ValueError, match=r"returned shape \(200,\)"):
        CEM().plan(lambda a: cost(a)[0], box(2))
    with pytest.raises(ValueError, match="finite bounds"):
        RandomShooting(std=1.0).plan(cost, box(2, -np.inf, 0))


@pytest.mark.parametrize(
    "space",
    [Discrete(5), MultiDiscrete([4, 4]), MultiBinary(3), Dict(a=Box(-1, 1, (2,)))],
    ids=lambda space: type(space).__name__,
)
def test_a_space_without_bounds_is_told_of(space):
    with pytest.raises(ValueError, match="no low and high: a planner searches a Box"):
        CEM(horizon=2).plan(lambda actions: actions.sum((2, 3)), space)


def space_of(low, high, shape=(2,), **others):
    return SimpleNamespace(low=low, high=high, shape=shape, **others)


@pytest.mark.parametrize(
    "space, told",
    [
        (Box(0, 5, (2,), np.int64), "of int64: a planner searches real numbers"),
        (Box(0, 255, (2,), np.uint8), "of uint8: a planner searches real numbers"),
        (space_of(0, 1, dtype=bool), "a planner searches real numbers"),
        (space_of(np.zeros(2, bool), np.ones(2, bool)), "bool, not real numbers"),
        (space_of(np.zeros(2), np.ones(2, complex)), "complex128, not real numbers"),
        (space_of("low", "high"), "not real numbers"),
        (space_of(np.zeros(3), np.ones(3)), r"bounds .* shape \(3,\), the actions \(2,\)"),
        (space_of(np.full(2, np.nan), np.ones(2)), "without NaN"),
        (space_of(np.full(2, np.inf), np.full(2, np.inf)), "some finite number"),
        (space_of(np.full(2, 1e300), np.full(2, 1e301)), "some finite number"),
        (space_of(0, 1, shape=(2, 3)), "single_action_space"),
    ],
)
def test_a_space_that_no_planner_can_search_is_told_of(space, told):
    with pytest.raises(ValueError, match=told) as error:
        CEM(horizon=2, std=1.0).plan(lambda actions: actions.sum((2, 3)), space)
    assert "\n" not in str(error.value)


def test_a_bound_on_one_side_stops_only_the_planner_that_cannot_leave_it(box):
    def cost(actions):
        return (actions - 2).square().sum((-1, -2))

    assert CEM(horizon=2, std=1.0).plan(cost, box(2, 0, np.inf)).cost < 1
    with pytest.raises(ValueError, match="give both"):
        VP2CEM(horizon=2).plan(cost, box(2, 0, np.inf))


@pytest.mark.parametrize("high", [0.1, 0.3, 0.7, 1e-3, 1e-300])
def test_float64_bounds_that_float32_does_not_have_are_kept(high):
    """0.1 in float32 is 0.1 + 1.5e-9."""
    space = Box(-high, high, (2,), np.float64)
    plan = CEM(horizon=2).plan(lambda actions: -actions.sum((2, 3)), space)
    assert space.contains(plan.actions[0, 0].numpy())


def test_bounds_beyond_float32_are_none(recwarn):
    space = Box(-1e300, 1e300, (2,), np.float64)
    plan = CEM(horizon=2, std=1.0).plan(lambda actions: actions.square().sum((2, 3)), space)
    assert plan.cost < 1 and not [w for w in recwarn if "overflow" in str(w.message)]


COSTS = {
    "complex": (lambda costs: costs + 0j, "complex64: it must return real numbers"),
    "boolean": (lambda costs: costs > 0, "bool: it must return real numbers"),
    "scalar": (lambda costs: costs.sum(), r"shape \(\)"),
    "one too many axes": (lambda costs: costs.unsqueeze(-1), r"must return \(B, N\) = \(1, "),
    "transposed": (lambda costs: costs.mT, "must return"),
    "nothing": (lambda costs: None, "returned NoneType: it must return a tensor or an array"),
    "words": (lambda costs: "low", "returned str: it must return a tensor or an array"),
    "NaN": (lambda costs: costs * torch.nan, "NaN or infinite cost"),
    "infinite": (lambda costs: costs - torch.inf, "NaN or infinite cost"),
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize(
    "planner",
    [
        CEM(horizon=2),
        ICEM(horizon=2),
        MPPI(horizon=2),
        RandomShooting(horizon=2),
        Gradient(horizon=2),
        LBFGS(horizon=2),
        Chain([CEM(horizon=2), LBFGS(horizon=2)]),
    ],
    ids=lambda planner: type(planner).__name__,
)
def test_a_cost_that_is_no_cost_is_told_of_in_one_sentence(planner, name, box):
    change, told = COSTS[name]
    with pytest.raises(ValueError, match=told) as error:
        planner.plan(lambda actions: change(actions.sum((2, 3))), box(2))
    assert "\n" not in str(error.value)


def test_a_cheap_cost_that_is_no_cost_is_told_of_too(box):
    def cost(actions):
        return actions.sum((2, 3))

    with pytest.raises(ValueError, match="bool: it must return real numbers"):
        CEM(horizon=2).plan(Screened(cost, lambda actions: cost(actions) > 0), box(2))
