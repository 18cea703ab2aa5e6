import numpy as np
import pytest
import torch

from planners import CEM, ICEM, MPC, MPPI, PlanResult


class PointMass:
    """B points on a plane: position += velocity / 5, velocity += action / 5."""

    def __init__(self, batch):
        angle = torch.arange(batch) * 2.4
        self.state = torch.stack([angle.cos(), angle.sin(), *torch.zeros(2, batch)], -1)

    @staticmethod
    def dynamics(state, action):
        velocity = state[..., 2:] + action / 5
        return torch.cat([state[..., :2] + velocity / 5, velocity], -1)

    def cost(self, actions):
        state, total = self.state[:, None].expand(-1, actions.shape[1], -1), 0.0
        for action in actions.unbind(2):
            state = self.dynamics(state, action)
            total = total + state[..., :2].square().sum(-1) + 0.1 * state[..., 2:].square().sum(-1)
        return total

    def step(self, actions):
        self.state = self.dynamics(self.state, actions)


class Script:
    """A planner of someone else's: plans 100, 101, ..., then 200, 201, ..., in steps of the plan,
    and remembers what it was asked."""

    def __init__(self, horizon=4):
        self.horizon, self.asked = horizon, []

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
        self.asked.append((warm_start, seed, batch))
        start = 100.0 * len(self.asked)
        steps = start + torch.arange(self.horizon)
        return PlanResult(steps.view(1, -1, 1).expand(batch, -1, 2))


@pytest.mark.parametrize("replan_every", [1, 3])
@pytest.mark.parametrize(
    "planner", [CEM(horizon=10, num_samples=100), MPPI(horizon=10)], ids=["CEM", "MPPI"]
)
def test_brings_every_point_to_rest_at_the_goal(planner, replan_every, box):
    system = PointMass(batch=8)
    agent = MPC(planner, replan_every=replan_every)
    agent.reset(seed=0, batch=8)
    for _ in range(40):
        system.step(agent.act(system.cost, box(2)))
    distance, speed = system.state[:, :2].norm(dim=-1), system.state[:, 2:].norm(dim=-1)
    assert distance.max() < 0.2 and speed.max() < 0.5, "from a distance of one"


def test_warm_start_makes_few_samples_go_further(box):
    distance = {}
    for warm in (True, False):
        system, agent = PointMass(batch=16), MPC(MPPI(horizon=15, num_samples=20))
        agent.reset(seed=0, batch=16)
        total = torch.zeros(16)
        for step in range(40):
            if not warm:
                agent.reset(seed=step, batch=16)
            system.step(agent.act(system.cost, box(2)))
            total += system.state[:, :2].square().sum(-1)
        distance[warm] = total.mean()
    assert distance[True] < 0.9 * distance[False]


def test_replans_when_told_and_starts_from_the_shifted_plan(box):
    script = Script()
    agent = MPC(script, replan_every=3)
    agent.reset(seed=5, batch=2)
    assert agent.plan is None
    taken = [agent.act(None, box(2, 0, 999)) for _ in range(7)]
    assert all(actions.shape == (2, 2) for actions in taken)
    assert [a[0, 0].item() for a in taken] == [100, 101, 102, 200, 201, 202, 300]
    (first, seed, batch), (second, next_seed, _), _ = script.asked
    assert first is None and batch == 2
    assert second.actions[0, :, 0].tolist() == [103, 103, 103, 103]
    assert seed != next_seed
    agent.reset(seed=5, batch=2)
    agent.act(None, box(2, 0, 999))
    assert script.asked[-1] == (None, seed, 2), "a new episode begins afresh"


def test_hands_out_chunks_of_actions(box):
    agent = MPC(Script(), replan_every=4, execute=2)
    agent.reset(batch=3)
    taken = [agent.act(None, box(2, 0, 999)) for _ in range(3)]
    assert all(actions.shape == (3, 2, 2) for actions in taken)
    assert [a[0, :, 0].tolist() for a in taken] == [[100, 101], [102, 103], [200, 201]]


def test_an_episode_does_not_depend_on_its_neighbours_in_the_batch(box):
    def episode(rows):
        system, agent = PointMass(batch=4), MPC(CEM(horizon=5, num_samples=50))
        system.state = system.state[rows]
        agent.reset(seed=rows, batch=len(rows))
        for _ in range(5):
            system.step(agent.act(system.cost, box(2)))
        return system.state

    together = episode([0, 1, 2, 3])
    torch.testing.assert_close(episode([2]), together[[2]], atol=1e-4, rtol=0)
    assert torch.equal(episode([0, 1, 2, 3]), together)


def test_bad_settings_are_refused(box):
    with pytest.raises(ValueError, match="multiple of execute"):
        MPC(Script(), replan_every=3, execute=2)
    with pytest.raises(TypeError, match="method `plan`"):
        MPC(lambda cost: None)
    with pytest.raises(ValueError, match="too few to replan every 6"):
        MPC(Script(horizon=4), replan_every=6).act(None, box(2, 0, 999))


def test_goes_on_with_some_of_the_problems_each_with_its_own_plan_and_seed(box):
    def episode(ended_after):
        system, agent = PointMass(batch=4), MPC(ICEM(horizon=5, num_samples=50), replan_every=2)
        agent.reset(seed=[5, 6, 7, 8], batch=4)
        for step in range(6):
            if step == ended_after:
                live = torch.tensor([False, True, False, True])
                system.state = system.state[live]
                agent.select(live)
            system.step(agent.act(system.cost, box(2)))
        return system.state

    torch.testing.assert_close(episode(3), episode(None)[[1, 3]], atol=1e-4, rtol=0)
    before = MPC(Script())
    before.reset(batch=3)
    before.select(torch.tensor([2]))
    assert before.act(None, box(2, 0, 999)).shape == (1, 2), "also before the first plan"


def test_a_seed_of_the_callers_own_makes_the_plan(box, tracking, targets):
    agent = MPC(CEM(horizon=6))
    agent.reset(batch=3)
    agent.act(tracking(targets), box(2), seed=11)
    alone = CEM(horizon=6).plan(tracking(targets), box(2), batch=3, seed=11)
    assert torch.equal(agent.plan.actions, alone.actions)


class Given:
    """A planner of someone else's that returns what it is given."""

    def __init__(self, plan):
        self.given = plan

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
        return self.given


@pytest.mark.parametrize(
    "plan, told",
    [
        (PlanResult(torch.zeros(3, 2)), r"shape \(3, 2\): it must return .* \(1, H, 2\)"),
        (PlanResult(torch.zeros(2, 3, 2)), r"\(2, 3, 2\): it must return .* \(1, H, 2\)"),
        (PlanResult(torch.zeros(1, 3, 5)), r"\(1, 3, 5\): it must return .* \(1, H, 2\)"),
        (PlanResult(torch.zeros(1, 0, 2)), "it must return"),
        (PlanResult(torch.full((1, 3, 2), torch.nan)), "NaN or infinite"),
        (PlanResult(torch.full((1, 3, 2), -torch.inf)), "NaN or infinite"),
        (PlanResult(torch.full((1, 3, 2), 1.01)), "outside the action space, by up to 0.01"),
        (PlanResult(torch.zeros(1, 3, 2) + 0j), "they must be real"),
        (PlanResult(torch.zeros(1, 3, 2), cost=torch.zeros(())), r"a cost of shape \(\)"),
    ],
)
def test_a_plan_that_nobody_can_execute_is_refused_in_one_sentence(plan, told, box):
    with pytest.raises(ValueError, match=told) as error:
        MPC(Given(plan)).act(lambda actions: actions.sum((2, 3)), box(2))
    assert "\n" not in str(error.value)


def test_what_is_no_plan_is_refused(box):
    with pytest.raises(TypeError, match="returned Tensor: it must return a planners.PlanResult"):
        MPC(Given(torch.zeros(1, 3, 2))).act(None, box(2))


def test_arrays_graphs_and_rounding_of_a_plan_do_not_matter(box):
    space = box(2, -0.1, 0.1)  # which float32 does not have
    edge = np.full((1, 3, 2), 0.1) + 1e-9
    agent = MPC(Given(PlanResult(edge, cost=np.zeros(1))))
    action = agent.act(None, space)
    assert action.dtype == torch.float32 and (action.numpy().astype(np.float64) <= 0.1).all()
    graph = torch.zeros(1, 3, 2, requires_grad=True) * 2
    assert not MPC(Given(PlanResult(graph))).act(None, space).requires_grad
