"""Dreams are the same on every device, under every reward, alone and side by side."""

import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv, ColaWorldVectorEnv
from cola_env.scoring.rewards import REWARDS, make_reward
from cola_env.scoring.success_classifier import SuccessClassifier
from tests.env.dream_cases import tiny_lpips

pytestmark = pytest.mark.usefixtures("goals", "never")


@pytest.fixture
def levels(device, request):
    """By how many of 256 levels frames may differ, and rewards by a hundredth of that: a GPU
    computes in bfloat16."""
    if device.type == "cuda":
        return 8
    request.getfixturevalue("full_precision")
    return 1


@pytest.fixture
def make(own_model):
    model = own_model("latent")

    def make_env(device, reward="mse", num_envs=None):
        torch.manual_seed(0)
        reward = make_reward(
            reward, "push_red", SuccessClassifier(width=8).eval(), lpips=tiny_lpips()
        )
        given = {"checkpoint": model, "device": device, "reward": reward}
        if num_envs is None:
            return ColaWorldEnv("push_red", **given)
        return ColaWorldVectorEnv(num_envs, task="push_red", max_episode_steps=2, **given)

    return make_env


def moves(*shape):
    return np.random.default_rng(0).uniform(-1, 1, (*shape, 5)).astype(np.float32)


def experience(env):
    """Frames and rewards of steps and of imagined candidates."""
    start, _ = env.reset(seed=0)
    steps = [env.step(move)[:2] for move in moves(2)]
    imagined = env.rollout(torch.as_tensor(moves(3, 2)))
    frames = [start, *(frame for frame, _ in steps), *np.asarray(imagined.frames.cpu())]
    rewards = [*(reward for _, reward in steps), *imagined.rewards.cpu().flatten().tolist()]
    return frames, np.array(rewards)


def assert_near(found, expected, most):
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.astype(float) - other).max() <= most


@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward(make, device, levels, reward):
    expected, found = (experience(make(where, reward)) for where in ("cpu", device))
    assert_near(found[0], expected[0], levels)
    np.testing.assert_allclose(found[1], expected[1], rtol=levels / 100, atol=levels / 100)


def test_many_worlds_side_by_side_of_which_some_begin_anew(make, device, levels):
    seen = []
    for where in ("cpu", device):
        env = make(where, num_envs=4)
        frames, rewards = [env.reset(seed=0)[0]], []
        for move in moves(4, 4):
            frame, reward, *_ = env.step(move)
            frames.append(frame)
            rewards.append(reward)
        seen.append((frames, np.array(rewards)))
    assert_near(seen[1][0], seen[0][0], levels)
    np.testing.assert_allclose(seen[1][1], seen[0][1], rtol=levels / 100, atol=levels / 100)


def test_many_worlds_over_several_devices(own_model, full_precision):
    """As on one device, also where some begin anew, and after a restore from the other."""
    model = own_model("latent")

    def make_env(**where):
        options = {"checkpoint": model, "reward": "mse"} | where
        return ColaWorldVectorEnv(3, task="push_red", max_episode_steps=2, **options)

    one, several = make_env(device="cpu"), make_env(devices=["cpu", "cpu"])
    for env in (one, several):
        env.reset(seed=0)
        env.reset(seed=5, options={"reset_mask": np.array([True, False, False])})
    for move in moves(4, 3):
        expected, found = one.step(move), several.step(move)
        assert_near([found[0]], [expected[0]], 1)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
        np.testing.assert_array_equal(found[4]["latent_codes"], expected[4]["latent_codes"])
    for plans in (moves(3, 1, 2), moves(3, 5, 2)):
        expected, found = one.rollout(plans), several.rollout(plans)
        assert_near(found.frames.numpy(), expected.frames.numpy(), 1)
        np.testing.assert_allclose(found.rewards, expected.rewards, atol=1e-5)
    before = one.snapshot(), several.snapshot()
    (move,) = moves(1, 3)
    expected = one.step(move)[0]
    for env, snapshot in ((one, before[1]), (several, before[0])):
        env.restore(snapshot)
        assert_near([env.step(move)[0]], [expected], 1)
    one.reset(options={"state": before[1]})
    several.reset(options={"state": before[0]})


def test_a_dream_moves_to_another_device_and_back(make, device, levels):
    here, there = make("cpu"), make(device)
    here.reset(seed=0)
    there.restore(here.snapshot())
    (move,) = moves(1)
    expected, found = here.step(move)[0], there.step(move)[0]
    assert_near([found], [expected], levels)
    here.restore(there.snapshot())
    assert_near([here.step(move)[0]], [there.step(move)[0]], levels)
