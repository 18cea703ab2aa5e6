"""A screen in latent space: of many candidates it chooses those that are decoded and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import Dynamics, Scoring, WorldModelDynamics
from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.scoring.rewards import MSEReward


@dataclass(frozen=True)
class LatentScreen:
    """The reward "mse" of undecoded frames, latents of a world model against the goal's: it chooses
    which candidates are decoded.

    factor: candidates that are imagined for each that is decoded and truly scored, >= 2.
    """

    dynamics: WorldModelDynamics
    factor: int

    @classmethod
    def of(cls, dynamics: Dynamics, factor: int | None) -> LatentScreen | None:
        """None without a factor, or for what is no world model of ours and has no latents."""
        if factor is None or not isinstance(dynamics, WorldModelDynamics):
            return None
        return cls(dynamics, factor)

    def rewards(self, problem: PlanningProblem) -> Scoring:
        device = self.dynamics.device
        with autocast(device):
            goals = self.dynamics.model.encode(problem.goals.to(device))
        latents = self.dynamics.rollouts(problem, decoded=False)
        nearness = MSEReward()
        return lambda rows, candidates: nearness(latents(rows, candidates), goals[rows])


def check_screen(config: DictConfig) -> dict[str, Any]:
    """What the screen adds to a run's identity: {} for none; ColaWorldError for an unknown one."""
    if config.screen is None:
        return {}
    if config.screen != "latent":
        raise ColaWorldError(f"Unknown screen '{config.screen}'; choose screen=latent or null.")
    if config.screen_factor < 2:
        raise ColaWorldError(
            f"screen_factor={config.screen_factor} screens nothing: give 2 or more, or screen=null."
        )
    return {"screen": config.screen, "screen_factor": config.screen_factor}
