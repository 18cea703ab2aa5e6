import copy
import multiprocessing
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from cola_env import ColaWorldEnv, ColaWorldError, ColaWorldVectorEnv

pytestmark = pytest.mark.usefixtures("goals")


@pytest.fixture
def make(checkpoints, never):
    def make_env(num_envs=3, folder="direct", **kwargs):
        return ColaWorldVectorEnv(num_envs, checkpoint=checkpoints[folder], device="cpu", **kwargs)

    return make_env


def moves_for(env, count, seed=0):
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(count)]


def assert_nearly_equal_frames(one, other):
    assert np.abs(one.astype(int) - other).max() <= 4  # bfloat16, batched otherwise


@pytest.mark.parametrize("mode", ["real", "latent", "direct"])
def test_make_vec_is_native_and_in_its_spaces(checkpoints, mode):
    folder = checkpoints["direct" if mode == "direct" else "latent"]
    env = gym.make_vec(
        "ColaWorld-RoboDesk-v0", num_envs=4, checkpoint=folder, action_mode=mode, device="cpu"
    )
    assert isinstance(env.unwrapped, ColaWorldVectorEnv) and isinstance(env, VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.unwrapped.max_episode_steps == 15
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    obs, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
    assert obs in env.observation_space
    assert rewards.shape == terminated.shape == truncated.shape == (4,)
    assert terminated.dtype == truncated.dtype == bool
    assert infos["success_probability"].shape == infos["prediction_seconds"].shape == (4,)
    assert infos["_success_probability"].all()
    assert ("latent_codes" in infos) == (mode != "direct")


@pytest.mark.parametrize("folder", ["latent", "direct"])
def test_each_world_is_the_single_environment_of_its_seed(make, checkpoints, folder):
    vector = make(3, folder)
    starts, _ = vector.reset(seed=10)
    moves = moves_for(vector, 6)
    steps = [vector.step(move) for move in moves]
    for row in range(3):
        single = ColaWorldEnv(checkpoint=checkpoints[folder], device="cpu")
        start, _ = single.reset(seed=10 + row)
        np.testing.assert_array_equal(starts[row], start)
        for move, (frames, rewards, *_) in zip(moves, steps, strict=True):
            frame, reward, *_ = single.step(move[row])
            assert_nearly_equal_frames(frames[row], frame)
            assert rewards[row] == pytest.approx(reward, abs=2e-3)


def assert_equal_infos(ours, theirs):
    """With one difference: of what no world knows ours holds zeros, Gymnasium's nothing."""
    for name in ours.keys() - theirs.keys():
        assert not np.any(ours[name])
    for name, value in theirs.items():
        if name == "final_info":
            assert_equal_infos(ours[name], value)
            continue
        assert ours[name].dtype == value.dtype
        if name == "final_obs":
            for frame, other in zip(ours[name], value, strict=True):
                assert (frame is None) == (other is None)
                if frame is not None:
                    assert_nearly_equal_frames(frame, other)
        elif name != "prediction_seconds":
            np.testing.assert_allclose(ours[name], value, atol=2e-3)


@pytest.mark.parametrize(
    "mode, autoreset",
    [
        ("latent", AutoresetMode.NEXT_STEP),
        ("direct", AutoresetMode.SAME_STEP),
        ("direct", AutoresetMode.DISABLED),
    ],
)
def test_autoreset_is_that_of_gymnasiums_own_vector_env(make, checkpoints, mode, autoreset):
    """Worlds that end at different times, against SyncVectorEnv of single environments."""
    limits = (2, 3, 5)
    vector = make(3, mode, action_mode=mode, autoreset_mode=autoreset)
    vector.max_episode_steps = np.array(limits)
    given = {"checkpoint": checkpoints[mode], "action_mode": mode, "device": "cpu"}
    sync = SyncVectorEnv(
        [lambda limit=limit: ColaWorldEnv(max_episode_steps=limit, **given) for limit in limits],
        autoreset_mode=autoreset,
    )
    assert vector.autoreset_mode is vector.metadata["autoreset_mode"] is autoreset
    both = (vector, sync)
    ours, theirs = (env.reset(seed=0) for env in both)
    assert_nearly_equal_frames(ours[0], theirs[0])
    assert_equal_infos(ours[1], theirs[1])
    seen = []
    for move in moves_for(vector, 9):
        ours, theirs = (env.step(move) for env in both)
        assert_nearly_equal_frames(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], atol=2e-3)
        np.testing.assert_array_equal(ours[2], theirs[2])
        np.testing.assert_array_equal(ours[3], theirs[3])
        assert_equal_infos(ours[4], theirs[4])
        seen.append(ours[3])
        if autoreset is AutoresetMode.DISABLED and ours[3].any():
            ours, theirs = (env.reset(options={"reset_mask": ours[3].copy()}) for env in both)
            assert_nearly_equal_frames(ours[0], theirs[0])
            assert_equal_infos(ours[1], theirs[1])
    assert vector.np_random_seed == sync.np_random_seed == (0, 1, 2)
    assert np.sum(seen, axis=0).min() >= 1 and len({tuple(row) for row in np.array(seen).T}) == 3


def test_the_action_of_an_ended_world_is_ignored_even_if_it_is_nan(make):
    env = make(2, max_episode_steps=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 5), np.float32))
    frames, rewards, terminated, truncated, _ = env.step(np.full((2, 5), np.nan, np.float32))
    assert not rewards.any() and not terminated.any() and not truncated.any()
    with pytest.raises(ColaWorldError, match="NaN"):
        env.step(np.full((2, 5), np.nan, np.float32))


def test_masked_worlds_begin_anew_and_the_others_go_on(make, image):
    env = make(3, max_episode_steps=2, autoreset_mode="Disabled", reward="mse")
    still, mask = np.zeros((3, 5), np.float32), np.array([True, False, False])
    with pytest.raises(ColaWorldError, match=r"call reset\(\) first"):
        env.reset(options={"reset_mask": mask})
    env.reset(seed=5)
    env.step(still)
    options = {"reset_mask": mask, "frame": image(1)}
    frames, infos = env.reset(seed=20, options=options)
    assert "reset_mask" in options, "the caller's own dictionary stays as it is"
    np.testing.assert_array_equal(frames[0], image(1))
    assert env.np_random_seed == (20, 6, 7)
    assert env.step(still)[3].tolist() == [False, True, True]
    before = env.snapshot()
    with pytest.raises(ColaWorldError, match=r"worlds \[1, 2\] have ended.*reset_mask"):
        env.step(still)
    assert torch.equal(env.snapshot().frames, before.frames)
    env.reset(options={"reset_mask": ~mask})
    assert env.step(still)[3].tolist() == [True, False, False]
    for wrong in ([True], ~mask & mask, mask.astype(int), None):
        with pytest.raises(ColaWorldError, match=r"options\['reset_mask'\] must be"):
            env.reset(options={"reset_mask": wrong})


def test_worlds_that_end_together_keep_the_options_of_their_own_resets(make, image):
    env = make(2, max_episode_steps=2, autoreset_mode="SameStep", reward="mse")
    still = np.zeros((2, 5), np.float32)
    for row, options in enumerate((image(1), np.stack([image(2)] * 2))):
        frame = {"frame": options if row == 0 else np.stack([options] * 2)}
        if row == 0:
            env.reset(seed=0, options=frame)
        else:
            frame |= {"actions": np.zeros((2, 1, 5)), "reset_mask": np.array([False, True])}
            env.reset(seed=0, options=frame)
    env.step(still)
    frames, _, _, truncated, infos = env.step(still)
    assert truncated.all() and not infos["_prediction_seconds"].any()
    np.testing.assert_array_equal(frames, np.stack([image(1), image(2)]))
    assert (infos["final_obs"][0] != image(1)).any()


@pytest.mark.parametrize("option", ["frame", "state"])
def test_autoreset_keeps_the_options_of_the_last_reset(make, image, option):
    env = make(2, max_episode_steps=1, reward="mse")
    options = {"frame": np.stack([image(1), image(2)]), "goal": image(3)}
    starts, _ = env.reset(seed=0, options=options)
    if option == "state":
        starts, *_ = env.step(np.zeros((2, 5), np.float32))
        env.reset(seed=0, options={"state": env.snapshot()})
    frames, *_ = env.step(np.zeros((2, 5), np.float32))
    assert (frames != starts).any()
    again, *_ = env.step(np.zeros((2, 5), np.float32))
    np.testing.assert_array_equal(again, starts)
    other, *_ = env.step(np.zeros((2, 5), np.float32))
    assert (other != frames).any()


def test_autoreset_knows_nothing_of_what_happened_to_the_options_since(make, image):
    env = make(2, max_episode_steps=1, reward="mse")
    frames, still = np.stack([image(1), image(2)]), np.zeros((2, 5), np.float32)
    starts = frames.copy()
    env.reset(seed=0, options={"frame": frames, "goal": image(3)})
    frames[:] = 0
    for options in ({"frame": frames[:, :32]}, {"frame": frames, "gaol": frames}):
        with pytest.raises(ColaWorldError):
            env.reset(options=options)
    assert env.step(still)[3].all()
    np.testing.assert_array_equal(env.step(still)[0], starts)


def test_a_snapshot_keeps_which_worlds_have_ended(make):
    env, other = make(2, max_episode_steps=1), make(2, max_episode_steps=1)
    still = np.zeros((2, 5), np.float32)
    env.reset(seed=0)
    running = env.snapshot()
    assert env.step(still)[3].all()
    env.restore(running)
    assert env.step(still)[3].all()
    ended = env.snapshot()
    for restored in (env, other):
        restored.restore(ended)
        _, rewards, _, truncated, _ = restored.step(still)
        assert not rewards.any() and not truncated.any()
        _, rewards, _, truncated, _ = restored.step(still)
        assert rewards.all() and truncated.all()
        restored.reset(options={"state": ended})
        assert restored.step(still)[3].all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_as_the_environment_itself(make, copied):
    env = make(2, max_episode_steps=1)
    env.reset(seed=0)
    twin = copied(env)
    for move in moves_for(env, 2):
        np.testing.assert_array_equal(twin.step(move)[0], env.step(move)[0])


def compute_with_many_threads():
    assert torch.rand(1 << 20).sqrt().sum() > 0


def dream_and_compute(checkpoint):
    env = ColaWorldEnv(checkpoint=checkpoint, device="cpu")
    env.reset(seed=0)
    env.step(np.zeros(5, np.float32))
    compute_with_many_threads()


def test_a_dream_in_a_fork_of_a_process_that_has_computed_does_not_hang(checkpoints):
    """As in the workers of an AsyncVectorEnv."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compute_with_many_threads()
        fork = multiprocessing.get_context("fork")
        worker = fork.Process(target=dream_and_compute, args=(checkpoints["direct"],))
        worker.start()
        worker.join(60)
        worker.kill()
        worker.join()
    finally:
        torch.set_num_threads(before)
    assert worker.exitcode == 0


@pytest.mark.parametrize("limit", [None, -1])
def test_no_step_limit(make, limit):
    env = make(1, max_episode_steps=limit)
    env.reset(seed=0)
    assert not any(env.step(np.zeros((1, 5), np.float32))[3] for _ in range(3))


def test_one_batched_prediction_a_step(make, monkeypatch):
    """16 worlds cost as many network evaluations as one: the measure of "under 8 single steps"."""
    calls = []
    for count in (1, 16):
        env = make(count)
        env.reset(seed=0)
        velocity, seen = env.dream.model.velocity, []

        def counted(*args, velocity=velocity, seen=seen, **kwargs):
            seen.append(1)
            return velocity(*args, **kwargs)

        monkeypatch.setattr(env.dream.model, "velocity", counted)
        env.step(env.action_space.sample())
        calls.append(len(seen))
    assert calls[0] == calls[1] > 0


def test_rollout_and_restore(make):
    env = make(2)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    snapshot = env.snapshot()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (2, 3, 4, 5)).astype(np.float32)
    rollout = env.rollout(actions)
    assert rollout.frames.shape == (2, 3, 4, 64, 64, 3) and rollout.rewards.shape == (2, 3, 4)
    for n in range(3):
        env.restore(snapshot)
        for h in range(4):
            frames, rewards, *_ = env.step(actions[:, n, h])
            assert_nearly_equal_frames(rollout.frames[:, n, h].numpy(), frames)
            np.testing.assert_allclose(rollout.rewards[:, n, h], rewards, atol=2e-3)
    with pytest.raises(ColaWorldError, match=r"\(2, N, H, 5\)"):
        env.rollout(torch.zeros(3, 4, 5))


def test_options_for_all_or_for_each(make, image):
    env = make(2, reward="mse")
    frames, goals = (np.stack([image(a), image(b)]) for a, b in ((1, 2), (3, 4)))
    starts, _ = env.reset(seed=0, options={"frame": frames, "goal": goals})
    np.testing.assert_array_equal(starts, frames)
    made, rewards, *_ = env.step(np.zeros((2, 5), np.float32))
    errors = ((made / 255 - goals / 255) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(rewards, -errors, rtol=1e-4)
    starts, _ = env.reset(seed=0, options={"frame": frames[0], "goal": goals[0]})
    np.testing.assert_array_equal(starts[1], frames[0])
    past = frames[:, None].repeat(2, axis=1)
    starts, _ = env.reset(options={"frame": past, "actions": np.zeros((2, 1, 5))})
    np.testing.assert_array_equal(starts, frames)
    with pytest.raises(ColaWorldError, match="each of the 2 worlds"):
        env.reset(options={"frame": np.stack([image(1)] * 3)})
    with pytest.raises(ColaWorldError, match="each of the 2 worlds"):
        env.reset(options={"goal": 3})
    with pytest.raises(ColaWorldError, match=r"options\['goal'\] must be numbers.*NoneType"):
        env.reset(options={"goal": None})
    ragged = [image(1), image(1, 32)]
    with pytest.raises(ColaWorldError, match=r"options\['frame'\] must be numbers.*not list"):
        env.reset(options={"frame": ragged})


def test_bad_arguments(make):
    with pytest.raises(ColaWorldError, match="num_envs"):
        make(0)
    with pytest.raises(ColaWorldError, match="autoreset_mode.*'NextStep', 'SameStep', 'Disabled'"):
        make(1, autoreset_mode="Sometimes")
    for limit in (0, -2):
        with pytest.raises(ColaWorldError, match=f"max_episode_steps.*not {limit}"):
            make(1, max_episode_steps=limit)
    env = make(3)
    with pytest.raises(ColaWorldError, match="one seed or 3"):
        env.reset(seed=[1, 2])
    env.reset(seed=[1, 2, 3])
    with pytest.raises(ColaWorldError, match=r"shape \(3, 5\), not \(2, 5\)"):
        env.step(np.zeros((2, 5), np.float32))


def test_render_gives_a_frame_a_world(make):
    env = make(2, render_mode="rgb_array")
    frames, _ = env.reset(seed=0)
    np.testing.assert_array_equal(np.stack(env.render()), frames)
