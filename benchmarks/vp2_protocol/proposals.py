"""Plans that a policy makes by acting in the dream: what a search begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import Dynamics, WorldModelDynamics
from benchmarks.vp2_protocol.records import fingerprint
from cola_env.checkpoints import checkpoint_files, find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo
from planners import AR1Noise
from planners.noise import NoiseStream, problem_seeds


@dataclass(frozen=True)
class Policy:
    """A policy of `cola clone`, of which a search gets `count` plans: one as it acts, the others
    under smooth noise of the standard deviation `noise`."""

    network: VisualPolicy
    count: int
    noise: float

    @classmethod
    def of(
        cls,
        config: DictConfig,
        world: WorldInfo,
        tasks: Sequence[str],
        rendering: str,
        device: torch.device,
    ) -> tuple[Policy | None, dict[str, Any]]:
        """That of a run's settings, and what it adds to the run's identity; None and {} without.

        Raises ColaWorldError when there is none in the folder, or it does not fit the run.
        """
        if config.proposal is None:
            return None, {}
        if config.proposal_count < 1 or not config.proposal_noise >= 0:
            raise ColaWorldError(
                f"proposal_count={config.proposal_count} must be at least 1, and proposal_noise="
                f"{config.proposal_noise} at least 0."
            )
        network = load_policy(config.proposal, device, world)
        check_same_profile(rendering, str(network.config.rendering), "goals and the policy")
        for task in tasks:
            network.head(task)
        weights = fingerprint(*checkpoint_files(find_checkpoint(config.proposal, world)))
        names = ("proposal_count", "proposal_noise")
        identity = {"proposal": weights} | {name: config[name] for name in names}
        return cls(network, config.proposal_count, config.proposal_noise), identity


@dataclass(frozen=True)
class PolicyProposals:
    """Plans of a policy that acts on the present frame, and then on those that a world model
    imagines."""

    policy: Policy
    dynamics: WorldModelDynamics
    horizon: int

    @classmethod
    def of(cls, policy: Policy | None, dynamics: Dynamics, planner: Any) -> PolicyProposals | None:
        """None without a policy, for what is no world model of ours, and for a planner without a
        horizon, which is none of ours and would not look at them."""
        horizon = getattr(planner, "horizon", None)
        if policy is None or horizon is None or not isinstance(dynamics, WorldModelDynamics):
            return None
        return cls(policy, dynamics, horizon)

    @torch.no_grad()
    def plans(self, problem: PlanningProblem) -> Tensor:
        """(B, K, H, A) for B problems, the plan without noise first."""
        model, policy = self.dynamics.model, self.policy
        batch, count, dims = len(problem.states), policy.count, model.config.action_dim
        state = self.dynamics.begin(problem)
        state = state.select(torch.arange(batch, device=model.device).repeat_interleave(count))
        seeds = problem_seeds(problem.seed, batch)
        stream = NoiseStream(
            AR1Noise(0.5), seeds, self.horizon, dims, model.device, antithetic=False
        )
        spread = torch.full((batch, self.horizon, dims), policy.noise, device=model.device)
        noise = stream.draw(count, spread)
        noise[:, 0] = 0
        noise = noise.flatten(0, 1)
        dreams = torch.Generator(model.device).manual_seed(problem.seed)
        frames, plan = problem.frames[:, -1].repeat_interleave(count, dim=0), []
        for t in range(self.horizon):
            acted = policy.network.act(frames, problem.task)
            plan.append((acted + noise[:, t]).clamp(-1, 1))
            if t + 1 < self.horizon:
                drawn = torch.randn(state.latents[:1].shape, generator=dreams, device=model.device)
                state = self.dynamics.step(state, plan[-1], drawn.expand_as(state.latents))
                frames = model.frames(state)
        return torch.stack(plan, dim=1).unflatten(0, (batch, count))
