import pickle
import warnings
from dataclasses import astuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo

import cola_env
from cola_env import ColaWorldEnv, ColaWorldError
from cola_env.worlds import ROBODESK

pytestmark = pytest.mark.usefixtures("goals")

MODES = {"real": "latent", "latent": "latent", "direct": "direct"}


@pytest.fixture
def make(checkpoints, never):
    def make_env(mode="direct", **kwargs):
        folder = checkpoints[MODES[mode]]
        return ColaWorldEnv(
            "push_red", checkpoint=folder, device="cpu", **({"action_mode": mode} | kwargs)
        )

    return make_env


def actions_for(env, *leading, seed=0):
    env.action_space.seed(seed)
    count = int(np.prod(leading))
    sampled = np.stack([env.action_space.sample() for _ in range(count)])
    return sampled.reshape(*leading, *env.action_space.shape)


def state_of(env):
    """All numbers of an environment's state, as bytes."""

    def flat(value):
        if isinstance(value, (tuple, list)):
            return [number for part in value for number in flat(part)]
        return [torch.as_tensor(value).float().numpy().tobytes()] if value is not None else []

    return flat(astuple(env.snapshot()))


@pytest.mark.parametrize("mode", MODES)
def test_check_env(checkpoints, mode):
    env = gym.make(
        "ColaWorld-RoboDesk-v0",
        checkpoint=checkpoints[MODES[mode]],
        action_mode=mode,
        render_mode="rgb_array",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*WARN")
        check_env(env.unwrapped)
    assert env.observation_space == gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    if mode == "latent":
        assert env.action_space == gym.spaces.MultiDiscrete([32, 32])
    else:
        assert env.action_space == gym.spaces.Box(-1, 1, (5,), np.float32)


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_frames_and_another_seed_other_frames(make, mode):
    env, twin = make(mode), make(mode)
    moves = actions_for(env, 6)
    trails = []
    for made, seed in ((env, 3), (twin, 3), (twin, 3), (twin, 4)):
        trail = [made.reset(seed=seed)[0]]
        trail += [made.step(move)[0] for move in moves]
        trails.append(np.stack(trail))
    np.testing.assert_array_equal(trails[0], trails[1])
    np.testing.assert_array_equal(trails[0], trails[2])
    assert (trails[0] != trails[3]).any()


def test_noise_and_actions_both_change_the_prediction(make, image):
    env = make(reward="mse")
    options = {"frame": image(1), "goal": image(2)}
    frames = {}
    for seed, push in ((0, 1.0), (0, -1.0), (1, 1.0)):
        start, _ = env.reset(seed=seed, options=options)
        np.testing.assert_array_equal(start, options["frame"])
        frames[seed, push] = env.step(np.full(5, push, np.float32))[0]
    assert (frames[0, 1.0] != frames[0, -1.0]).any()
    assert (frames[0, 1.0] != frames[1, 1.0]).any()


def test_without_options_an_episode_is_one_of_the_tasks_pairs(make, goals):
    env = make(reward="mse")
    starts = [env.reset(seed=seed)[0] for seed in range(12)]
    pairs = [pair.initial_frame for pair in goals.pairs]
    which = {next(i for i, p in enumerate(pairs) if (p == start).all()) for start in starts}
    assert which == {0, 1, 2}


def test_reward_is_of_the_new_frame_against_the_goal(make, image):
    env = make(reward="mse")
    goal = image(9)
    env.reset(seed=0, options={"goal": goal})
    frame, reward, *_ = env.step(np.zeros(5, np.float32))
    assert reward == pytest.approx(-np.mean((frame / 255 - goal / 255) ** 2), rel=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_info(make, mode):
    env = make(mode)
    _, info = env.reset(seed=0)
    assert 0 <= info["success_probability"] <= 1
    move = env.action_space.sample()
    *_, info = env.step(move)
    assert info["prediction_seconds"] > 0
    assert 0 <= info["success_probability"] <= 1
    if mode == "latent":
        np.testing.assert_array_equal(info["latent_codes"], move)
    elif mode == "real":
        assert info["latent_codes"].shape == (2,)
    else:
        assert "latent_codes" not in info


@pytest.mark.parametrize(("threshold", "ends"), [(-1.0, True), (1.0, False)])
def test_terminated_when_the_classifier_says_success(make, monkeypatch, threshold, ends):
    monkeypatch.setattr("cola_env.dream.SUCCESS", threshold)
    env = make(reward="mse")
    env.reset(seed=0)
    assert env.step(np.zeros(5, np.float32))[2] is ends


def test_a_task_without_classifier_never_terminates(make, image, checkpoints):
    env = ColaWorldEnv("stack", checkpoint=checkpoints["direct"], reward="mse", device="cpu")
    _, info = env.reset(seed=0, options={"frame": image(0), "goal": image(1)})
    assert info == {}
    *_, terminated, truncated, info = env.step(np.zeros(5, np.float32))
    assert not terminated and not truncated and "success_probability" not in info
    with pytest.raises(ColaWorldError, match="no goals for task 'stack'"):
        env.reset(seed=0)


def test_minus_one_is_no_step_limit(make):
    env = make(max_episode_steps=-1)
    env.reset(seed=0)
    assert not any(env.step(np.zeros(5, np.float32))[3] for _ in range(3))


@pytest.mark.parametrize("through_gym", [False, True])
def test_truncated_at_the_step_limit(make, checkpoints, through_gym):
    if through_gym:
        env = gym.make(
            "ColaWorld-RoboDesk-v0", checkpoint=checkpoints["direct"], max_episode_steps=3
        )
    else:
        env = make(max_episode_steps=3)
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(np.zeros(5, np.float32))[3] for _ in range(3)]
        assert ends == [False, False, True]


def test_the_registered_limit_is_vp2s():
    assert gym.spec("ColaWorld-RoboDesk-v0").max_episode_steps == cola_env.EPISODE_STEPS == 15
    assert gym.spec("RoboDesk-v0").max_episode_steps == 15


@pytest.mark.parametrize("mode", MODES)
def test_rollout_is_what_stepping_would_give_and_changes_nothing(make, mode, monkeypatch):
    monkeypatch.setattr("cola_env.models.precision.fast_dtype", lambda device: None)
    env = make(mode)
    env.reset(seed=5)
    for move in actions_for(env, 3, seed=1):
        env.step(move)
    before = state_of(env)
    candidates = actions_for(env, 3, 4, seed=2)
    rollout = env.rollout(candidates)
    assert rollout.frames.shape == (3, 4, 64, 64, 3) and rollout.frames.dtype == torch.uint8
    assert rollout.rewards.shape == (3, 4) and rollout.rewards.dtype == torch.float32
    assert state_of(env) == before
    start = env.snapshot()
    for n, candidate in enumerate(candidates):
        env.restore(start)
        for h, move in enumerate(candidate):
            frame, reward, *_ = env.step(move)
            apart = np.abs(rollout.frames[n, h].numpy().astype(int) - frame)
            assert apart.max() <= 1
            assert float(rollout.rewards[n, h]) == pytest.approx(reward, abs=1e-3)


def test_rollout_candidates_share_their_noise(make):
    env = make()
    env.reset(seed=0)
    same = np.repeat(actions_for(env, 1, 3), 4, axis=0)
    frames = env.rollout(same).frames.int()
    assert (frames - frames[:1]).abs().max() <= 1


def test_restore_repeats_the_future_also_in_another_env_and_after_pickling(make):
    env, other = make(), make()
    env.reset(seed=1)
    env.step(np.zeros(5, np.float32))
    moves = actions_for(env, 6)
    snapshot = env.snapshot()
    first = [env.step(move)[:2] for move in moves]
    env.restore(snapshot)
    other.restore(pickle.loads(pickle.dumps(snapshot)))
    for made in (env, other):
        for move, (frame, reward) in zip(moves, first, strict=True):
            again = made.step(move)
            np.testing.assert_array_equal(again[0], frame)
            assert again[1] == reward


def test_reset_to_a_snapshot_begins_an_episode_there(make, image):
    env = make(reward="mse", max_episode_steps=2)
    env.reset(seed=1)
    frame, *_ = env.step(np.zeros(5, np.float32))
    snapshot = env.snapshot()
    goal = image(7)
    trails = []
    for seed in (0, 0, 1):
        start, _ = env.reset(seed=seed, options={"state": snapshot, "goal": goal})
        np.testing.assert_array_equal(start, frame)
        first = env.step(np.zeros(5, np.float32))
        assert not first[3]
        assert first[1] == pytest.approx(-np.mean((first[0] / 255 - goal / 255) ** 2), rel=1e-4)
        trails.append(first[0])
    np.testing.assert_array_equal(trails[0], trails[1])
    assert (trails[0] != trails[2]).any()


@pytest.mark.parametrize("mode", ["real", "direct"])
def test_several_start_frames(make, image, mode):
    env = make(mode)
    past = np.stack([image(0), image(1), image(2)])
    options = {"frame": past, "actions": np.zeros((2, 5), np.float32)}
    start, _ = env.reset(seed=0, options=options)
    np.testing.assert_array_equal(start, past[-1])
    with_past = env.step(np.zeros(5, np.float32))[0]
    env.reset(seed=0, options={"frame": past[-1]})
    assert (env.step(np.zeros(5, np.float32))[0] != with_past).any()


def test_real_actions_are_clipped(make):
    env = make()
    frames = []
    for size in (1.0, 7.0):
        env.reset(seed=0)
        frames.append(env.step(np.full(5, size, np.float32))[0])
    np.testing.assert_array_equal(*frames)


def test_record_video(checkpoints, tmp_path):
    env = gym.make(
        "ColaWorld-RoboDesk-v0", checkpoint=checkpoints["direct"], render_mode="rgb_array"
    )
    env = RecordVideo(env, str(tmp_path / "videos"), disable_logger=True)
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    env.close()
    assert [path.stat().st_size > 0 for path in tmp_path.glob("videos/*.mp4")] == [True]


def test_render_is_the_observation(make):
    env = make(render_mode="rgb_array")
    frame, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), frame)
    frame[:] = 0
    assert env.render().any()


def test_a_loaded_model_can_be_the_checkpoint(checkpoints, make):
    model = cola_env.load_model(checkpoints["direct"], "cpu")
    env = ColaWorldEnv("push_red", checkpoint=model, device="cpu", reward="mse")
    twin = make(reward="mse")
    move = np.zeros(5, np.float32)
    frames = [made.reset(seed=0) and made.step(move)[0] for made in (env, twin)]
    np.testing.assert_array_equal(*frames)


def test_bad_arguments(checkpoints):
    def made(**kwargs):
        return ColaWorldEnv(**({"checkpoint": checkpoints["latent"], "device": "cpu"} | kwargs))

    for kwargs, sentence in (
        ({"task": "push_purple"}, "Unknown task 'push_purple'.*push_red"),
        ({"action_mode": "direct"}, "no action_mode 'direct'.*'real' and 'latent'"),
        ({"checkpoint": checkpoints["direct"], "action_mode": "real"}, "it offers 'direct'"),
        ({"task": "stack"}, "no success classifier for task 'stack'"),
        ({"reward": "beauty"}, "Unknown reward"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
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


def test_bad_options(make, image):
    env = make()
    env.reset(seed=0)
    snapshot = env.snapshot()
    for options, sentence in (
        ({"gaol": image(0)}, "no option 'gaol'"),
        ({"frame": image(0)[:32]}, r"options\['frame'\] must be uint8"),
        ({"frame": image(0) / 255}, "not float64"),
        ({"goal": np.stack([image(0)] * 2)}, r"options\['goal'\]"),
        ({"frame": np.stack([image(0)] * 3)}, r"options\['actions'\] of shape \(2, 5\)"),
        ({"state": snapshot, "frame": image(0)}, "not both"),
        ({"state": {"a": 1}}, "snapshot"),
    ):
        with pytest.raises(ColaWorldError, match=sentence):
            env.reset(seed=0, options=options)
