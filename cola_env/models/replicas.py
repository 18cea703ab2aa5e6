"""One world model on several devices of a machine, each of which imagines its share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cola_env.inputs import check_noise
from cola_env.models.dream_state import DreamState
from cola_env.models.world_model import ColaWorldModel

Result = TypeVar("Result")


@dataclass(frozen=True)
class SpreadState:
    """B dreams, of which every device keeps some, in order: their memory is not moved to step."""

    parts: tuple[DreamState, ...]

    @property
    def batch_size(self) -> int:
        return sum(part.batch_size for part in self.parts)

    @property
    def latents(self) -> Tensor:
        """As of a `DreamState`, on the first device."""
        return _gathered([part.latents for part in self.parts])

    @property
    def codes(self) -> Tensor | None:
        """As of a `DreamState`, on the first device."""
        codes = [part.codes for part in self.parts if part.codes is not None]
        return _gathered(codes) if codes else None

    @property
    def rows(self) -> list[slice]:
        """Which of the B dreams each part holds."""
        ends = [0]
        for part in self.parts:
            ends.append(ends[-1] + part.batch_size)
        return [slice(start, end) for start, end in pairwise(ends)]

    def whole(self) -> DreamState:
        """All of them on the first device."""
        first = self.parts[0].latents.device
        return DreamState.joined([_moved(part, first) for part in self.parts])

    def put(self, index: Tensor, rows: DreamState) -> SpreadState:
        """As `DreamState.put`; each of the new dreams goes where the old one was."""
        parts = []
        for part, here in zip(self.parts, self.rows, strict=True):
            chosen = (index >= here.start) & (index < here.stop)
            device = part.latents.device
            new = _moved(rows.select(chosen), device)
            parts.append(part.put((index[chosen] - here.start).to(device), new))
        return SpreadState(tuple(parts))


class Replicas:
    """A world model that steps and imagines on its own device and on `others`, as it does alone.

    Results are those of one device up to rounding, as every dream has noise of its own, and are
    gathered on the first one. Each device has a thread, as torch leaves Python's lock while it
    computes.
    """

    def __init__(self, model: ColaWorldModel, others: Sequence[torch.device]) -> None:
        copies = [nn.Module.to(copy.deepcopy(model), device) for device in others]
        self.model = model
        self.models = [model, *copies]
        self._threads = [ThreadPoolExecutor(1) for _ in self.models]

    def compile_repeated_blocks(self) -> None:
        for model in self.models:
            model.compile_repeated_blocks()

    def step(
        self,
        state: DreamState | SpreadState,
        actions: Tensor,
        *,
        noise: Tensor,
        action_mode: str | None = None,
        **sampling: Any,
    ) -> SpreadState:
        """As `ColaWorldModel.step`, whose dreams stay on their devices."""
        self.model.check_actions(actions, self.model.mode(action_mode), state.batch_size)
        check_noise(noise, *state.latents.shape)
        spread = self._spread(state)

        def step(model: ColaWorldModel, part: DreamState, rows: slice) -> DreamState:
            return model.step(
                part, actions[rows], action_mode=action_mode, noise=noise[rows], **sampling
            )

        return SpreadState(tuple(self._map(step, spread.parts, spread.rows)))

    def frames(self, state: DreamState | SpreadState) -> Tensor:
        """As `ColaWorldModel.frames`."""
        return _gathered(self._map(ColaWorldModel.frames, self._spread(state).parts))

    def rollout(
        self,
        state: DreamState | SpreadState,
        actions: Tensor,
        *,
        action_mode: str | None = None,
        seed: int | None = None,
        noise: Tensor | None = None,
        **sampling: Any,
    ) -> Tensor:
        """As `ColaWorldModel.rollout`: the candidates are shared out, or, where there are more of
        them, the dreams."""
        batch = state.batch_size
        self.model.check_actions(actions, self.model.mode(action_mode), batch, "N", "H")
        samples, horizon = actions.shape[1:3]
        shape = (horizon, *state.latents.shape)
        if noise is None:
            noise = self.model.draw_noise(seed, *shape)
        check_noise(noise, *shape)

        def rollout(model: ColaWorldModel, part: DreamState, given: Tensor, own: Tensor) -> Tensor:
            return model.rollout(
                _moved(part, model.device), given, action_mode=action_mode, noise=own, **sampling
            )

        if batch > samples:
            spread = self._spread(state)
            given = [actions[rows] for rows in spread.rows]
            own = [noise[:, rows] for rows in spread.rows]
            return _gathered(self._map(rollout, spread.parts, given, own))
        whole = state.whole() if isinstance(state, SpreadState) else state
        given = [actions[:, some] for some in shares(samples, len(self.models))]
        each = len(given)
        return _gathered(self._map(rollout, [whole] * each, given, [noise] * each), dim=1)

    def _spread(self, state: DreamState | SpreadState) -> SpreadState:
        if isinstance(state, SpreadState):
            return state
        rows = shares(state.batch_size, len(self.models))
        places = [model.device for model in self.models]
        parts = zip(rows, places, strict=False)
        return SpreadState(tuple(_moved(state.select(some), place) for some, place in parts))

    def _map(self, work: Callable[..., Result], *given: Iterable[Any]) -> list[Result]:
        """``work(model, *given)`` of as many of the models as something is given for."""
        each = zip(self._threads, self.models, zip(*given, strict=True), strict=False)
        # The compiler's settings are context variables, which threads do not inherit.
        jobs = [
            thread.submit(copy_context().run, work, model, *mine) for thread, model, mine in each
        ]
        return [job.result() for job in jobs]


def replicated(model: ColaWorldModel, others: Sequence[torch.device]) -> ColaWorldModel | Replicas:
    """The model itself where there are no other devices."""
    return Replicas(model, others) if others else model


def shares(count: int, among: int) -> list[slice]:
    """At most so many parts of ``count`` things, as equal as can be and none of them empty."""
    parts = min(count, among)
    bounds = [count * i // parts for i in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(bounds)]


def _moved(state: DreamState, device: torch.device) -> DreamState:
    return state.to(device, state.cache[0].key.dtype)


def _gathered(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """On the device of the first part."""
    return torch.cat([part.to(parts[0].device) for part in parts], dim)
