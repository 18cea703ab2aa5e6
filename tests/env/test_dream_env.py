import dataclasses
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo

import cola_env
from cola_env import ColaWorldEnv, ColaWorldError, SuccessClassifier
from tests.env.dream_cases import MODES, actions_for, state_of
from tests.pictures import read_video

pytestmark = pytest.mark.usefixtures("goals")


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


def test_episodes_begin_in_the_pairs_of_a_file_of_ones_own(make, goals, image, tmp_path):
    mine = [dataclasses.replace(pair, initial_frame=image(50)) for pair in goals.pairs[:2]]
    file = tmp_path / "mine.npz"
    dataclasses.replace(goals, pairs=tuple(mine)).save(file)
    env = make(reward="mse", goals=file)
    for options in ({}, {"pair": 1}):
        np.testing.assert_array_equal(env.reset(seed=0, options=options)[0], image(50))
    with pytest.raises(ColaWorldError, match="pair"):
        env.reset(options={"pair": 2})
    with pytest.raises(ColaWorldError, match="no goal file"):
        make(goals=tmp_path / "missing.npz")


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
    monkeypatch.setattr(SuccessClassifier, "threshold", threshold)
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


@pytest.mark.parametrize("reward", ["vp2", "classifier", {"mse": 1.0, "vp2": 2.0}, "mse"])
def test_a_step_asks_the_classifier_once(make, monkeypatch, reward):
    env, looks, forward = make(reward=reward), [], SuccessClassifier.forward
    _, before = env.reset(seed=0)

    def looked(self, frames):
        looks.append(frames)
        return forward(self, frames)

    monkeypatch.setattr(SuccessClassifier, "forward", looked)
    *_, info = env.step(np.zeros(5, np.float32))
    assert len(looks) == 1
    assert info["success_probability"] == env.dream.success_probability()[0]
    assert info["success_probability"] != before["success_probability"]


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
    shown = [env.reset(seed=0)[0]]
    shown += [env.step(env.action_space.sample())[0] for _ in range(3)]
    env.close()
    (video,) = tmp_path.glob("videos/*.mp4")
    found = read_video(video)
    assert found.shape == (4, 64, 64, 3)
    assert np.abs(found.mean((1, 2, 3)) - np.mean(shown, (1, 2, 3))).max() < 12


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
