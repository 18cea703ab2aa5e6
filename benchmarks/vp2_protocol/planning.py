"""Which agent a planner is: one that plans in real actions, or in latent codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium.spaces import Box

from benchmarks.vp2_protocol.agents import PlanningAgent
from benchmarks.vp2_protocol.codes import LatentPlanningAgent
from benchmarks.vp2_protocol.dynamics import Dynamics
from benchmarks.vp2_protocol.proposals import Policy, PolicyProposals
from benchmarks.vp2_protocol.records import Rules
from benchmarks.vp2_protocol.screening import LatentScreen
from cola_env.scoring.ensembles import Combination
from cola_env.scoring.rewards import Reward
from planners import CategoricalCEM

AT_ONCE = {"cpu": 128, "cuda": 4096}
"""About how many candidates a device imagines in one batch."""


def planning_agent(
    planner: Any,
    dynamics: Sequence[Dynamics],
    reward: Reward,
    action_space: Box,
    rules: Rules,
    *,
    devices: int = 1,
    combine: Combination | None = None,
    policy: Policy | None = None,
    screen_factor: int | None = None,
) -> PlanningAgent:
    """The agent of a planner; one that plans in codes takes no plans of a `policy` and no screen.

    devices: that the candidates are spread over.
    """
    sequences = devices * AT_ONCE.get(dynamics[0].device.type, AT_ONCE["cuda"])
    if isinstance(planner, CategoricalCEM):
        return LatentPlanningAgent(planner, dynamics, reward, rules, sequences, combine)
    proposals = PolicyProposals.of(policy, dynamics[0], planner)
    return PlanningAgent(
        planner,
        dynamics,
        reward,
        action_space,
        rules,
        sequences=sequences,
        combine=combine,
        screen=LatentScreen.of(dynamics[0], screen_factor),
        propose=None if proposals is None else proposals.plans,
    )
