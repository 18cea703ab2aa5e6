"""The limited-memory quasi-Newton method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planners.gradient import GradientPlanner
from planners.population import Population
from planners.sampling import GaussianSearch

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

    def step(self, search: GaussianSearch, population: Population) -> Tensor:
        assert population.gradients is not None
        shape = population.actions.shape
        x, slope = (t.flatten(2).flatten(0, 1) for t in (population.actions, population.gradients))
        cost = population.costs.reshape(-1, 1)
        if search.state is None:
            none = x.new_zeros((self.memory, *x.shape))
            search.state = _Memory(
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
            accepted = self._learn(search.state, x, cost, slope)
        state = search.state
        self._turn(state, accepted, search)
        return (state.x + state.step * state.direction).view(shape)

    def _learn(self, state: _Memory, x: Tensor, cost: Tensor, slope: Tensor) -> Tensor:
        """(R, 1): whose trial x was good enough to be accepted."""
        move, turn = x - state.x, slope - state.slope
        promised = (state.slope * move).sum(-1, keepdim=True)
        accepted = cost <= state.cost + DESCENT * promised
        product = (move * turn).sum(-1, keepdim=True)
        curved = accepted & (product > 1e-10 * turn.square().sum(-1, keepdim=True))
        for name, new in (("moves", move), ("turns", turn), ("curvature", 1 / product)):
            old = getattr(state, name)
            setattr(state, name, torch.where(curved, torch.cat([old[1:], new[None]]), old))
        state.x = torch.where(accepted, x, state.x)
        state.cost = torch.where(accepted, cost, state.cost)
        state.slope = torch.where(accepted, slope, state.slope)
        return accepted

    def _turn(self, state: _Memory, accepted: Tensor, search: GaussianSearch) -> None:
        """Give the accepted a new direction, and the others half their step."""
        count = state.points.shape[1]
        low, high = search.bounds.low.flatten(), search.bounds.high.flatten()
        pressed = (state.x <= low) & (state.slope > 0) | (state.x >= high) & (state.slope < 0)
        free = state.slope.masked_fill(pressed, 0)
        known = min(search.index, self.memory)
        newton = -self._inverse_hessian(state, free, known).masked_fill(pressed, 0)
        length = search.std.flatten(1).repeat_interleave(count, 0).norm(dim=-1, keepdim=True)
        gentle = -free * length / free.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        descends = (newton * free).sum(-1, keepdim=True) < 0
        trusted = descends & (state.curvature[-1] != 0)
        direction = torch.where(trusted, newton, gentle)
        state.direction = torch.where(accepted, direction, state.direction)
        state.step = torch.where(accepted, 1.0, state.step / 2)

    def _inverse_hessian(self, state: _Memory, vector: Tensor, known: int) -> Tensor:
        """H @ vector, (R, D), from the `known` last steps."""
        pairs = list(zip(state.moves, state.turns, state.curvature, strict=True))[
            self.memory - known :
        ]
        shares = []
        for move, turn, curvature in reversed(pairs):
            shares.append(curvature * (move * vector).sum(-1, keepdim=True))
            vector = vector - shares[-1] * turn
        scale = state.turns[-1].square().sum(-1, keepdim=True) * state.curvature[-1]
        vector = vector / torch.where(scale > 0, scale, 1)
        for move, turn, curvature in pairs:
            back = curvature * (turn * vector).sum(-1, keepdim=True)
            vector = vector + move * (shares.pop() - back)
        return vector
