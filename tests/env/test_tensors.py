"""Numbers of whatever layout and type are taken everywhere alike, and complex ones are told."""

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


MOVE = np.array([0.5, -0.25, 0.125, 0.0, -1.0], np.float32)
SAME_MOVE = {
    "negative strides": MOVE[::-1].copy()[::-1],
    "big-endian": MOVE.astype(">f4"),
    "float64": MOVE.astype(np.float64),
    "long double": MOVE.astype(np.longdouble),
    "read-only": np.broadcast_to(MOVE, (1, 5))[0],
    "list": MOVE.tolist(),
    "float16": torch.tensor(MOVE, dtype=torch.float16),
    "float8": torch.tensor(MOVE).to(torch.float8_e4m3fn),
    "sparse": torch.tensor(MOVE).to_sparse(),
    "quantized": torch.quantize_per_tensor(torch.tensor(MOVE), 0.125, 0, torch.qint8),
}
COMPLEX = (MOVE.astype(np.complex64), torch.tensor(MOVE).to(torch.complex64), [1j] * 5)


@pytest.fixture(scope="module")
def desk():
    pytest.importorskip("robodesk")
    from cola_env.simulators.robodesk.env import RoboDeskEnv

    env = RoboDeskEnv("push_red", rendering="fast", action_repeat=1)
    yield env
    env.close()


@pytest.mark.parametrize("twin", ["dream", "desk", "vector"])
def test_the_twins_take_the_same_actions(request, checkpoints, twin, recwarn):
    if twin == "desk":
        env = request.getfixturevalue("desk")
    elif twin == "dream":
        env = ColaWorldEnv(checkpoint=checkpoints["direct"], device="cpu")
    else:
        env = ColaWorldVectorEnv(1, checkpoint=checkpoints["direct"], device="cpu")
    env.reset(seed=0)
    state = env.snapshot()

    def after(move):
        env.restore(state)
        return env.step([move] if twin == "vector" and isinstance(move, list) else batched(move))[0]

    def batched(move):
        return move[None] if twin == "vector" else move

    known = after(MOVE)
    for name, move in SAME_MOVE.items():
        np.testing.assert_array_equal(after(move), known, err_msg=name)
    for move in COMPLEX:
        with pytest.raises(ColaWorldError, match="actions must be real numbers, not complex"):
            after(move)
    assert not [w for w in recwarn if "writable" in str(w.message)]


@pytest.mark.parametrize("twin", ["dream", "desk"])
def test_the_twins_take_the_same_goals(request, checkpoints, image, twin):
    if twin == "desk":
        env = request.getfixturevalue("desk")
    else:
        env = ColaWorldEnv(checkpoint=checkpoints["direct"], device="cpu")
    env.reset(seed=0)
    for goal in (image(1), image(1)[::-1], image(1) / 255, torch.tensor(image(1)).half() / 255):
        env.reset(options={"goal": goal})
    for goal, told in (
        (image(1) / 1.0, r"floats of .*floats lie in \[0, 1\]"),
        (np.full((64, 64, 3), np.nan), "floats of nan to nan"),
        (image(1).astype(int), "must be uint8 RGB"),
        (image(1) > 9, "must be uint8 RGB"),
        (image(1, 32), r"\(64, 64, 3\).*not uint8 of shape \(32, 32, 3\)"),
    ):
        with pytest.raises(ColaWorldError, match=told):
            env.reset(options={"goal": goal})


def test_a_goal_of_floats_is_that_of_the_same_pixels(make, image):
    env = make(reward="mse")
    rewards = []
    for goal in (image(1), image(1) / 255):
        env.reset(seed=0, options={"goal": goal})
        rewards.append(env.step(MOVE)[1])
    assert rewards[0] == rewards[1] != 0


@pytest.mark.parametrize("twin", ["dream", "desk"])
def test_a_tensor_without_numbers_is_told(request, checkpoints, twin):
    if twin == "desk":
        env = request.getfixturevalue("desk")
    else:
        env = ColaWorldEnv(checkpoint=checkpoints["direct"], device="cpu")
    env.reset(seed=0)
    with pytest.raises(ColaWorldError, match="'meta' holds no numbers"):
        env.step(torch.zeros(5, device="meta"))


def test_codes_of_any_whole_type(make):
    env = make("latent")
    env.reset(seed=0)
    state = env.snapshot()
    known = env.step(np.array([3, 30]))[0]
    for dtype in (">i4", np.uint8, np.uint16, np.uint64, np.float64):
        env.restore(state)
        np.testing.assert_array_equal(env.step(np.array([3, 30], dtype))[0], known)
    with pytest.raises(ColaWorldError, match="from 0 to 31"):
        env.step(np.array([3, 2**64 - 1], np.uint64))


def test_frames_of_any_layout(make, image):
    env = make(reward="mse")
    for frame in (image(0)[::-1].copy()[::-1], image(0)[..., ::-1].copy()[..., ::-1]):
        np.testing.assert_array_equal(env.reset(options={"frame": frame})[0], image(0))


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
