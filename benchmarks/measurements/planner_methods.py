"""Who takes part in planner_comparison.py: our planners and those of every rival installed.

All get the same budget, 5 iterations of 512 candidates, and 26 elites. The rest are the defaults of
each library, and for stable-worldmodel also an initial std of 0.5, which suits some problems better
than its 1. What some of ours spend on evaluating their finalists is taken from their candidates.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measurements.planner_problems import HORIZON
from planners import (
    CEM,
    ICEM,
    LBFGS,
    MPPI,
    VP2CEM,
    VP2MPPI,
    AR1Noise,
    Chain,
    Gradient,
    PredictiveSampling,
    RandomShooting,
    WhiteNoise,
)

SAMPLES, ITERATIONS, ELITES = 512, 5, 26


@dataclass(frozen=True)
class ComparedPlanner:
    """`planner` has our `plan`; `batched`: it plans for many problems at the price of one call."""

    name: str
    library: str
    planner: Any
    batched: bool = True
    gradients: bool = False
    seeded: bool = False  # its cost draws common random numbers


def ours() -> list[ComparedPlanner]:
    budget: dict[str, Any] = {
        "horizon": HORIZON,
        "num_samples": SAMPLES,
        "iterations": ITERATIONS,
    }
    finals = budget | {"num_samples": SAMPLES - 13, "returns": "finalist"}  # 8 x 8 evaluations
    sampling = {
        "RandomShooting": RandomShooting(**budget),
        "PredictiveSampling": PredictiveSampling(**budget),
        "MPPI": MPPI(**budget),
        "CEM": CEM(**budget),
        "CEM white noise": CEM(noise=WhiteNoise(), **budget),
        "CEM best-ever": CEM(returns="best", **budget),
        "CEM finalists": CEM(**finals),
        "ICEM": ICEM(**budget),
        "ICEM AR(1) noise": ICEM(noise=AR1Noise(0.5), **budget),
        "ICEM best-ever": ICEM(returns="best", **budget),
        "ICEM finalists": ICEM(**finals),
        "VP2MPPI": VP2MPPI(**budget),
        "VP2CEM": VP2CEM(**budget),
    }
    descent = {
        "Gradient": Gradient(horizon=HORIZON),
        "LBFGS": LBFGS(horizon=HORIZON),
        "CEM + LBFGS": Chain([CEM(**budget | {"iterations": 3}), LBFGS(horizon=HORIZON)]),
    }
    return [
        *(ComparedPlanner(name, "ours", planner) for name, planner in sampling.items()),
        ComparedPlanner("ICEM common noise a plan", "ours", ICEM(**budget), seeded=True),
        ComparedPlanner(
            "ICEM common noise an iteration",
            "ours",
            ICEM(common_noise="iteration", **budget),
            seeded=True,
        ),
        *(
            ComparedPlanner(name, "ours", planner, gradients=True)
            for name, planner in descent.items()
        ),
    ]


def stable_worldmodel() -> list[ComparedPlanner]:
    solvers = importlib.import_module("stable_worldmodel.solver")
    from planners.adapters.stable_worldmodel import SolverPlanner

    budget = {"num_samples": SAMPLES, "n_steps": ITERATIONS, "topk": ELITES}
    all_at_once = {"num_samples": SAMPLES * ITERATIONS}
    starts = {"num_samples": 8, "n_steps": 30, "optimizer_cls": torch.optim.Adam}
    planners: dict[str, tuple[Any, dict[str, Any]]] = {
        "CEM": (solvers.CEMSolver, budget),
        "CEM std 0.5": (solvers.CEMSolver, budget | {"var_scale": 0.5}),
        "iCEM": (solvers.ICEMSolver, budget),
        "iCEM std 0.5": (solvers.ICEMSolver, budget | {"var_scale": 0.5}),
        "MPPI std 0.5": (solvers.MPPISolver, budget | {"var_scale": 0.5}),
        "PredictiveSampling std 0.5": (
            solvers.PredictiveSamplingSolver,
            all_at_once | {"noise_scale": 0.5},
        ),
        "GD": (solvers.GradientSolver, starts | {"optimizer_kwargs": {"lr": 0.05}}),
    }
    return [
        ComparedPlanner(
            f"swm {name}",
            "swm",
            SolverPlanner(solver, HORIZON, **settings),
            gradients=name == "GD",
        )
        for name, (solver, settings) in planners.items()
    ]


class _Advantage(torch.nn.Module):
    """What TorchRL's MPPI weighs plans by: here their return."""

    def forward(self, tensordict: Any) -> Any:
        return tensordict.set("advantage", tensordict["next", "reward"])


def torchrl() -> list[ComparedPlanner]:
    modules = importlib.import_module("torchrl.modules")
    from planners.adapters.torchrl import TorchRLPlanner

    budget: dict[str, Any] = {"optim_steps": ITERATIONS, "num_candidates": SAMPLES, "top_k": ELITES}
    mppi = budget | {"advantage_module": _Advantage(), "temperature": 1.0}
    return [
        ComparedPlanner(
            "TorchRL CEM", "TorchRL", TorchRLPlanner(modules.CEMPlanner, HORIZON, **budget)
        ),
        ComparedPlanner(
            "TorchRL MPPI", "TorchRL", TorchRLPlanner(modules.MPPIPlanner, HORIZON, **mppi)
        ),
    ]


def pytorch_mppi() -> list[ComparedPlanner]:
    library = importlib.import_module("pytorch_mppi")
    from planners.adapters.pytorch_mppi import PytorchMPPIPlanner

    budget = {"num_samples": SAMPLES, "iterations": ITERATIONS}
    return [
        ComparedPlanner(
            f"pytorch_mppi {name}",
            "pytorch_mppi",
            PytorchMPPIPlanner(getattr(library, name), HORIZON, **budget),
            batched=False,
        )
        for name in ("MPPI", "KMPPI")
    ]


def all_methods(say: Callable[[str], None] = print) -> list[ComparedPlanner]:
    """All that can be imported here; `say` is told of the others."""
    found = ours()
    for library in (stable_worldmodel, torchrl, pytorch_mppi):
        try:
            found += library()
        except Exception as error:  # a torchvision that does not fit raises RuntimeError
            say(f"{library.__name__} is left out, it cannot be imported: {error}")
    return found
