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
