"""Optimisers over action sequences: give them a cost, they give back a plan.

    from planners import CEM
    plan = CEM(horizon=10, num_samples=200, iterations=3).plan(cost, action_space)

`cost(actions (B, N, H, A)) -> (B, N)`, lower is better, is all that a planner sees. Needs torch
and numpy only; `planners.adapters` joins them with other libraries.
"""

from planners.categorical import CategoricalCEM
from planners.cem import CEM, ICEM
from planners.chain import Chain
from planners.cost import Cost, Proposed, Screened
from planners.gradient import Gradient
from planners.lbfgs import LBFGS
from planners.mpc import MPC
from planners.mppi import MPPI
from planners.noise import AR1Noise, ColoredNoise, Noise, WhiteNoise
from planners.plan import Iteration, Planner, PlanResult
from planners.sampling import SamplingPlanner
from planners.shooting import PredictiveSampling, RandomShooting
from planners.vp2_planners import VP2CEM, VP2MPPI

__all__ = [
    "AR1Noise",
    "CEM",
    "CategoricalCEM",
    "Chain",
    "ColoredNoise",
    "Cost",
    "Gradient",
    "ICEM",
    "Iteration",
    "LBFGS",
    "MPC",
    "MPPI",
    "Noise",
    "PlanResult",
    "Planner",
    "PredictiveSampling",
    "Proposed",
    "RandomShooting",
    "SamplingPlanner",
    "Screened",
    "VP2CEM",
    "VP2MPPI",
    "WhiteNoise",
]
