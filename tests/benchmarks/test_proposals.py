"""A policy that acts in the dream proposes plans to the search."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from omegaconf import OmegaConf

from benchmarks.vp2_protocol.agents import PlanningAgent
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import CopyDynamics, WorldModelDynamics
from benchmarks.vp2_protocol.proposals import Policy, PolicyProposals
from benchmarks.vp2_protocol.records import Rules
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy
from cola_env.scoring.rewards import MSEReward
from cola_env.worlds import ROBODESK
from planners import CEM
from tests.models.small import small_model

TASKS = ("push_red", "push_blue")


def network() -> VisualPolicy:
    torch.manual_seed(0)
    policy = VisualPolicy(TASKS, width=4)
    torch.nn.init.normal_(policy.heads.weight, std=0.5)
    return policy.eval()


def problem(batch: int, seed: int = 3) -> PlanningProblem:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (batch, 2, 64, 64, 3), generator=generator).to(torch.uint8)
    actions = torch.rand(batch, 1, 5, generator=generator) * 2 - 1
    goals = torch.rand(batch, 64, 64, 3, generator=generator)
    return PlanningProblem("push_blue", frames, actions, np.zeros((batch, 4)), goals, seed)


def proposals(count: int, noise: float) -> PolicyProposals:
    dynamics = WorldModelDynamics(small_model(conditioning="direct"))
    return PolicyProposals(Policy(network(), count, noise), dynamics, horizon=4)


def test_a_policy_acts_on_the_real_frame_and_then_on_what_the_model_imagines() -> None:
    given, asked = proposals(count=3, noise=0.2), problem(2)
    plans = given.plans(asked)
    assert plans.shape == (2, 3, 4, 5) and plans.abs().max() <= 1
    model = given.dynamics.model
    state, generator = given.dynamics.begin(asked), torch.Generator().manual_seed(asked.seed)
    for t in range(4):
        frames = model.frames(state) if t else asked.frames[:, -1]
        action = given.policy.network.act(frames, "push_blue")
        torch.testing.assert_close(plans[:, 0, t], action, atol=2e-3, rtol=0)
        noise = torch.randn(1, *state.latents.shape[1:], generator=generator)
        state = model.step(state, action, noise=noise.expand_as(state.latents))
    moved = (plans[:, 1:] - plans[:, :1])[:, :, 0].std()
    assert 0.05 < moved < 0.4, "the others act under noise"
    assert not torch.equal(plans[0, 1], plans[1, 1])
    torch.testing.assert_close(given.plans(asked), plans)


def test_without_noise_all_plans_are_the_policys() -> None:
    plans = proposals(count=3, noise=0.0).plans(problem(2))
    torch.testing.assert_close(plans, plans[:, :1].expand_as(plans), atol=1e-3, rtol=0)


def test_the_search_of_an_agent_begins_with_them() -> None:
    plans, seen = torch.full((2, 3, 4, 5), 0.77), []

    class Recorder(CopyDynamics):
        def imagine(self, asked: PlanningProblem):
            imagination = super().imagine(asked)

            def recorded(rows: slice, candidates: torch.Tensor) -> torch.Tensor:
                seen.append(candidates.clone())
                return imagination(rows, candidates)

            return recorded

    planner = CEM(horizon=4, num_samples=8, iterations=1)
    rules = Rules("mse", episodes=1, seed=0, replan_every=2)
    agent = PlanningAgent(
        planner, [Recorder()], MSEReward(), Box(-1, 1, (5,)), rules, propose=lambda _: plans
    )
    agent.reset(batch=2)
    decision = agent.decide(problem(2))
    assert seen[0].shape == (2, 8, 4, 5)
    assert torch.equal(seen[0][:, :3], plans)
    assert decision.spent["proposals"] > 0


def settings(place: Path | None, count: int = 16) -> OmegaConf:
    given = {"proposal": place and str(place), "proposal_count": count, "proposal_noise": 0.3}
    return OmegaConf.create(given)


def test_a_run_knows_its_policy_by_its_weights(tmp_path: Path) -> None:
    network().save_pretrained(tmp_path / "policy")
    where = ROBODESK, TASKS, "fast", torch.device("cpu")
    policy, identity = Policy.of(settings(tmp_path / "policy"), *where)
    assert policy is not None and (policy.count, policy.noise) == (16, 0.3)
    assert identity["proposal_count"] == 16 and len(identity["proposal"]) > 4
    other = network()
    torch.nn.init.zeros_(other.heads.weight)
    other.save_pretrained(tmp_path / "other")
    assert Policy.of(settings(tmp_path / "other"), *where)[1]["proposal"] != identity["proposal"]
    assert Policy.of(settings(None), *where) == (None, {})


@pytest.mark.parametrize(
    ("tasks", "rendering", "count", "told"),
    [
        (("open_slide",), "fast", 16, "does not know the task 'open_slide'"),
        (TASKS, "vp2", 16, "fast"),
        (TASKS, "fast", 0, "proposal_count=0"),
    ],
)
def test_a_policy_that_does_not_fit_the_run_is_refused(
    tasks: tuple[str, ...], rendering: str, count: int, told: str, tmp_path: Path
) -> None:
    network().save_pretrained(tmp_path)
    with pytest.raises(ColaWorldError, match=told):
        Policy.of(settings(tmp_path, count), ROBODESK, tasks, rendering, torch.device("cpu"))


def test_only_our_world_models_and_planners_are_proposed_to() -> None:
    policy, planner = Policy(network(), 3, 0.2), CEM(horizon=4)
    dynamics = WorldModelDynamics(small_model(conditioning="direct"))
    assert PolicyProposals.of(policy, dynamics, planner) is not None
    assert PolicyProposals.of(None, dynamics, planner) is None
    assert PolicyProposals.of(policy, CopyDynamics(), planner) is None
    assert PolicyProposals.of(policy, dynamics, object()) is None
