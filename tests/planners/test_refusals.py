"""What a sampling planner refuses, and in which words."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import MultiDiscrete

from planners import CEM, MPPI, RandomShooting


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CEM(horizon=0), "horizon must be at least 1"),
        (lambda: CEM(num_samples=0), "num_samples must be at least 1"),
        (lambda: CEM(iterations=0), "iterations must be at least 1"),
        (lambda: CEM(chunk_size=0), "chunk_size must be at least 1"),
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
        (dict(batch=0), "batch must be at least 1"),
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


def test_a_space_without_bounds_is_told_of():
    with pytest.raises(ValueError, match="no low and high: a planner searches a Box"):
        CEM(horizon=2).plan(lambda actions: actions.sum((2, 3)), MultiDiscrete([4, 4]))
