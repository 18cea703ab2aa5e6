"""Planning in latent codes: what is searched are codes, what is imagined and done are real actions.

The adapter tells which codes a real action has at a frame. By Bayes' rule it also tells which
real action some codes mean: the posterior mean, with all actions equally likely before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from gymnasium.spaces import MultiDiscrete
from torch import Tensor

from benchmarks.vp2_protocol.agents import Cost, PlanningAgent
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import Dynamics, WorldModelDynamics
from benchmarks.vp2_protocol.records import Rules
from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.ensembles import Combination
from cola_env.scoring.rewards import Reward
from planners import Planner, PlanResult

SAMPLES = 1024
"""Random actions whose codes are looked at."""
AT_ONCE = 1 << 24
"""So many likelihoods of a token at a time, which bounds the memory."""


def check_latent_actions(name: str, model: ColaWorldModel | None) -> None:
    """ColaWorldError, which names the model, unless it has latent codes and takes real actions."""
    if model is None or not {"latent", "real"} <= set(model.action_modes):
        raise ColaWorldError(
            "planner=codes plans in latent codes and carries out real actions, for which the model "
            f"'{name}' lacks latent actions or an adapter: give model=cola, or a run of "
            "recipe=joint_mini."
        )


@dataclass(frozen=True)
class LatentActions:
    """The latent codes of a world model as actions."""

    dynamics: WorldModelDynamics

    @property
    def space(self) -> MultiDiscrete:
        config = self.dynamics.model.quantizer.config
        return MultiDiscrete([config.num_codes] * config.num_tokens)

    @torch.no_grad()
    def decoder(self, problem: PlanningProblem) -> Callable[[Tensor], Tensor]:
        """A function of codes (B, N, H, tokens) that gives the real actions (B, N, H, A) which
        they mean at the last real frames, in [-1, 1]."""
        model, device = self.dynamics.model, self.dynamics.device
        generator = torch.Generator().manual_seed(problem.seed)
        actions = torch.rand(SAMPLES, model.config.action_dim, generator=generator) * 2 - 1
        actions = actions.to(device)
        latents = self.dynamics.begin(problem).latents
        with autocast(device):
            logits = model.adapter(actions[None], latents[:, None])
        likelihood = logits.float().log_softmax(-1)  # (B, samples, tokens, codes)

        def decode(codes: Tensor) -> Tensor:
            flat = codes.to(device).flatten(1, 2)  # (B, N * H, tokens)
            group = max(1, AT_ONCE // (len(flat) * SAMPLES))
            means = [self._means(likelihood, part, actions) for part in flat.split(group, 1)]
            return torch.cat(means, 1).unflatten(1, codes.shape[1:3])

        return decode

    def _means(self, likelihood: Tensor, codes: Tensor, actions: Tensor) -> Tensor:
        """(B, n, A) of codes (B, n, tokens)."""
        chosen = codes.transpose(1, 2)[:, None].expand(-1, len(actions), -1, -1)
        found = likelihood.gather(3, chosen).sum(2)  # (B, samples, n)
        return torch.einsum("bsn,sa->bna", found.softmax(1), actions)


class LatentPlanningAgent(PlanningAgent):
    """Plans in the codes of its first dynamics, a model that `check_latent_actions` lets pass, and
    acts by what they mean at the last real frame."""

    def __init__(
        self,
        planner: Planner,
        dynamics: Sequence[Dynamics],
        reward: Reward,
        rules: Rules,
        sequences: int = 128,
        combine: Combination | None = None,
    ) -> None:
        assert isinstance(dynamics[0], WorldModelDynamics)
        self.latent_actions = LatentActions(dynamics[0])
        super().__init__(
            planner, dynamics, reward, self.latent_actions.space, rules, sequences, combine=combine
        )

    def _plan(self, cost: Cost, problem: PlanningProblem) -> PlanResult:
        decode = self.latent_actions.decoder(problem)
        plan = super()._plan(lambda codes: cost(decode(codes)), problem)
        return replace(plan, actions=decode(plan.actions[:, None])[:, 0])
