"""A model on several devices imagines what it imagines on one."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Any

import pytest
import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.models.dream_state import DreamState
from cola_env.models.replicas import Replicas, SpreadState, shares
from cola_env.models.world_model import ColaWorldModel
from tests.models.small import small_model
from tests.pretended import PRETENDED


class Here(Executor):
    """Works at once, in the thread that asks: what is pretended of a device holds there alone."""

    def __init__(self, max_workers: int) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture
def others(
    device: torch.device, full_precision: None, monkeypatch: pytest.MonkeyPatch
) -> list[torch.device]:
    if device == PRETENDED:
        monkeypatch.setattr("cola_env.models.replicas.ThreadPoolExecutor", Here)
    return [device, device]


@pytest.fixture
def model() -> ColaWorldModel:
    return small_model()


def begun(model: ColaWorldModel, batch: int) -> DreamState:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (batch, 2, 64, 64, 3), dtype=torch.uint8, generator=generator)
    return model.begin(frames)


def moves(*shape: int) -> Tensor:
    return torch.rand(*shape, 5, generator=torch.Generator().manual_seed(2)) * 2 - 1


def noise(state: DreamState | SpreadState) -> Tensor:
    return torch.randn(state.latents.shape, generator=torch.Generator().manual_seed(3))


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.device == expected.device
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("dreams", "candidates"),
    [(2, 7), (1, 1), (1, 2), (4, 1)],
    ids=["uneven", "one candidate", "fewer candidates than devices", "many dreams"],
)
def test_rollouts(model, others, dreams, candidates):
    replicas, state = Replicas(model, others), begun(model, dreams)
    plans = moves(dreams, candidates, 2)
    for given in ({"seed": 4}, {"seed": 4, "guidance_scale": 2.0, "decoded": False}):
        expected = model.rollout(state, plans, **given)
        assert_same(replicas.rollout(state, plans, **given), expected)
    assert len(set(expected.flatten(0, 1)[:, -1].sum((1, 2, 3)).tolist())) == dreams * candidates


def test_dreams_stay_on_their_devices_and_some_of_them_begin_anew(model, others):
    replicas = Replicas(model, others)
    alone: DreamState = begun(model, 5)
    spread: DreamState | SpreadState = alone
    for step in range(4):
        actions = moves(5, 4)[:, step]
        alone = model.step(alone, actions, noise=noise(alone))
        spread = replicas.step(spread, actions, noise=noise(spread))
        if step == 1:
            index, fresh = torch.tensor([4, 0]), begun(model, 2)
            alone, spread = alone.put(index, fresh), spread.put(index, fresh)
        assert [part.latents.device for part in spread.parts] == [
            torch.device("cpu"), *(replica.device for replica in replicas.models[1:])
        ]  # fmt: skip
        assert [part.batch_size for part in spread.parts] == [1, 2, 2]
        assert_same(spread.latents, alone.latents)
        assert torch.equal(spread.codes, alone.codes)
        whole = spread.whole()
        assert torch.equal(whole.seen, alone.seen) and whole.cached == alone.cached
        frames, expected = replicas.frames(spread), model.frames(alone)
        assert frames.device == expected.device
        assert (frames.int() - expected.int()).abs().max() <= 1
    for candidates in (2, 8):
        plans = moves(5, candidates, 2)
        expected = model.rollout(alone, plans, seed=5)
        assert_same(replicas.rollout(spread, plans, seed=5), expected)


def test_what_is_wrong_is_told_of_the_whole(model):
    replicas, state = Replicas(model, [torch.device("cpu")]), begun(model, 4)
    with pytest.raises(ColaWorldError, match=r"\(4, N, H, 5\)"):
        replicas.rollout(state, moves(5, 2, 2))
    with pytest.raises(ColaWorldError, match="noise must have shape"):
        replicas.rollout(state, moves(4, 2, 2), noise=torch.zeros(2, 5, 16, 8, 8))
    with pytest.raises(ColaWorldError, match=r"\(4, 5\)"):
        replicas.step(state, moves(5), noise=noise(state))
    with pytest.raises(ColaWorldError, match="num_inference_steps"):
        replicas.step(state, moves(4), noise=noise(state), num_inference_steps=0)


@pytest.mark.parametrize(
    ("count", "among", "sizes"), [(7, 2, [3, 4]), (6, 3, [2, 2, 2]), (1, 4, [1])]
)
def test_shares_follow_each_other_and_none_is_empty(count, among, sizes):
    parts = shares(count, among)
    assert [part.stop - part.start for part in parts] == sizes
    assert sum((list(range(count))[part] for part in parts), []) == list(range(count))
