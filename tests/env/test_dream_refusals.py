"""What a dream environment refuses, in a sentence each."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cola_env
from cola_env import ColaWorldEnv, ColaWorldError
from cola_env.worlds import ROBODESK
from tests.env.dream_cases import state_of

pytestmark = pytest.mark.usefixtures("goals")


def test_bad_arguments(checkpoints):
    def made(**kwargs):
        return ColaWorldEnv(**({"checkpoint": checkpoints["latent"], "device": "cpu"} | kwargs))

    for kwargs, sentence in (
        ({"task": "push_purple"}, "Unknown task 'push_purple'.*push_red"),
        ({"action_mode": "direct"}, "no action_mode 'direct'.*'real' and 'latent'"),
        ({"checkpoint": checkpoints["direct"], "action_mode": "real"}, "it offers 'direct'"),
        ({"task": "stack"}, "no success classifier for task 'stack'"),
        ({"reward": "beauty"}, "Unknown reward"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of at least 1"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, or -1.*not 0"),
        ({"render_mode": "human"}, "render_mode"),
    ):
        with pytest.raises(ColaWorldError, match=sentence):
            made(**kwargs)


def test_a_classifier_of_another_rendering_profile_is_refused(checkpoints, tmp_path):
    cola_env.load_model(checkpoints["direct"], "cpu").save_pretrained(tmp_path / "direct")
    cola_env.SuccessClassifier(width=4, rendering="vp2").save_pretrained(tmp_path / "classifiers")
    with pytest.raises(ValueError, match="[Rr]endering profile"):
        ColaWorldEnv(checkpoint=tmp_path / "direct", device="cpu")


def test_a_value_function_ends_no_episode(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("cola_env.scoring.success_classifier.SuccessClassifier.threshold", -1.0)
    cola_env.load_model(checkpoints["direct"], "cpu").save_pretrained(tmp_path / "direct")
    for discount in (0.0, 0.8):
        values = cola_env.SuccessClassifier(width=4, discount=discount)
        values.save_pretrained(tmp_path / "classifiers")
        env = ColaWorldEnv("push_red", checkpoint=tmp_path / "direct", device="cpu")
        _, info = env.reset(seed=0)
        assert ("success_probability" in info) == (discount == 0)
        *_, terminated, _, info = env.step(np.zeros(5, np.float32))
        assert terminated == ("success_probability" in info) == (discount == 0)


def test_an_episode_ends_above_its_classifiers_own_threshold(checkpoints, tmp_path):
    cola_env.load_model(checkpoints["direct"], "cpu").save_pretrained(tmp_path / "direct")

    def one_step(threshold: float) -> tuple[float, bool]:
        torch.manual_seed(0)
        classifier = cola_env.SuccessClassifier(width=4, threshold=threshold)
        classifier.save_pretrained(tmp_path / "classifiers")
        env = ColaWorldEnv("push_red", checkpoint=tmp_path / "direct", device="cpu")
        env.reset(seed=0)
        *_, terminated, _, info = env.step(np.zeros(5, np.float32))
        return info["success_probability"], terminated

    probability, _ = one_step(0.5)
    assert one_step(probability - 0.01) == (probability, True)
    assert one_step(probability + 0.01) == (probability, False)


@pytest.fixture
def shipped_classifier(goals):
    """Beside the goals, in the place of the shipped one: 64 px, "fast"."""
    cola_env.SuccessClassifier(width=4).save_pretrained(ROBODESK.assets / "classifiers")


@pytest.mark.parametrize("other", [{"image_size": 128}, {"rendering": "vp2"}])
def test_a_model_of_other_frames_dreams_without_the_shipped_classifier(
    own_model, image, shipped_classifier, other
):
    model = own_model("direct", **other)
    size = model.config.image_size
    given = {"checkpoint": model, "device": "cpu"}
    for reward in ("mse", lambda frames, goal: frames.mean((-3, -2, -1))):
        env = ColaWorldEnv("push_red", reward=reward, **given)
        options = {"frame": image(0, size), "goal": image(1, size)}
        frame, info = env.reset(seed=0, options=options)
        assert frame.shape == (size, size, 3) and info == {}
        frame, reward, terminated, *_ = env.step(np.zeros(5, np.float32))
        assert frame.shape == (size, size, 3) and np.isfinite(reward) and not terminated
    for reward in ("vp2", {"mse": 1, "classifier": 1}):
        with pytest.raises(ColaWorldError, match="classifier knows frames.*'fast' and 64 px.*mse"):
            ColaWorldEnv("push_red", reward=reward, **given)


def test_shipped_starts_of_another_size_are_refused(own_model, image, shipped_classifier):
    model = own_model("direct", image_size=128)
    env = ColaWorldEnv("push_red", checkpoint=model, reward="mse", device="cpu")
    for options in (None, {"frame": image(0, 128)}):
        with pytest.raises(ColaWorldError, match="goals are of 64 px.*of 128: give reset"):
            env.reset(seed=0, options=options)


def test_a_model_without_codes_is_no_environment(own_model):
    model = own_model("latent", quantizer_config={"kind": "gaussian", "num_tokens": 1})
    with pytest.raises(ColaWorldError, match="continuous latent actions, no codes.*rollout"):
        ColaWorldEnv(checkpoint=model, reward="mse", device="cpu")


def test_bad_actions(make):
    real, latent = make("direct"), make("latent")
    with pytest.raises(ColaWorldError, match=r"call reset\(\) first"):
        real.step(np.zeros(5, np.float32))
    for env in (real, latent):
        env.reset(seed=0)
    nan = np.zeros(5, np.float32)
    nan[2] = np.nan
    for env, action, sentence in (
        (real, np.zeros(4, np.float32), r"must have shape \(5,\), not \(4,\)"),
        (real, np.zeros((1, 5), np.float32), r"must have shape \(5,\)"),
        (real, nan, "NaN"),
        (latent, np.array([0, 32]), "from 0 to 31"),
        (latent, np.array([-1, 0]), "from 0 to 31"),
        (latent, np.array([0.5, 0]), "whole numbers"),
        (real, None, "actions must be numbers.*not NoneType"),
        (latent, np.zeros(5), r"Latent actions must have shape \(2,\)"),
    ):
        before = state_of(env)
        with pytest.raises(ColaWorldError, match=sentence):
            env.step(action)
        assert state_of(env) == before
    with pytest.raises(ColaWorldError, match=r"\(N, H, 5\), not \(4, 5\)"):
        real.rollout(np.zeros((4, 5)))
    with pytest.raises(ColaWorldError, match=r"\(N, H, 5\)"):
        real.rollout(np.zeros((0, 4, 5)))
    with pytest.raises(ColaWorldError, match="NaN"):
        real.rollout(torch.full((2, 3, 5), torch.nan))


@pytest.mark.parametrize("name", ["ColaWorld-RoboDesk-v0", "ColaWorld-LIBERO-v0"])
def test_a_refused_first_reset_does_no_harm(checkpoints, libero_model, image, never, name):
    model = checkpoints["direct"] if "RoboDesk" in name else libero_model
    env = gym.make(name, checkpoint=model, reward="mse", device="cpu")
    options = {"frame": image(0), "goal": image(1)}
    for wrong in ({"gaol": image(0)}, options | {"frame": image(0) / 255}):
        with pytest.raises(ColaWorldError):
            env.reset(options=wrong)
    with pytest.raises(ColaWorldError, match=r"call reset\(\) first"):
        env.step(env.action_space.sample())
    env.reset(options=options)
    assert env.step(env.action_space.sample())[0].shape == (64, 64, 3)


def test_gymnasiums_passive_checker_which_a_refused_reset_breaks_is_off_everywhere():
    ours = [spec for spec in gym.registry.values() if "cola_env" in str(spec.entry_point)]
    assert len(ours) == 5 and all(spec.disable_env_checker for spec in ours)


def test_bad_options(make, image):
    env = make()
    env.reset(seed=0)
    snapshot = env.snapshot()
    for options, sentence in (
        ({"gaol": image(0)}, "no option 'gaol'"),
        ({"frame": image(0)[:32]}, r"options\['frame'\] must be uint8"),
        ({"frame": image(0) / 255}, "not float64"),
        ({"goal": None}, r"options\['goal'\] must be numbers.*not NoneType"),
        ({"goal": np.stack([image(0)] * 2)}, r"options\['goal'\]"),
        ({"frame": np.stack([image(0)] * 3)}, r"options\['actions'\] of shape \(2, 5\)"),
        ({"state": snapshot, "frame": image(0)}, "not both"),
        ({"state": {"a": 1}}, "snapshot"),
    ):
        with pytest.raises(ColaWorldError, match=sentence):
            env.reset(seed=0, options=options)
