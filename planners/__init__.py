"""Optimisers over action sequences: give them a cost, they give back a plan.

    from planners import CEM
    plan = CEM(horizon=10, num_samples=200, iterations=3).plan(cost, action_space)

`cost(actions (B, N, H, A)) -> (B, N)`, lower is better, is all that a planner sees. Needs torch
and numpy only.
"""

from planners.base import SamplingPlanner
from planners.cem import CEM
from planners.evaluation import Cost
from planners.mpc import MPC
from planners.mppi import MPPI
from planners.noise import AR1Noise, ColoredNoise, Noise, WhiteNoise
from planners.protocol import Planner
from planners.random_shooting import RandomShooting
from planners.result import Iteration, PlanResult

__all__ = [
    "AR1Noise",
    "CEM",
    "ColoredNoise",
    "Cost",
    "Iteration",
    "MPC",
    "MPPI",
    "Noise",
    "PlanResult",
    "Planner",
    "RandomShooting",
    "SamplingPlanner",
    "WhiteNoise",
]
