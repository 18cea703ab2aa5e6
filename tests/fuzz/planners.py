"""Planners: every optimiser, its settings, action spaces, costs, warm starts and seeds, and MPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import planners
from planners import AR1Noise, ColoredNoise, WhiteNoise
from tests.fuzz.judge import Refused, call, check, check_finite
from tests.fuzz.values import Numbers, made, mostly, numbers, odd_counts, scalars, seeds

GRADIENTS = ("Gradient", "LBFGS")
NAMES = (
    "CEM", "ICEM", "MPPI", "PredictiveSampling", "RandomShooting", "VP2CEM", "VP2MPPI", *GRADIENTS,
)  # fmt: skip


def bowl(actions: Tensor) -> Tensor:
    return (actions - 0.3).square().sum((-2, -1))


def in_place(actions: Tensor) -> Tensor:
    cost = bowl(actions)
    with torch.no_grad():
        actions.mul_(100)
    return cost


def stochastic(actions: Tensor, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return bowl(actions + 0.1 * torch.randn(actions.shape[2:], generator=generator))


def walls(actions: Tensor) -> Tensor:
    return torch.where(actions[..., 0].amax(-1) > 0.4, torch.nan, bowl(actions))


COSTS: dict[str, Any] = {
    "bowl": bowl,
    "stochastic": stochastic,
    "in_place": in_place,
    "walls": walls,
    "float64": lambda a: bowl(a).double(),
    "float16": lambda a: bowl(a).half(),
    "integers": lambda a: (100 * bowl(a)).long(),
    "numpy": lambda a: np.asarray(bowl(a).detach()),
    "list": lambda a: bowl(a).tolist(),
    "flat": lambda a: bowl(a) * 0,
    "steep": lambda a: bowl(a) * 1e37,
    "graph": lambda a: bowl(a) * torch.ones(1, requires_grad=True),
    "nan": lambda a: bowl(a) * torch.nan,
    "minus_infinity": lambda a: torch.where(a[..., 0, 0] > 0, -torch.inf, bowl(a)),
    "complex": lambda a: bowl(a) + 0j,
    "bool": lambda a: bowl(a) > 1,
    "scalar": lambda a: bowl(a).mean(),
    "transposed": lambda a: bowl(a).T,
    "extra_axis": lambda a: bowl(a)[..., None],
    "none": lambda a: None,
    "text": lambda a: "low",
}
SAME = {"in_place": "bowl"}
"""What a cost is, were it not for what it should not do."""


@dataclass(frozen=True)
class Problem:
    planner: str
    settings: dict[str, Any]
    cost: str
    low: Any
    high: Any
    dims: int
    box: bool
    warm_start: Numbers | str | None = None
    seed: Any = 0
    batch: int = 1
    mpc: dict[str, Any] | None = field(default=None)


bounds = mostly(
    st.sampled_from([(-1.0, 1.0), (0.0, 2.0), (-1e-3, 1e-3), (0.0, 0.0)]),
    st.sampled_from([(-np.inf, np.inf), (1.0, -1.0), (np.nan, 1.0), (-3e38, 3e38), (-1, np.inf)]),
    6,
)
settings = st.fixed_dictionaries(
    {
        "horizon": mostly(st.integers(1, 5), odd_counts, 12),
        "num_samples": mostly(st.integers(1, 12), odd_counts, 12),
        "iterations": mostly(st.integers(1, 3), odd_counts, 12),
    },
    optional={
        "std": mostly(st.sampled_from([None, 0.5, [0.1, 0.2], 0.0]), scalars, 3),
        "noise": mostly(
            st.sampled_from([AR1Noise(0.5), WhiteNoise(), ColoredNoise(1.0)]), scalars, 6
        ),
        "elite_fraction": mostly(st.sampled_from([0.01, 0.3, 1.0]), scalars, 3),
        "returns": mostly(st.sampled_from(["mean", "best", "finalist"]), scalars, 8),
        "evaluate_plan": st.booleans(),
        "antithetic": st.booleans(),
        "common_noise": mostly(st.sampled_from(["plan", "iteration"]), scalars, 8),
        "chunk_size": mostly(st.integers(1, 7), scalars, 3),
        "max_memory_gb": mostly(st.just(1.0), scalars, 3),
        "tolerance": mostly(st.just(0.1), scalars, 3),
        "finalists": mostly(st.integers(1, 4), odd_counts, 4),
        "reevaluations": mostly(st.integers(2, 4), odd_counts, 4),
    },
)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    low, high = draw(bounds)
    dims, batch = draw(mostly(st.integers(1, 3), st.just(0), 20)), draw(st.integers(1, 3))
    settled = draw(settings)
    horizon = settled["horizon"] if isinstance(settled["horizon"], int) else 3
    warm = numbers((batch, min(max(horizon, 1), 5), dims), ("float32", "float64"))
    return Problem(
        planner=draw(st.sampled_from(NAMES)),
        settings=settled,
        cost=draw(mostly(st.sampled_from(["bowl", "in_place"]), st.sampled_from([*COSTS]), 2)),
        low=low,
        high=high,
        dims=dims,
        box=draw(st.booleans()),
        warm_start=draw(st.one_of(st.none(), st.just("previous"), warm)),
        seed=draw(
            mostly(st.one_of(seeds, st.lists(seeds, min_size=batch, max_size=batch)), scalars)
        ),
        batch=batch,
        mpc=draw(
            st.none()
            | st.fixed_dictionaries(
                {
                    "replan_every": mostly(st.integers(1, 3), odd_counts, 4),
                    "execute": mostly(st.just(1), odd_counts, 4),
                }
            )
        ),
    )


inputs = problems()


def attempt(problem: Problem) -> bool:
    """Whether a plan came out."""
    space = action_space(problem)
    if isinstance(space, Refused):
        return False
    planner = call(getattr(planners, problem.planner), **problem.settings)
    if isinstance(planner, Refused):
        return False
    if problem.mpc is not None:
        return acts(planner, problem, space)
    plan = planned(planner, problem, space, problem.cost)
    if plan is None:
        return False
    if problem.seed is None or isinstance(problem.seed, int | list):
        again = planned(planner, problem, space, SAME.get(problem.cost, problem.cost))
        same = again is not None and torch.equal(plan.actions, again.actions)
        check(same, "the same problem has another plan")
    return True


def action_space(problem: Problem) -> Any:
    """Ours to make, so what Gymnasium thinks of the bounds is not judged."""
    shape = (problem.dims,)
    if not problem.box:
        low, high = (np.full(shape, side, np.float32) for side in (problem.low, problem.high))
        return SimpleNamespace(low=low, high=high, shape=shape)
    try:
        return gymnasium.spaces.Box(problem.low, problem.high, shape, np.float32)
    except (ValueError, AssertionError) as error:
        return Refused(str(error))


def planned(planner: Any, problem: Problem, space: Any, cost: str) -> Any:
    """The plan, checked; None where it was refused."""
    warm = made(problem.warm_start)
    if isinstance(warm, str):
        warm = call(planner.plan, bowl, space, batch=problem.batch)
        if isinstance(warm, Refused):
            return None
        warm = warm.shift(1)
    plan = call(
        planner.plan,
        COSTS[cost],
        space,
        warm_start=warm,
        seed=problem.seed,
        batch=problem.batch,
    )
    if isinstance(plan, Refused):
        return None
    check_actions(plan.actions, (problem.batch, planner.horizon, problem.dims), space)
    for name in ("mean", "std", "elites", "elite_costs"):
        value = getattr(plan, name)
        if value is not None:
            check_finite(value, f"plan.{name}")
            check(not value.requires_grad, f"plan.{name} holds a graph")
    if plan.cost is not None:
        check(not plan.cost.requires_grad, "plan.cost holds a graph")
        evaluated = problem.settings.get("evaluate_plan", True)
        if evaluated:
            check_finite(plan.cost, "plan.cost")
    return plan


def acts(planner: Any, problem: Problem, space: Any) -> bool:
    agent = call(planners.MPC, planner, **(problem.mpc or {}))
    if isinstance(agent, Refused):
        return False
    if isinstance(call(agent.reset, seed=problem.seed, batch=problem.batch), Refused):
        return False
    for _ in range(4):
        actions = call(agent.act, COSTS[problem.cost], space)
        if isinstance(actions, Refused):
            return False
        shape = (problem.batch, *([agent.execute] if agent.execute > 1 else []), problem.dims)
        check_actions(actions, shape, space)
    return True


def check_actions(actions: Tensor, shape: tuple[int, ...], space: Any) -> None:
    check(tuple(actions.shape) == shape, f"actions of shape {tuple(actions.shape)}, not {shape}")
    check(actions.dtype == torch.float32, f"actions of {actions.dtype}")
    check(not actions.requires_grad, "the actions hold a graph")
    check_finite(actions, "the plan")
    low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    check(bool(((actions >= low) & (actions <= high)).all()), "the plan leaves its bounds")
