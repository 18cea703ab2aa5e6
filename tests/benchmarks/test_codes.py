"""Planning in latent codes, carried out as real actions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import MultiDiscrete
from hydra import compose, initialize_config_dir

from benchmarks.vp2_protocol.codes import LatentActions, LatentPlanningAgent, check_latent_actions
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import WorldModelDynamics
from benchmarks.vp2_protocol.records import Rules
from benchmarks.vp2_protocol.run import Run
from cola_env.errors import ColaWorldError
from cola_env.goals.loading import load_goals
from cola_env.models.loading import load_model
from cola_env.scoring.rewards import MSEReward
from planners import CategoricalCEM
from tests.train.small import small_model

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"
RULES = Rules("mse", episodes=1, seed=0, replan_every=2)


def problem(frames: torch.Tensor) -> PlanningProblem:
    batch = len(frames)
    goals = torch.full((batch, 64, 64, 3), 0.5)
    return PlanningProblem(
        "push_red", frames, torch.zeros(batch, 0, 5), np.zeros((batch, 4)), goals, seed=3
    )


@pytest.fixture(scope="module")
def dynamics() -> WorldModelDynamics:
    return WorldModelDynamics(load_model("cola", "cpu"))


@pytest.fixture(scope="module")
def start() -> PlanningProblem:
    pairs = load_goals("fast").of("push_red")[:2]
    return problem(torch.from_numpy(np.stack([pair.goal_frame for pair in pairs]))[:, None])


def test_codes_mean_actions_that_have_them(dynamics, start) -> None:
    """Where the shipped adapter tells codes apart, what they mean moves the arm as they say."""
    decode = LatentActions(dynamics).decoder(start)
    model, latents = dynamics.model, dynamics.begin(start).latents
    generator = torch.Generator().manual_seed(1)
    actions = torch.rand(2, 200, 5, generator=generator) * 2 - 1
    codes = model.adapter.codes(model.adapter(actions, latents[:, None]))
    meant = decode(codes[:, :, None])[:, :, 0]
    assert meant.shape == actions.shape and meant.abs().max() <= 1
    for row in range(2):
        for axis in range(2):  # over the table
            told = np.corrcoef(meant[row, :, axis], actions[row, :, axis])[0, 1]
            assert told > 0.6, (row, axis, told)


def test_an_action_is_the_mean_of_all_weighted_by_their_likelihood(dynamics, start) -> None:
    latent_actions = LatentActions(dynamics)
    codes = torch.tensor([[[[3, 7]]], [[[0, 31]]]])
    found = latent_actions.decoder(start)(codes)
    generator = torch.Generator().manual_seed(start.seed)
    actions = torch.rand(1024, 5, generator=generator) * 2 - 1
    latents = dynamics.begin(start).latents
    for row in range(2):
        logits = dynamics.model.adapter(actions, latents[row : row + 1])
        likely = logits.double().softmax(-1)
        first, second = codes[row, 0, 0].tolist()
        weight = likely[:, 0, first] * likely[:, 1, second]
        expected = (weight[:, None] * actions).sum(0) / weight.sum()
        torch.testing.assert_close(found[row, 0, 0].double(), expected, atol=1e-4, rtol=0)


def test_what_is_imagined_and_done_is_what_the_codes_mean(dynamics, start) -> None:
    planner = CategoricalCEM(horizon=3, num_samples=12, iterations=2)
    agent = LatentPlanningAgent(planner, [dynamics], MSEReward(), RULES)
    agent.reset(batch=2)
    decision = agent.decide(start)
    assert agent.action_space == MultiDiscrete([32, 32])
    codes = agent.mpc.plan.actions
    assert codes.shape == (2, 3, 2) and codes.dtype == torch.long
    meant = agent.latent_actions.decoder(start)(codes[:, None])[:, 0]
    assert torch.equal(decision.actions, meant) and meant.shape == (2, 3, 5)
    shown = dynamics.imagine(start)(slice(0, 2), meant[:, None])[:, 0, :2]
    assert np.abs(decision.imagined / 255 - shown.clamp(0, 1).numpy()).max() < 0.01
    assert np.isfinite(decision.costs).all()
    agent.select(torch.tensor([False, True]))
    assert agent.decide(problem(start.frames[1:])).actions.shape == (1, 3, 5)


def test_it_finds_better_plans_than_the_first_one(dynamics, start) -> None:
    costs = []
    for iterations in (1, 6):
        planner = CategoricalCEM(horizon=3, num_samples=8, iterations=iterations)
        agent = LatentPlanningAgent(planner, [dynamics], MSEReward(), RULES)
        agent.reset(batch=2)
        costs.append(agent.decide(start).costs)
    assert (costs[1] <= costs[0]).all() and (costs[1] < costs[0]).any()


def test_a_model_without_latent_actions_is_refused() -> None:
    for model in (None, small_model(conditioning="direct")):
        with pytest.raises(ColaWorldError, match="the model 'mine' lacks latent actions"):
            check_latent_actions("mine", model)
    check_latent_actions("mine", small_model())


def run(out: Path, *settings: str) -> Run:
    with initialize_config_dir(str(CONF), version_base=None):
        given = ["planner=codes", "tasks=[push_red]", "episodes=1", f"out={out}", *settings]
        return Run(compose("vp2", given))


@pytest.mark.parametrize(
    "settings, told",
    [
        (["model=[cola,direct]"], "model 'direct' lacks latent actions or an adapter"),
        (["model=simulator"], "model 'simulator' lacks latent actions"),
        (["model=cola", "screen=latent"], "leave out screen="),
        (["model=cola", "proposal=policy"], "proposal= is of no use here"),
    ],
)
def test_what_does_not_fit_codes_is_refused_before_an_episode(
    settings: list[str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ColaWorldError, match=told):
        run(tmp_path, *settings)
    assert not list(tmp_path.iterdir())


def test_a_run_plays_codes(tmp_path: Path) -> None:
    pytest.importorskip("robodesk")
    short = ["planner.num_samples=4", "planner.iterations=1", "steps=3", "workers=1", "threads=1"]
    played = run(tmp_path, "model=cola", *short)
    played.play(lambda *_: None)
    (record,) = played.records()
    assert record.model == "cola" and record.steps == 3 and record.imagined_psnr is not None
