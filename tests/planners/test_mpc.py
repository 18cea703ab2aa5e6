import pytest
import torch

from planners import CEM, MPC, MPPI, PlanResult


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
    """A planner of someone else's: plans 0, 1, 2, ... and remembers what it was asked."""

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
    taken = [agent.act(None, box(2)) for _ in range(7)]
    assert all(actions.shape == (2, 2) for actions in taken)
    assert [a[0, 0].item() for a in taken] == [100, 101, 102, 200, 201, 202, 300]
    (first, seed, batch), (second, next_seed, _), _ = script.asked
    assert first is None and batch == 2
    assert second.actions[0, :, 0].tolist() == [103, 103, 103, 103]
    assert seed != next_seed
    agent.reset(seed=5, batch=2)
    agent.act(None, box(2))
    assert script.asked[-1] == (None, seed, 2), "a new episode begins afresh"


def test_hands_out_chunks_of_actions(box):
    agent = MPC(Script(), replan_every=4, execute=2)
    agent.reset(batch=3)
    taken = [agent.act(None, box(2)) for _ in range(3)]
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
        MPC(Script(horizon=4), replan_every=6).act(None, box(2))


def test_a_plan_without_the_batch_axis_is_told_of(box):
    class Flat:
        def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
            return PlanResult(torch.zeros(3, 2))

    with pytest.raises(ValueError, match=r"shape \(3, 2\): it must return \(1, H, A\)"):
        MPC(Flat()).act(lambda actions: actions.sum((2, 3)), box)
