"""ColaWorld-Own-v0: the dream of a model that was trained on data of the user's own."""

import gymnasium as gym
import numpy as np
import pytest

import cola_env  # noqa: F401
from cola_env import ColaWorldError

START = {"frame": np.full((3, 64, 64, 3), 90, np.uint8)}


@pytest.mark.parametrize("mode", ["latent", "real"])
def test_a_model_of_any_actions_dreams_on_from_the_users_frames(libero_model, mode) -> None:
    env = gym.make("ColaWorld-Own-v0", checkpoint=libero_model, action_mode=mode, device="cpu")
    frame, _ = env.reset(seed=0, options=START)
    assert np.array_equal(frame, START["frame"][-1])
    assert env.action_space.shape == ((2,) if mode == "latent" else (7,))
    frame, reward, terminated, _, info = env.step(env.action_space.sample())
    assert frame.shape == (64, 64, 3) and not terminated
    assert reward < 0, "the start frame is the goal"
    assert info["latent_codes"].shape == (2,)


def test_many_dreams_at_once(libero_model) -> None:
    envs = gym.make_vec(
        "ColaWorld-Own-v0", num_envs=2, checkpoint=libero_model, action_mode="latent", device="cpu"
    )
    frames, _ = envs.reset(seed=0, options={"frame": START["frame"][0]})
    assert frames.shape == (2, 64, 64, 3)
    assert envs.step(envs.action_space.sample())[0].shape == (2, 64, 64, 3)


def test_what_is_not_shipped_is_asked_for(libero_model) -> None:
    with pytest.raises(ColaWorldError, match="no shipped model: give checkpoint=FOLDER"):
        gym.make("ColaWorld-Own-v0")
    env = gym.make("ColaWorld-Own-v0", checkpoint=libero_model, device="cpu")
    with pytest.raises(ColaWorldError, match="no shipped starts: give reset.options="):
        env.reset(seed=0)
    env.reset(seed=0, options=START)
    assert env.step(env.action_space.sample())[0].shape == (64, 64, 3)
