"""Our planners in other libraries and theirs here, against the real packages (extra `rivals`)."""

import functools
import importlib
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from planners import CEM, ICEM, MPC, Gradient, PlanResult, WhiteNoise
from planners import Planner as PlannerProtocol

SETTINGS = dict(
    horizon=6, num_samples=300, iterations=15, elite_fraction=0.1, noise=WhiteNoise(), smoothing=0.1
)


def rival(name: str) -> ModuleType:
    """The package; a skip where it is not installed, an error where it is but does not import."""
    package = name.partition(".")[0]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: make adapters")
    if package == "stable_worldmodel":
        declare_torchvision_operators()
    return importlib.import_module(name)


@functools.cache
def declare_torchvision_operators() -> None:
    """Lets stable-worldmodel import PyPI's torchvision, built for CUDA, beside a torch that is not.

    Such a torchvision cannot load its compiled operators and fails to import, for it registers
    shapes for two that do not exist. Declared, they exist; nothing here calls them.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)


class Model:
    """A cost model of stable-worldmodel: distance of the actions to the targets in the info."""

    def __init__(self, block=1):
        self.block, self.infos = block, []

    def get_cost(self, info, candidates):
        batch, count = candidates.shape[:2]
        assert info["target"].shape == (batch, count, *info["target"].shape[2:])
        assert info["name"].shape == (batch, count) and isinstance(info["name"], np.ndarray)
        return (candidates - info["target"]).square().sum((-1, -2))


def infos(targets):
    return {"target": targets.double(), "name": np.arange(len(targets)), "note": "kept"}


@pytest.mark.parametrize("block", [1, 2])
def test_ours_is_a_solver_of_stable_worldmodel(block, targets):
    solvers = rival("stable_worldmodel.solver")
    from stable_worldmodel.policy import PlanConfig

    from planners.adapters.stable_worldmodel import PlannerSolver

    gymnasium = pytest.importorskip("gymnasium")
    targets = targets.repeat(1, 1, block)
    space = gymnasium.spaces.Box(-0.5, 0.5, (3, 2))
    solver = PlannerSolver(CEM(**SETTINGS), Model(), seed=3)
    config = PlanConfig(horizon=6, receding_horizon=2, action_block=block)
    solver.configure(action_space=space, n_envs=3, config=config)
    assert isinstance(solver, solvers.Solver)
    assert (solver.action_dim, solver.n_envs, solver.horizon) == (2 * block, 3, 6)
    solved = solver(infos(targets))
    assert solved["actions"].shape == (3, 6, 2 * block) and len(solved["costs"]) == 3
    assert (solved["actions"] - targets.clamp(-0.5, 0.5)).abs().max() < 0.15
    some = solver.solve(infos(targets[:2]), init_action=solved["actions"][:2, 2:])
    assert some["actions"].shape == (2, 6, 2 * block), "a part of the environments, warm"

    with pytest.raises(ValueError, match="make them equal"):
        solver.configure(
            action_space=space, n_envs=3, config=PlanConfig(horizon=5, receding_horizon=5)
        )


class Actor(Model):
    """A model that also proposes actions, and keeps what it was asked."""

    def __init__(self, targets):
        super().__init__()
        self.targets, self.asked = targets, []

    def get_action(self, info, horizon=1, prefix_actions=None):
        self.asked.append((info["target"].shape, horizon, prefix_actions))
        return self.targets[:, -horizon:]


def configured(solver):
    config, side = SimpleNamespace(horizon=6, action_block=1), np.ones((3, 2))
    space = SimpleNamespace(low=-side, high=side, shape=side.shape)
    solver.configure(action_space=space, n_envs=3, config=config)
    return solver


@pytest.mark.parametrize("known", [None, 0, 2, 5, 6])
def test_the_models_actor_completes_the_warm_start(known, targets):
    from planners.adapters.stable_worldmodel import PlannerSolver

    model = Actor(targets)
    solver = configured(PlannerSolver(CEM(horizon=6, iterations=1, std=1e-6), model))
    start = None if known is None else -targets[:, :known]
    before = torch.get_rng_state()
    planned = solver.solve(infos(targets), init_action=start)["actions"]
    assert torch.equal(before, torch.get_rng_state())
    missing = 6 - (known or 0)
    expected = torch.cat([-targets[:, : 6 - missing], targets[:, 6 - missing :]], dim=1)
    torch.testing.assert_close(planned, expected, atol=1e-4, rtol=0)
    if missing:
        ((shape, horizon, prefix),) = model.asked
        assert shape == targets.shape and horizon == missing
        assert prefix is None if known is None else torch.equal(prefix, start)
    else:
        assert not model.asked


@pytest.mark.parametrize("known", [None, 2])
def test_the_actor_is_asked_as_the_librarys_own_solvers_ask_it(known, targets):
    solvers = rival("stable_worldmodel.solver")
    from planners.adapters.stable_worldmodel import PlannerSolver

    asked, planned = [], []
    for make in (
        lambda model: PlannerSolver(CEM(horizon=6, iterations=1, std=1e-6), model),
        lambda model: solvers.CEMSolver(model, 3, num_samples=8, var_scale=1e-6, n_steps=1, topk=4),
    ):
        model = Actor(targets)
        start = None if known is None else -targets[:, :known]
        solver = configured(make(model))
        planned.append(solver.solve(infos(targets), init_action=start)["actions"])
        asked += model.asked
    torch.testing.assert_close(*planned, atol=1e-4, rtol=0)
    (*ours, prefix), (*theirs, their_prefix) = asked
    assert ours == theirs
    assert prefix is their_prefix is None or torch.equal(prefix, their_prefix)


def test_an_actor_that_samples_does_so_from_the_solvers_seed(targets):
    from planners.adapters.stable_worldmodel import PlannerSolver

    class Sampling(Actor):
        def get_action(self, info, horizon=1, prefix_actions=None):
            return torch.randn(3, 2) if horizon == 1 else torch.randn(3, horizon, 2)

    for known in (None, 5):  # a single action comes without an axis of time
        first, again, other = (
            configured(
                PlannerSolver(CEM(horizon=6, iterations=1, std=0), Sampling(targets), seed=seed)
            ).solve(infos(targets), None if known is None else targets[:, :known])["actions"]
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_solver_says_which_spaces_it_cannot_plan_in():
    spaces = pytest.importorskip("gymnasium").spaces
    from planners.adapters.stable_worldmodel import PlannerSolver

    solver = PlannerSolver(CEM(horizon=6), Model())
    config = SimpleNamespace(horizon=6, action_block=1)
    for space, told in (
        (spaces.Discrete(5), "not in Discrete.* CategoricalCEMSolver"),
        (spaces.MultiDiscrete([5, 5, 5]), "not in MultiDiscrete.* CategoricalCEMSolver"),
        (spaces.Box(-1, 1, (2,)), r"shape \(2,\): it must be \(n_envs, ...\) with n_envs=3"),
        (spaces.Box(-1, 1, (2, 2)), r"shape \(2, 2\): it must be"),
        (spaces.Box(0, 4, (3, 2), np.int64), "of int64: a planner searches real numbers"),
    ):
        with pytest.raises(ValueError, match=told):
            solver.configure(action_space=space, n_envs=3, config=config)


def test_our_gradients_flow_through_a_model_of_stable_worldmodel(targets):
    from planners.adapters.stable_worldmodel import PlannerSolver

    solver = PlannerSolver(Gradient(horizon=6, iterations=60), Model())
    space = SimpleNamespace(low=-np.ones((3, 2)), high=np.ones((3, 2)))
    solver.configure(
        action_space=space, n_envs=3, config=SimpleNamespace(horizon=6, action_block=1)
    )
    assert (solver.solve(infos(targets))["actions"] - targets).abs().max() < 0.05


def test_our_solver_runs_a_world_of_stable_worldmodel(targets):
    rival("stable_worldmodel.solver")
    from stable_worldmodel.policy import PlanConfig, WorldModelPolicy

    from planners.adapters.stable_worldmodel import PlannerSolver

    gymnasium = pytest.importorskip("gymnasium")
    envs = SimpleNamespace(
        num_envs=3,
        action_space=gymnasium.spaces.Box(-1, 1, (3, 2)),
        single_action_space=gymnasium.spaces.Box(-1, 1, (2,)),
    )
    policy = WorldModelPolicy(
        PlannerSolver(ICEM(**SETTINGS), Model()), PlanConfig(horizon=6, receding_horizon=2)
    )
    policy.set_env(envs)
    info = {"target": targets.unsqueeze(1).numpy(), "name": np.arange(3)[:, None]}
    policy._prepare_info = lambda info: {"target": targets, "name": np.arange(3)}
    for step in range(4):
        actions = policy.get_action(dict(info))
        expected = targets[:, step % 2].numpy()
        np.testing.assert_allclose(actions, expected, atol=0.15)


def test_a_solver_whose_first_argument_is_called_cost_will_do(box, tracking, targets):
    pytest.importorskip("gymnasium")
    from planners.adapters.stable_worldmodel import SolverPlanner

    class LaterSolver:
        """The interface of the main branch, whose solvers take `cost=` in place of `model=`."""

        def __init__(self, cost, batch_size, device, seed, scale):
            self.cost, self.scale = cost, scale

        def configure(self, *, action_space, n_envs, config):
            assert action_space.shape == (n_envs, 2) and config.horizon == 6

        def solve(self, info_dict, init_action=None):
            assert init_action.shape == (3, 6, 2)
            assert self.cost.get_cost(info_dict, init_action[:, None]).shape == (3, 1)
            return {"actions": targets * self.scale}

    plan = SolverPlanner(LaterSolver, 6, scale=10).plan(tracking(targets), box(2), batch=3)
    torch.testing.assert_close(plan.actions, (targets * 10).clamp(-1, 1))


def theirs():
    """name -> a planner of another library, made when it is needed."""

    def swm(name, **settings):
        def make(horizon=6):
            solver = getattr(rival("stable_worldmodel.solver"), name)
            from planners.adapters.stable_worldmodel import SolverPlanner

            return SolverPlanner(solver, horizon, **settings)

        return make

    def torchrl(name, **settings):
        def make(horizon=6):
            planner = getattr(rival("torchrl.modules"), name)
            from planners.adapters.torchrl import TorchRLPlanner

            return TorchRLPlanner(planner, horizon, **settings)

        return make

    def mppi(name, **settings):
        def make(horizon=6):
            controller = getattr(rival("pytorch_mppi"), name)
            from planners.adapters.pytorch_mppi import PytorchMPPIPlanner

            return PytorchMPPIPlanner(controller, horizon, **settings)

        return make

    class Advantage(torch.nn.Module):
        def forward(self, td):
            return td.set("advantage", td["next", "reward"])

    many = dict(num_samples=300, n_steps=15)
    return {
        "swm-cem": swm("CEMSolver", **many),
        "swm-icem": swm("ICEMSolver", **many),
        "swm-mppi": swm("MPPISolver", temperature=0.05, var_scale=0.3, **many),
        "swm-gd": swm("GradientSolver", n_steps=100, optimizer_kwargs={"lr": 0.1}),
        "torchrl-cem": torchrl("CEMPlanner", optim_steps=15, num_candidates=300, top_k=30),
        "torchrl-mppi": torchrl(
            "MPPIPlanner",
            optim_steps=15,
            num_candidates=300,
            top_k=30,
            temperature=5.0,
            advantage_module=Advantage(),
        ),
        "pytorch_mppi": mppi("MPPI", num_samples=300, iterations=15, lambda_=0.05),
        "pytorch_kmppi": mppi("KMPPI", num_samples=300, iterations=15, lambda_=0.05),
        "pytorch_smppi": mppi(
            "SMPPI", num_samples=300, iterations=60, lambda_=0.05, delta_t=0.1, w_action_seq_cost=0
        ),
    }


@pytest.mark.parametrize("name", theirs())
def test_theirs_is_a_planner(name, box, tracking, targets, capsys):
    planner = theirs()[name]()
    assert isinstance(planner, PlannerProtocol)
    cost = tracking(targets)
    capsys.readouterr()
    before = torch.get_rng_state()
    plan = planner.plan(cost, box(2), batch=3, seed=5)
    assert torch.equal(before, torch.get_rng_state()) and not capsys.readouterr().out
    assert isinstance(plan, PlanResult) and plan.actions.shape == (3, 6, 2)
    assert plan.actions.abs().max() <= 1
    torch.testing.assert_close(plan.cost, cost(plan.actions.unsqueeze(1))[:, 0])
    nothing = cost(torch.zeros(3, 1, 6, 2))[:, 0]
    assert plan.cost.sum() < 0.7 * nothing.sum()
    again = planner.plan(cost, box(2), batch=3, seed=5)
    assert torch.equal(plan.actions, again.actions)
    other = planner.plan(cost, box(2), batch=3, seed=6)
    assert not torch.equal(plan.actions, other.actions) or name == "swm-gd", "from one start"


@pytest.mark.parametrize("name", ["swm-cem", "torchrl-cem", "pytorch_mppi"])
def test_theirs_plans_in_our_mpc_loop(name, box, tracking, targets):
    agent = MPC(theirs()[name](), replan_every=2)
    agent.reset(seed=0, batch=3)
    for step in range(4):
        action = agent.act(tracking(targets), box(2))
        assert (action - targets[:, step % 2]).abs().mean() < 0.2


def test_a_warm_start_reaches_them(box, tracking, targets):
    planner = theirs()["pytorch_mppi"]()
    planner.iterations, planner.settings["noise_sigma"] = 1, torch.eye(2) * 1e-8
    plan = planner.plan(tracking(targets), box(2), batch=3, warm_start=targets)
    torch.testing.assert_close(plan.actions, targets, atol=1e-3, rtol=0)


def point_env():
    """x' = x + a / 5 in the plane, reward 2 - |x|^2; done once x[0] > 0.9."""
    rival("torchrl.envs")
    from tensordict import TensorDict
    from torchrl.data import Bounded, Composite, Unbounded
    from torchrl.envs import EnvBase

    class Point(EnvBase):
        def __new__(cls):
            return super().__new__(cls, _inplace_update=False, _batch_locked=False)

        def __init__(self):
            super().__init__(batch_size=())
            self.observation_spec = Composite(x=Unbounded((2,)))
            self.action_spec = Bounded(-1, 1, (2,))
            self.reward_spec = Unbounded((1,))

        def _reset(self, tensordict=None, **kwargs):
            batch = () if tensordict is None else tensordict.batch_size
            return TensorDict({"x": torch.ones(*batch, 2) * 0.8}, batch)

        def _step(self, td):
            x = td["x"] + td["action"] / 5
            done = x[..., :1] > 0.9
            reward = 2 - x.square().sum(-1, keepdim=True)
            out = {"x": x, "reward": reward, "done": done, "terminated": done}
            return TensorDict(out, td.batch_size)

        def _set_seed(self, seed):
            pass

    return Point()


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_ours_is_a_planner_module_of_torchrl(batch):
    env = point_env()
    from tensordict import TensorDict
    from torchrl.modules import MPCPlannerBase

    from planners.adapters.torchrl import PlannerModule

    module = PlannerModule(env, CEM(horizon=6, num_samples=100))
    assert isinstance(module, MPCPlannerBase)
    state = TensorDict({"x": torch.full((*batch, 2), 0.8)}, batch)
    acted = module(state)
    assert acted["action"].shape == (*batch, 2) and (acted["action"] < -0.5).all()
    assert module.plan(state).actions.shape == (state.numel(), 6, 2)


def test_torchrl_rolls_an_environment_out_with_our_module():
    env = point_env()
    from planners.adapters.torchrl import PlannerModule

    rollout = env.rollout(8, PlannerModule(env, CEM(horizon=6, num_samples=100)))
    assert rollout["next", "x"][-1].norm() < 0.2 < rollout["x"][0].norm()


def test_rewards_after_the_end_do_not_count():
    env = point_env()
    from tensordict import TensorDict

    from planners.adapters.torchrl import PlannerModule

    module = PlannerModule(env, CEM(horizon=6))
    states = TensorDict({"x": torch.tensor([[0.8, 0.0]])}, [1])
    leave, stay = torch.zeros(2, 6, 2)
    leave[:, 0] = 1.0
    returns = module._returns(states, torch.stack([leave, stay])[None])
    torch.testing.assert_close(returns, torch.tensor([[1.0, 6 * (2 - 0.64)]]))


def test_a_planner_module_says_which_actions_it_cannot_plan():
    env = point_env()
    from torchrl.data import OneHot

    from planners.adapters.torchrl import PlannerModule

    env.action_spec = OneHot(4)
    with pytest.raises(ValueError, match="plans actions with bounds, not of OneHot"):
        PlannerModule(env, CEM(horizon=6))


def test_a_plan_of_theirs_that_is_none_is_told_of(box, tracking, targets):
    pytest.importorskip("gymnasium")
    from planners.adapters.stable_worldmodel import SolverPlanner

    class Lost:
        def __init__(self, model, **settings): ...

        def configure(self, **settings): ...

        def solve(self, info_dict, init_action=None):
            return {"actions": init_action * torch.nan}

    with pytest.raises(ValueError, match="NaN or infinite actions"):
        SolverPlanner(Lost, 6).plan(tracking(targets), box(2), batch=3)
