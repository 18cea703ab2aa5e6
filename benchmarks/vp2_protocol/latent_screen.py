"""Rewards in latent space for many candidates, in pixels only for the finalists among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from benchmarks.vp2_protocol.agents import Dynamics, Judgement, Situation
from benchmarks.vp2_protocol.dynamics import WorldModelDynamics
from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.rewards import MSEReward


@dataclass(frozen=True)
class LatentScreen:
    """The reward "mse" of undecoded frames: latents of a world model against the goal's.

    factor: candidates that are imagined for each that is decoded and truly scored, >= 2.
    """

    dynamics: WorldModelDynamics
    factor: int

    def rewards(self, situation: Situation) -> Judgement:
        device = self.dynamics.device
        with autocast(device):
            goals = self.dynamics.model.encode(situation.goals.to(device))
        latents = self.dynamics.rollouts(situation, decoded=False)
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


def make_screen(config: DictConfig, dynamics: Dynamics) -> LatentScreen | None:
    """The screen that a run asks for; what is no world model of ours has no latents, and none."""
    if check_screen(config) and isinstance(dynamics, WorldModelDynamics):
        return LatentScreen(dynamics, config.screen_factor)
    return None
