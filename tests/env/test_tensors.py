"""Tensors that numpy cannot read, as a rollout's on a GPU, are taken wherever arrays are."""

import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv, ColaWorldError, ColaWorldVectorEnv
from cola_env.inputs import as_array
from tests.env.dream_cases import elsewhere

pytestmark = pytest.mark.usefixtures("goals", "never")


def both(env, options, move):
    """What a reset with these options and a step bring."""
    start, _ = env.reset(seed=0, options=options)
    return start, *env.step(move)[:2]


def assert_same(one, other):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_in_a_dream(make, image):
    env = make(reward="mse")
    past = np.stack([image(0), image(1)])
    options = {"frame": past, "goal": image(2), "actions": np.full((1, 5), 0.5, np.float32)}
    move = np.full(5, -0.5, np.float32)
    known = both(env, options, move)
    tensors = {name: elsewhere(value) for name, value in options.items()}
    assert_same(both(env, tensors, elsewhere(move)), known)
    at = {"state": env.snapshot(), "goal": image(3)}
    known = both(env, at, move)
    assert_same(both(env, at | {"goal": elsewhere(image(3))}, elsewhere(move)), known)


def test_in_a_dream_of_ones_own(own_model, image):
    env = ColaWorldEnv(world="own", checkpoint=own_model("direct"), reward="mse", device="cpu")
    move = np.zeros(5, np.float32)
    known = both(env, {"frame": image(0)}, move)
    assert_same(both(env, {"frame": elsewhere(image(0))}, elsewhere(move)), known)


def test_in_a_vector_of_dreams(checkpoints, image):
    env = ColaWorldVectorEnv(2, checkpoint=checkpoints["direct"], device="cpu", reward="mse")
    options = {"frame": np.stack([image(0), image(1)]), "goal": image(2)}
    move = np.full((2, 5), 0.5, np.float32)
    known = both(env, options, move)
    tensors = {name: elsewhere(value) for name, value in options.items()}
    assert_same(both(env, tensors, elsewhere(move)), known)


def test_with_gradients(make):
    env = make(reward="mse")
    move = torch.full((5,), 0.5)
    known = both(env, {}, move.numpy())
    assert_same(both(env, {}, move.clone().requires_grad_()), known)


@pytest.mark.parametrize("values", [None, "red", [[1, 2], [3]], {"a": 1}, [None]])
def test_what_holds_no_numbers_is_told(values):
    with pytest.raises(ColaWorldError, match="The goal must be numbers: an array.*not"):
        as_array(values, "The goal")


def test_bfloat16_is_read_as_float32():
    assert as_array(torch.ones(2, dtype=torch.bfloat16), "The actions").tolist() == [1, 1]
