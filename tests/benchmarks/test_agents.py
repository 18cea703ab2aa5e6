import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from omegaconf import OmegaConf

from benchmarks.vp2_protocol.agents import MPCAgent, PlanningAgent, RandomActions
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import CopyDynamics, SimulatorDynamics, WorldModelDynamics
from benchmarks.vp2_protocol.episodes import EpisodeBatch, play
from benchmarks.vp2_protocol.methods import check_random
from benchmarks.vp2_protocol.named_models import NamedModels
from benchmarks.vp2_protocol.named_planners import make_planner
from benchmarks.vp2_protocol.records import Rules
from benchmarks.vp2_protocol.screening import LatentScreen, check_screen
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.scoring.ensembles import Combination
from cola_env.scoring.rewards import MSEReward
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import ROBODESK
from planners import CEM, PlanResult
from tests.models.small import small_model

SPACE = Box(-1, 1, (5,))


class Painter:
    """Dynamics whose frames show the sum of the actions so far as their brightness."""

    device = torch.device("cpu")

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def imagine(self, problem):
        def imagination(rows, candidates):
            level = (self.gain * candidates.cumsum(-2)[..., 0]).clamp(0, 1)
            return level[..., None, None, None].expand(*level.shape, 64, 64, 3)

        return imagination


def problem(batch: int, **changes) -> PlanningProblem:
    return PlanningProblem(
        **{
            "task": "push_red",
            "frames": torch.zeros(batch, 1, 64, 64, 3, dtype=torch.uint8),
            "actions": torch.zeros(batch, 0, 5),
            "states": np.zeros((batch, 4)),
            "goals": torch.linspace(0.2, 0.6, batch)[:, None, None, None].expand(-1, 64, 64, 3),
            "seed": 3,
            **changes,
        }
    )


@pytest.mark.parametrize("sequences", [1, 48, 10_000])
def test_planning_reaches_each_problems_goal_whatever_the_chunks(sequences):
    rules = Rules("mse", episodes=1, seed=0, replan_every=2, final_weight=0.5)
    planner = CEM(horizon=3, num_samples=48, iterations=4)
    agent = PlanningAgent(planner, [Painter()], MSEReward(), SPACE, rules, sequences)
    decision = deciding(agent, 3).decide(problem(3))
    reached = decision.actions[..., 0].cumsum(1)
    assert decision.actions.shape == (3, 3, 5)
    assert reached[:, -1] == pytest.approx(torch.tensor([0.2, 0.4, 0.6]), abs=0.15)
    assert decision.imagined.shape == (3, 2, 64, 64, 3)
    shown = decision.imagined[:, 0, 0, 0, 0] / 255
    assert shown == pytest.approx(reached[:, 0].clamp(0, 1).numpy(), abs=0.01)
    assert np.isfinite(decision.costs).all()
    assert decision.spent.keys() == {"imagination", "rewards", "planner"}
    assert all(seconds > 0 for seconds in decision.spent.values())


def test_a_plan_does_not_depend_on_the_parts_that_its_candidates_come_in(tiny_model):
    """All are imagined under the same noise, however many problems a part holds."""
    rules = Rules("mse", episodes=1, seed=0, replan_every=2)
    dynamics = WorldModelDynamics(load_model(tiny_model, "cpu"))
    plans = []
    for chunk in (None, 7, 24):
        planner = CEM(horizon=3, num_samples=24, iterations=1, chunk_size=chunk)
        agent = PlanningAgent(planner, [dynamics], MSEReward(), SPACE, rules, sequences=48)
        plans.append(deciding(agent, 3).decide(problem(3)).actions)
    assert torch.allclose(plans[0], plans[1], atol=1e-5)
    assert torch.allclose(plans[0], plans[2], atol=1e-5)


@pytest.mark.parametrize("samples", [1, 7])
def test_a_plan_does_not_depend_on_the_devices_that_its_candidates_are_spread_over(
    tiny_model, samples
):
    rules = Rules("mse", episodes=1, seed=0, replan_every=2)
    plans = []
    for devices in (1, 2):
        models = NamedModels(ROBODESK, {"it": str(tiny_model)}, *[torch.device("cpu")] * devices)
        (loaded,), (replicas,) = models.loaded.values(), models.replicas.values()
        dynamics = WorldModelDynamics(loaded, replicas)
        agent = PlanningAgent(
            CEM(horizon=2, num_samples=samples, iterations=2),
            [dynamics],
            MSEReward(),
            SPACE,
            rules,
            screen=LatentScreen(dynamics, 2) if samples > 1 else None,
        )
        plans.append(deciding(agent, 2).decide(problem(2)))
    assert torch.allclose(plans[0].actions, plans[1].actions, atol=1e-5)
    assert plans[0].costs == pytest.approx(plans[1].costs, abs=1e-5)
    assert np.abs(plans[0].imagined.astype(int) - plans[1].imagined).max() <= 1


@pytest.mark.parametrize("screened", [False, True])
def test_a_world_model_is_planned_with_on_every_device(device, screened):
    model = small_model().to(device)
    dynamics = WorldModelDynamics(model, guidance_scale=2.0)
    rules = Rules("mse", episodes=1, seed=0, replan_every=2)
    agent = PlanningAgent(
        CEM(horizon=2, num_samples=4, iterations=1),
        [dynamics, dynamics],
        MSEReward(),
        SPACE,
        rules,
        sequences=4,
        screen=LatentScreen(dynamics, 2) if screened else None,
    )
    frames = torch.randint(0, 256, (2, 2, 64, 64, 3), dtype=torch.uint8)
    given = problem(2, frames=frames, actions=torch.zeros(2, 1, 5))
    agent = deciding(agent, 2)
    for decision in (agent.decide(given), agent.decide(given)):
        assert decision.actions.shape == (2, 2, 5) and decision.actions.device.type == "cpu"
        assert decision.imagined.shape == (2, 2, 64, 64, 3)
        assert np.isfinite(decision.costs).all()


class Still:
    """A planner of one plan."""

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
        return PlanResult(torch.full((batch, 4, 5), 0.1))


def test_a_planner_that_gives_only_actions_is_enough():
    rules = Rules("mse", episodes=1, seed=0, replan_every=2)
    agent = PlanningAgent(Still(), [Painter()], MSEReward(), SPACE, rules, 8)
    decision = deciding(agent, 2).decide(problem(2))
    error = (torch.linspace(0.1, 0.4, 4)[None] - torch.tensor([[0.2], [0.6]])).square().mean(1)
    assert decision.costs == pytest.approx(error.numpy(), abs=1e-5)


@pytest.mark.parametrize("how", ["mean", "min", "cautious"])
def test_an_ensembles_scores_are_combined_and_its_first_members_frames_shown(how):
    """Of the members 0.1, 0.2 bright after a step and so on, goal 0.4."""
    rules = Rules("mse", episodes=1, seed=0, replan_every=2)
    painters = [Painter(1.0), Painter(2.0)]
    combine = Combination(how, penalty=0.5)
    agent = PlanningAgent(Still(), painters, MSEReward(), SPACE, rules, combine=combine)
    decision = agent.decide(problem(1, goals=torch.full((1, 64, 64, 3), 0.4)))
    steps = np.linspace(0.1, 0.4, 4)
    scores = [-np.square(np.minimum(gain * steps, 1) - 0.4).mean() for gain in (1.0, 2.0)]
    expected = {
        "mean": np.mean(scores),
        "min": min(scores),
        "cautious": np.mean(scores) - 0.5 * np.std(scores),
    }
    assert -decision.costs == pytest.approx([expected[how]], abs=1e-5)
    assert decision.imagined[0, :, 0, 0, 0] / 255 == pytest.approx([0.1, 0.2], abs=0.01)


class LatentPainter(WorldModelDynamics):
    """A world model whose latents are the brightness that its frames show, and who counts both."""

    device = torch.device("cpu")

    def __init__(self):
        self.model, self.seen = self, {True: 0, False: 0}

    def encode(self, frames):
        return frames[:, :1, :1, :1].permute(0, 3, 1, 2)

    def rollouts(self, problem, decoded=True):
        imagination = Painter().imagine(problem)

        def rollout(rows, candidates):
            self.seen[decoded] += candidates.shape[0] * candidates.shape[1]
            frames = imagination(rows, candidates)
            return frames if decoded else frames[..., 0, 0, :1][..., None, None]

        return rollout


def test_a_latent_screen_decodes_only_the_candidates_nearest_to_the_goal():
    rules = Rules("mse", episodes=1, seed=0, replan_every=1)
    planner, painter = CEM(horizon=2, num_samples=8, iterations=1), LatentPainter()
    screen = LatentScreen(painter, factor=16)
    judged = []

    def reward(frames, goal):
        judged.append(frames[..., 0, 0, 0])
        return MSEReward()(frames, goal)

    plain = PlanningAgent(planner, [painter], reward, SPACE, rules)
    far = deciding(plain, 2).decide(problem(2)).costs
    drawn = judged[0]
    assert painter.seen[False] == 0
    judged.clear()
    screened = PlanningAgent(planner, [painter], reward, SPACE, rules, screen=screen)
    decision = deciding(screened, 2).decide(problem(2))
    finalists = judged[0]
    assert finalists.shape == drawn.shape == (2, 8, 2)
    assert painter.seen[False] == 2 * 16 * 8, "so many were imagined, undecoded"
    goals = torch.tensor([0.2, 0.6])[:, None, None]
    assert (finalists - goals).abs().mean() < 0.5 * (drawn - goals).abs().mean()
    assert decision.costs.mean() < far.mean()
    assert decision.spent["screening"] > 0


def test_a_screen_is_latent_of_a_world_model_or_none():
    def config(screen, factor=4):
        return OmegaConf.create({"screen": screen, "screen_factor": factor})

    painter = LatentPainter()
    assert check_screen(config("latent")) == {"screen": "latent", "screen_factor": 4}
    assert check_screen(config(None)) == {}
    assert LatentScreen.of(painter, 4) == LatentScreen(painter, 4)
    assert LatentScreen.of(Painter(), 4) is None and LatentScreen.of(painter, None) is None
    for wrong, match in ((config("pixels"), "screen=latent"), (config("latent", 1), "2 or more")):
        with pytest.raises(ColaWorldError, match=match):
            check_screen(wrong)


def test_scores_sum_over_time_where_the_rules_say_so():
    costs = [
        PlanningAgent(
            Still(),
            [Painter()],
            MSEReward(),
            SPACE,
            Rules("mse", episodes=1, seed=0, replan_every=2, sum_over_time=sums),
        )
        .decide(problem(1))
        .costs
        for sums in (False, True)
    ]
    assert costs[1] == pytest.approx(4 * costs[0])


def test_a_copy_imagines_that_nothing_moves():
    frames = torch.randint(0, 256, (2, 2, 64, 64, 3), dtype=torch.uint8)
    imagine = CopyDynamics().imagine(problem(2, frames=frames))
    imagined = imagine(slice(1, 2), torch.rand(1, 3, 4, 5))
    assert imagined.shape == (1, 3, 4, 64, 64, 3)
    last = (frames[1, -1].float() / 255).expand(1, 3, 4, -1, -1, -1)
    torch.testing.assert_close(imagined, last)


def deciding(agent, batch):
    """The agent at the beginning of `batch` episodes."""
    agent.reset(batch=batch)
    return agent


def random_agent(steps, **settings):
    rules = Rules("mse", episodes=1, seed=0, steps=steps, replan_every=3)
    return MPCAgent(RandomActions(steps, **settings), SPACE, rules)


def test_random_actions_are_smooth_bounded_and_go_on():
    agent = deciding(random_agent(2000, scale=0.6, correlation=0.7), 2)
    actions = agent.decide(problem(2)).actions
    assert actions.abs().max() <= 1
    x = actions[0, :, 0]
    assert torch.corrcoef(torch.stack((x[:-1], x[1:])))[0, 1] == pytest.approx(0.7, abs=0.08)
    assert not torch.equal(actions[0], actions[1])
    agent.select(torch.tensor([False, True]))
    assert torch.equal(agent.decide(problem(1, seed=4)).actions[:, :-3], actions[1:, 3:])
    assert torch.equal(deciding(agent, 2).decide(problem(2)).actions, actions)


def test_random_actions_have_a_scale_for_each_component():
    scale = [0.5, 0.1, 0.0, 0.2, 0.3]
    agent = random_agent(4000, scale=scale, correlation=0.7)
    assert agent.decide(problem(1)).actions[0].std(0).tolist() == pytest.approx(scale, rel=0.15)
    assert check_random({"scale": scale, "correlation": 0.7}, 5)["random"]["scale"] == scale


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scale": [0.1, 0.2, 0.3]}, "random.scale=.*each of the 5 components"),
        ({"scale": -1.0}, "random.scale=-1.0 must be .* 0 or more"),
        ({"correlation": 1.0}, r"random.correlation=1.0 must be in \[0, 1\)"),
    ],
)
def test_random_actions_that_cannot_be_drawn_are_refused_early(wrong, sentence):
    with pytest.raises(ColaWorldError, match=sentence):
        check_random({"scale": 0.6, "correlation": 0.7} | wrong, 5)


class Mine:
    def __init__(self, horizon: int):
        self.horizon = horizon

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1): ...


def test_a_planner_of_ones_own_gets_the_settings_it_takes():
    path = f"{__name__}.Mine"
    import sys

    sys.modules.setdefault(__name__, sys.modules[Mine.__module__])
    planner = make_planner({"_target_": path, "horizon": 5, "num_samples": 9})
    assert planner.horizon == 5
    with pytest.raises(ColaWorldError, match="cannot be built"):
        make_planner({"_target_": "planners.CEM", "horizont": 5})
    with pytest.raises(ColaWorldError, match="no method plan"):
        make_planner({"_target_": "collections.Counter"})


@pytest.fixture(scope="module")
def pool():
    with SimulatorPool(1, "fast", 50) as pool:
        yield pool


def test_the_oracle_ranks_the_script_first_and_leaves_states_alone(goals, pool):
    pairs = goals.pairs
    horizon = min(pair.expert_steps for pair in pairs)
    rng = np.random.default_rng(0)
    candidates = rng.uniform(-1, 1, (len(pairs), 4, horizon, 5)).astype(np.float32)
    for i, pair in enumerate(pairs):
        candidates[i, 2] = pair.expert_actions[-horizon:]
    ready = [pair for pair in pairs if pair.expert_steps == horizon]
    chosen = candidates[[pairs.index(pair) for pair in ready]]
    states = np.stack([pair.initial_state for pair in ready])
    goal = torch.from_numpy(np.stack([pair.goal_frame for pair in ready])).float() / 255
    imagine = SimulatorDynamics(pool).imagine(problem(len(ready), states=states, goals=goal))
    frames = imagine(slice(None), torch.from_numpy(chosen))
    rewards = MSEReward()(frames, goal)
    assert frames.shape == (len(ready), 4, horizon, 64, 64, 3)
    assert (rewards.mean(-1).argmax(1) == 2).all()
    assert rewards[:, 2, -1] == pytest.approx(torch.zeros(len(ready)), abs=1e-6)
    assert torch.equal(imagine(slice(None), torch.from_numpy(chosen)), frames)


def test_the_simulators_own_reward_ranks_a_script_above_standing_still(goals, pool):
    """RoboDesk's dense reward, of the true state, without a frame; the state stays as it is."""
    pair = goals.pairs[0]
    candidates = np.stack([np.zeros_like(pair.expert_actions), pair.expert_actions])
    states = pair.initial_state[None].repeat(2, 0)
    wanted = torch.from_numpy(candidates)[None].expand(2, -1, -1, -1)
    rewards = SimulatorDynamics(pool).own_rewards(problem(2, states=states), "dense")
    found = rewards(slice(None), wanted)
    assert found.shape == wanted.shape[:3]
    assert (found[:, 1, -1] > found[:, 0, -1] + 1).all()
    assert torch.equal(found[0], found[1])
    assert torch.equal(rewards(slice(1, 2), wanted[1:]), found[1:])


class Script:
    """Plans the recorded solution and goes on with it."""

    def __init__(self, pair):
        self.actions = torch.from_numpy(pair.expert_actions)[None]

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
        return warm_start or PlanResult(self.actions)


def test_an_episode_ends_at_its_success_with_the_goal_in_view(goals, pool):
    rules = Rules("mse", episodes=2, seed=0, replan_every=3)
    batches = [
        EpisodeBatch([(i, pair)], MPCAgent(Script(pair), SPACE, rules), pool, rules)
        for i, pair in enumerate(goals.pairs)
    ]
    episodes = sorted(play(batches, at_once=2), key=lambda episode: episode.index)
    for episode, pair in zip(episodes, goals.pairs, strict=True):
        assert episode.success
        assert len(episode.actions) == pair.expert_steps == len(episode.frames) - 1
        np.testing.assert_array_equal(episode.actions, pair.expert_actions)
        np.testing.assert_array_equal(episode.frames[-1], pair.goal_frame)
        np.testing.assert_array_equal(episode.state, pair.goal_state)
        assert episode.imagined_psnr() is None
