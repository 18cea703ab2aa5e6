"""Four kinds of planning problems, many instances each, for planner_comparison.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HORIZON, ACTIONS, STATES = 15, 5, 10
NOISE = 0.3  # std of the process noise of the noisy problem, a step


@dataclass(frozen=True)
class Problems:
    """P instances of one kind; `self[rows]` are some of them.

    `cost(actions (P, N, H, A)) -> (P, N)` is what a planner gets, `true_cost` what a plan is worth.
    """

    parameters: tuple[Tensor, ...]  # (P, ...) each

    def __getitem__(self, rows: slice) -> Problems:
        return dataclasses.replace(self, parameters=tuple(p[rows] for p in self.parameters))

    def __len__(self) -> int:
        return len(self.parameters[0])

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def to(self, device: str) -> Problems:
        return dataclasses.replace(self, parameters=tuple(p.to(device) for p in self.parameters))

    def cost(self, actions: Tensor) -> Tensor:
        return self.true_cost(actions)

    def true_cost(self, actions: Tensor) -> Tensor:
        raise NotImplementedError


class Linear(Problems):
    """Five coupled masses from a random state to rest at the origin, x' = x A + u B: sum of
    |x|^2 + |u|^2 / 10."""

    def true_cost(self, actions: Tensor) -> Tensor:
        return self._cost(actions, lambda state: state)

    def _cost(self, actions: Tensor, disturb: Callable[[Tensor], Tensor]) -> Tensor:
        a, b, x = self.parameters
        state, total = x.unsqueeze(1), actions.square().sum((-1, -2)) / 10
        for action in actions.unbind(2):
            state = disturb(state @ a + action @ b)
            total = total + state.square().sum(-1)
        return total


class Noisy(Linear):
    """The linear one with process noise, new for every candidate; worth its expectation."""

    def cost(self, actions: Tensor) -> Tensor:
        return self._cost(actions, lambda state: state + NOISE * torch.randn_like(state))


class NoisyAlike(Linear):
    """The same for planners that hand the cost a seed: all candidates meet the same noise."""

    def __call__(self, actions: Tensor, *, seed: int) -> Tensor:
        generator = torch.Generator(actions.device).manual_seed(seed)

        def disturb(state: Tensor) -> Tensor:
            shape = len(self), 1, STATES
            noise = torch.randn(shape, generator=generator, device=state.device)
            return state + NOISE * noise

        return self._cost(actions, disturb)


class MLP(Problems):
    """x' = x + tanh network of (x, u), from the origin to a random state: sum of |x - goal|^2."""

    def true_cost(self, actions: Tensor) -> Tensor:
        first, second, goal = self.parameters
        state = actions.new_zeros(*actions.shape[:2], STATES)
        total = actions.square().sum((-1, -2)) / 10
        for action in actions.unbind(2):
            hidden = (torch.cat([state, action], -1) @ first).tanh()
            state = state + (hidden @ second).tanh() / 4
            total = total + (state - goal.unsqueeze(1)).square().sum(-1)
        return total


class Obstacle(Problems):
    """A point in the plane goes round three discs to its goal; the first two actions are its
    velocity, the others should be zero, and a step inside a disc costs a hundred."""

    def true_cost(self, actions: Tensor) -> Tensor:
        discs, goal = self.parameters
        position = actions[..., :2].cumsum(2) * 0.25
        offset = position.unsqueeze(3) - discs[:, None, None]
        inside = offset.norm(dim=-1) < 0.45
        distance = (position - goal[:, None, None]).square().sum((-1, -2))
        return distance + 100 * inside.sum((-1, -2)) + actions[..., 2:].square().sum((-1, -2))


def make_problems(count: int, seed: int = 0) -> dict[str, Problems]:
    """`count` instances of every kind."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    half = STATES // 2
    coupled = torch.eye(STATES).repeat(count, 1, 1)
    coupled[:, half:, :half] = 0.3 * torch.eye(half)  # velocities move positions
    springs = normal(half, half)
    coupled[:, :half, half:] = -0.03 * springs @ springs.mT
    coupled[:, half:, half:] *= 0.9  # friction
    push = torch.cat([torch.zeros(count, ACTIONS, half), 0.3 * normal(ACTIONS, half)], dim=-1)
    linear = (coupled, push, normal(STATES))
    network = (normal(STATES + ACTIONS, 32) * 0.3, normal(32, STATES) * 0.3, normal(STATES))
    goal = torch.tensor([2.4, 0.0]) + 0.2 * normal(2)
    middle = goal.unsqueeze(1) * torch.tensor([0.3, 0.55, 0.8])[:, None] + 0.25 * normal(3, 2)
    return {
        "linear": Linear(linear),
        "MLP": MLP(network),
        "obstacle": Obstacle((middle, goal)),
        "noisy": Noisy(linear),
    }
