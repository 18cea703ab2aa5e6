"""VP2MPPI and VP2CEM against the benchmark's formulas in NumPy, given the same random numbers."""

import numpy as np
import pytest
import torch

from planners import VP2CEM, VP2MPPI, WhiteNoise
from planners.noise import NoiseStream, problem_seeds

HORIZON, DIMS, SAMPLES = 10, 5, 200
STD = np.array([0.5, 0.5, 0.5, 0.1, 0.1])


def normal_numbers(iterations, seed):
    """What the planners draw: (N, H, A) standard normal for every iteration."""
    seeds = problem_seeds(seed, 1)
    stream = NoiseStream(WhiteNoise(), seeds, HORIZON, DIMS, torch.device("cpu"))
    one = torch.ones(1, HORIZON, DIMS)
    return [stream.draw(SAMPLES, one)[0].double().numpy() for _ in range(iterations)]


def correlated(normal, std, beta=0.5):
    """n[0] = std[0] z[0]; n[t] = beta n[t-1] + (1 - beta) std[t] z[t]."""
    steps = [normal[:, 0] * std[0]]
    for t in range(1, HORIZON):
        steps.append(beta * steps[-1] + (1 - beta) * normal[:, t] * std[t])
    return np.stack(steps, axis=1)


def reward(target):
    return lambda actions: -((actions - target) ** 2).sum((-1, -2)) * 20


@pytest.fixture
def target():
    return np.random.default_rng(4).uniform(-0.9, 0.9, (HORIZON, DIMS))


def cost_of(target):
    return lambda actions: -torch.from_numpy(reward(target)(actions.double().numpy()))


@pytest.mark.parametrize("warm", [False, True])
def test_mppi(warm, target, box):
    start = target[:-1] * 0.5 if warm else None
    mean = np.zeros((HORIZON, DIMS))
    if warm:
        mean[:-1], mean[-1] = start, start[-1]  # the benchmark repeats the last action
    (normal,) = normal_numbers(1, seed=7)
    samples = np.clip(mean + correlated(normal, np.tile(STD, (HORIZON, 1))), -1, 1)
    scores = reward(target)(samples)
    weights = np.exp(0.05 * (scores - scores.max()))[:, None, None]
    expected = (weights * samples).sum(0) / (weights.sum(0) + 1e-10)

    planner = VP2MPPI(horizon=HORIZON, num_samples=SAMPLES, std=tuple(STD), gamma=0.05)
    plan = planner.plan(
        cost_of(target), box(DIMS), seed=7, warm_start=None if start is None else start[None]
    )
    np.testing.assert_allclose(plan.actions[0], expected, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_cem(alpha, target, box):
    mean, variance = np.zeros((HORIZON, DIMS)), np.tile(STD**2, (HORIZON, 1))
    for normal in normal_numbers(3, seed=8):
        room = np.minimum(((mean + 1) / 2) ** 2, ((1 - mean) / 2) ** 2)
        noise = correlated(normal, np.sqrt(np.minimum(room, variance)))
        samples = np.clip(mean + noise, -1, 1)
        scores = reward(target)(samples)
        elites = samples[np.argsort(-scores)[: int(0.05 * SAMPLES)]]
        mean = alpha * mean + (1 - alpha) * elites.mean(0)
        variance = alpha * variance + (1 - alpha) * elites.var(0)

    planner = VP2CEM(horizon=HORIZON, num_samples=SAMPLES, std=tuple(STD), alpha=alpha)
    plan = planner.plan(cost_of(target), box(DIMS), seed=8)
    np.testing.assert_allclose(plan.actions[0], samples[scores.argmax()], atol=1e-5)
    np.testing.assert_allclose(plan.mean[0], mean, atol=1e-5)
    np.testing.assert_allclose(plan.std[0] ** 2, variance, atol=1e-5)
    assert plan.cost.item() == pytest.approx(-scores.max(), rel=1e-5)


def test_the_candidates_have_the_variance_that_the_benchmark_loses(box):
    seen = []

    def cost(actions):
        seen.append(actions.clone())
        return actions.sum((-1, -2))

    VP2MPPI(horizon=40, num_samples=20_000, std=0.1).plan(cost, box(1))
    std = seen[0][0, :, :, 0].std(0)
    assert std[0] == pytest.approx(0.1, rel=0.03)
    assert std[-1] == pytest.approx(0.1 * (0.5 / 1.5) ** 0.5, rel=0.03)


def test_settings_that_would_plan_uphill_or_nowhere_are_refused():
    for gamma in (-5.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="gamma must be a positive number"):
            VP2MPPI(gamma=gamma)
    for alpha in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\)"):
            VP2CEM(alpha=alpha)
