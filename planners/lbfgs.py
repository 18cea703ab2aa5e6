"""The limited-memory quasi-Newton method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planners.evaluation import Population
from planners.gradient import GradientPlanner
from planners.search import Search

DESCENT = 1e-4  # Armijo's share of the decrease that the slope promises


@dataclass
class _Memory:
    """Of R = B N candidates with D = H A coordinates each."""

    points: Tensor  # (B, N, H, A), to be tried next
    x: Tensor  # (R, D), the accepted points
    cost: Tensor  # (R, 1)
    slope: Tensor  # (R, D)
    direction: Tensor  # (R, D)
    step: Tensor  # (R, 1)
    moves: Tensor  # (m, R, D), x' - x of the last steps, oldest first
    turns: Tensor  # (m, R, D), slope' - slope
    curvature: Tensor  # (m, R, 1), 1 / (move . turn), zero where there is none


@dataclass(frozen=True, kw_only=True)
class LBFGS(GradientPlanner):
    """Liu and Nocedal 1989, the two-loop recursion, on the box as in Bertsekas 1982.

    Every candidate has a memory and a backtracking line search of its own, and every iteration is
    one evaluation of all: a candidate whose last step did not lower its cost enough tries half of
    it. Coordinates that the slope presses against a bound are left out of the step.
    """

    memory: int = 10
    """How many steps the curvature is estimated from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < 1:
            raise ValueError(f"memory must be at least 1, not {self.memory}")

    def step(self, search: Search, population: Population) -> Tensor:
        assert population.gradients is not None
        shape = population.actions.shape
        x, slope = (t.flatten(2).flatten(0, 1) for t in (population.actions, population.gradients))
        cost = population.costs.reshape(-1, 1)
        if search.own is None:
            none = x.new_zeros((self.memory, *x.shape))
            search.own = _Memory(
                points=population.actions,
                x=x,
                cost=cost,
                slope=slope,
                direction=torch.zeros_like(x),
                step=torch.zeros_like(x[:, :1]),
                moves=none,
                turns=none,
                curvature=none[..., :1],
            )
            accepted = torch.ones_like(cost, dtype=torch.bool)
        else:
            accepted = self._learn(search.own, x, cost, slope)
        own = search.own
        self._turn(own, accepted, search)
        return (own.x + own.step * own.direction).view(shape)

    def _learn(self, own: _Memory, x: Tensor, cost: Tensor, slope: Tensor) -> Tensor:
        """(R, 1): whose trial x was good enough to be accepted."""
        move, turn = x - own.x, slope - own.slope
        promised = (own.slope * move).sum(-1, keepdim=True)
        accepted = cost <= own.cost + DESCENT * promised
        product = (move * turn).sum(-1, keepdim=True)
        curved = accepted & (product > 1e-10 * turn.square().sum(-1, keepdim=True))
        for name, new in (("moves", move), ("turns", turn), ("curvature", 1 / product)):
            old = getattr(own, name)
            setattr(own, name, torch.where(curved, torch.cat([old[1:], new[None]]), old))
        own.x = torch.where(accepted, x, own.x)
        own.cost = torch.where(accepted, cost, own.cost)
        own.slope = torch.where(accepted, slope, own.slope)
        return accepted

    def _turn(self, own: _Memory, accepted: Tensor, search: Search) -> None:
        """Give the accepted a new direction, and the others half their step."""
        count = own.points.shape[1]
        low, high = search.bounds.low.flatten(), search.bounds.high.flatten()
        pressed = (own.x <= low) & (own.slope > 0) | (own.x >= high) & (own.slope < 0)
        free = own.slope.masked_fill(pressed, 0)
        known = min(search.index, self.memory)
        newton = -self._inverse_hessian(own, free, known).masked_fill(pressed, 0)
        length = search.std.flatten(1).repeat_interleave(count, 0).norm(dim=-1, keepdim=True)
        gentle = -free * length / free.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        descends = (newton * free).sum(-1, keepdim=True) < 0
        trusted = descends & (own.curvature[-1] != 0)
        direction = torch.where(trusted, newton, gentle)
        own.direction = torch.where(accepted, direction, own.direction)
        own.step = torch.where(accepted, 1.0, own.step / 2)

    def _inverse_hessian(self, own: _Memory, vector: Tensor, known: int) -> Tensor:
        """H @ vector, (R, D), from the `known` last steps."""
        pairs = list(zip(own.moves, own.turns, own.curvature, strict=True))[self.memory - known :]
        shares = []
        for move, turn, curvature in reversed(pairs):
            shares.append(curvature * (move * vector).sum(-1, keepdim=True))
            vector = vector - shares[-1] * turn
        scale = own.turns[-1].square().sum(-1, keepdim=True) * own.curvature[-1]
        vector = vector / torch.where(scale > 0, scale, 1)
        for move, turn, curvature in pairs:
            back = curvature * (turn * vector).sum(-1, keepdim=True)
            vector = vector + move * (shares.pop() - back)
        return vector
