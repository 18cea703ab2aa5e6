"""A restored dream goes on as it did, whatever has happened since, and nowhere else."""

import copy
import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv, ColaWorldError, ColaWorldVectorEnv
from tests.env.dream_cases import MODES, state_of

pytestmark = pytest.mark.usefixtures("goals", "never")
STILL = np.zeros(5, np.float32)


def lengths(env, restored: int) -> list[list[bool]]:
    """Truncations of an episode from its start on, and from each time it is gone back to."""
    env.reset(seed=0)
    start = env.unwrapped.snapshot()
    limit = env.unwrapped.max_episode_steps
    ends = []
    for _ in range(1 + restored):
        ends.append([env.step(STILL)[3] for _ in range(limit)])
        env.unwrapped.restore(start)
    return ends


@pytest.mark.parametrize(("given", "limit"), [(None, 15), (3, 3), (20, 20)])
def test_the_limit_of_gym_make_is_that_of_the_restored_step(checkpoints, given, limit):
    made = {"checkpoint": checkpoints["direct"], "device": "cpu"}
    env = gym.make("ColaWorld-RoboDesk-v0", max_episode_steps=given, **made)
    assert lengths(env, restored=2) == [[False] * (limit - 1) + [True]] * 3
    assert env.spec.max_episode_steps == limit
    assert gym.make(env.spec).unwrapped.max_episode_steps == limit


def test_minus_one_is_no_limit_under_gym_make(checkpoints):
    made = {"checkpoint": checkpoints["direct"], "device": "cpu"}
    env = gym.make("ColaWorld-RoboDesk-v0", max_episode_steps=-1, **made)
    env.reset(seed=0)
    assert not any(env.step(STILL)[3] for _ in range(16))


def test_what_autoreset_begins_after_a_restore_is_what_it_began_before(checkpoints):
    def made():
        folder = checkpoints["direct"]
        return ColaWorldVectorEnv(3, checkpoint=folder, device="cpu", max_episode_steps=1)

    def episodes(env):
        return np.stack([env.step(np.zeros((3, 5), np.float32))[0] for _ in range(12)])

    env, other = made(), made()
    env.reset(seed=0)
    snapshot = env.snapshot()
    first = episodes(env)
    assert len({frame.tobytes() for frame in first[1::2, 0]}) > 1
    other.reset(seed=9)
    for restored, state in ((env, snapshot), (other, pickle.loads(pickle.dumps(snapshot)))):
        for _ in range(2):
            restored.restore(state)
            np.testing.assert_array_equal(episodes(restored), first)


def test_a_single_dreams_snapshot_leaves_a_vectors_generators(checkpoints):
    folder = checkpoints["direct"]
    single = ColaWorldEnv(checkpoint=folder, device="cpu")
    frame, _ = single.reset(seed=0)
    vector = ColaWorldVectorEnv(1, checkpoint=folder, device="cpu", max_episode_steps=1)
    vector.restore(single.snapshot())
    np.testing.assert_array_equal(vector.dream.observations[0], frame)
    assert vector.step(STILL[None])[3] == [True]
    vector.step(STILL[None])


def test_another_models_snapshot_is_refused(make, own_model, image):
    real, direct = make("real"), make("direct")
    large = own_model("direct", image_size=128)
    others = [(real, 64), (ColaWorldEnv("push_red", checkpoint=large, reward="mse"), 128)]
    direct.reset(seed=0)
    before = state_of(direct)
    for other, size in others:
        other.reset(seed=0, options={"frame": image(0, size), "goal": image(1, size)})
        with pytest.raises(ColaWorldError, match="another model.*same checkpoint"):
            direct.restore(other.snapshot())
        with pytest.raises(ColaWorldError, match="another model.*same checkpoint"):
            direct.reset(seed=0, options={"state": other.snapshot()})
        assert state_of(direct) == before


@pytest.mark.parametrize("mode", MODES)
def test_a_loaded_model_restores_what_its_checkpoint_dreamt(make, mode):
    env = make(mode)
    env.reset(seed=0)
    given = {"checkpoint": copy.deepcopy(env.dream.model), "action_mode": mode, "device": "cpu"}
    twin = ColaWorldEnv("push_red", **given, reward="mse")
    twin.restore(env.snapshot())
    move = env.action_space.sample()
    apart = np.abs(twin.step(move)[0].astype(int) - env.step(move)[0])
    assert apart.max() <= 2  # copied weights lie elsewhere in memory, which rounds otherwise


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), ("meta", torch.float32)])
def test_keys_and_values_take_the_precision_of_another_kind_of_device(checkpoints, device, dtype):
    env = ColaWorldEnv("push_red", checkpoint=checkpoints["direct"], device="cpu")
    env.reset(seed=0)
    memory = env.snapshot().memory
    half = replace(memory, cache=tuple(kv.map(lambda x: x.bfloat16()) for kv in memory.cache))
    moved = half.to(torch.device(device), torch.float32)
    assert {x.dtype for kv in moved.cache for x in (kv.key, kv.value)} == {dtype}
    assert moved.latents.dtype == torch.float32 and moved.latents.device.type == device
