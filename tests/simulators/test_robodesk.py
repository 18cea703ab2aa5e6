import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo
from numpy.typing import NDArray

import cola_env  # noqa: F401
from cola_env.simulators.robodesk.env import RoboDeskEnv
from cola_env.worlds import ROBODESK_TASKS
from tests.env.dream_cases import elsewhere
from tests.pictures import read_video

Make = Callable[..., Any]


@pytest.mark.filterwarnings("error")
def test_passes_the_environment_checker() -> None:
    env = gymnasium.make("RoboDesk-v0", task="open_drawer", rendering="fast", action_repeat=5)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_gym_make_limits_the_episode_and_records_a_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gymnasium.make(
        "RoboDesk-v0",
        rendering="fast",
        action_repeat=2,
        render_mode="rgb_array",
        max_episode_steps=3,
    )
    recorded = RecordVideo(env, str(tmp_path / "videos"), disable_logger=True)
    shown = [recorded.reset(seed=0)[0]]
    ends = []
    for _ in range(3):
        frame, _, _, truncated, _ = recorded.step(np.zeros(5, np.float32))
        shown.append(frame)
        ends.append(truncated)
    recorded.close()
    assert ends == [False, False, True]
    (video,) = tmp_path.glob("videos/*.mp4")
    found = read_video(video)
    assert found.shape == (4, 64, 64, 3)
    assert np.abs(found.astype(float) - shown).mean() < 12


def test_same_seed_gives_identical_frames_and_leaves_numpys_global_state(
    make_env: Make, actions: NDArray[np.float32]
) -> None:
    before = np.random.get_state()[1].copy()
    runs = []
    for env in (make_env("first"), make_env("second")):
        frames = [env.reset(seed=11)[0]]
        frames += [env.step(action)[0] for action in actions[:3]]
        frames += [env.reset()[0]]
        runs.append(np.stack(frames))
    np.testing.assert_array_equal(*runs)
    assert not np.array_equal(runs[0][0], runs[0][-1])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_snapshot_continues_exactly_here_and_in_another_instance(
    make_env: Make, actions: NDArray[np.float32]
) -> None:
    first, second = make_env("first"), make_env("second")
    first.reset(seed=1)
    for action in actions[:4]:
        first.advance(action)
    saved = first.snapshot()
    expected = [first.step(action)[0] for action in actions[4:7]]
    end = RoboDeskEnv.to_vector(first.snapshot())
    second.reset(seed=2)
    for env in (first, second):
        env.restore(RoboDeskEnv.to_snapshot(RoboDeskEnv.to_vector(saved)))
        np.testing.assert_array_equal(
            RoboDeskEnv.to_vector(env.snapshot()), RoboDeskEnv.to_vector(saved)
        )
        np.testing.assert_array_equal([env.step(a)[0] for a in actions[4:7]], expected)
        np.testing.assert_array_equal(RoboDeskEnv.to_vector(env.snapshot()), end)


OTHER_PROCESS = """
import sys
import numpy as np
from cola_env.simulators.robodesk.env import RoboDeskEnv
given = np.load(sys.argv[1])
env = RoboDeskEnv("push_red", rendering="fast")
env.restore(RoboDeskEnv.to_snapshot(given["state"]))
frames = [env.step(action)[0] for action in given["actions"]]
np.savez(sys.argv[2], frames=frames, state=RoboDeskEnv.to_vector(env.snapshot()))
"""


def test_snapshot_continues_exactly_in_another_process(
    make_env: Make, actions: NDArray[np.float32], tmp_path: Path
) -> None:
    env = make_env()
    env.reset(seed=4)
    env.advance(actions[0])
    given, result = tmp_path / "given.npz", tmp_path / "result.npz"
    np.savez(given, state=RoboDeskEnv.to_vector(env.snapshot()), actions=actions[1:4])
    frames = [env.step(action)[0] for action in actions[1:4]]
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, given, result], check=True, timeout=120)
    with np.load(result) as other:
        np.testing.assert_array_equal(other["frames"], frames)
        np.testing.assert_array_equal(other["state"], RoboDeskEnv.to_vector(env.snapshot()))


def test_rollout_equals_stepping_and_changes_nothing(
    make_env: Make, actions: NDArray[np.float32]
) -> None:
    env, twin = make_env("first", reward="dense"), make_env("second", reward="dense")
    for each in (env, twin):
        each.reset(seed=5)
        each.advance(actions[0])
    before = RoboDeskEnv.to_vector(env.snapshot())
    rollout = env.rollout(torch.from_numpy(actions[1:7].reshape(2, 3, 5)))
    np.testing.assert_array_equal(RoboDeskEnv.to_vector(env.snapshot()), before)
    assert rollout.frames.shape == (2, 3, 64, 64, 3) and rollout.frames.dtype == torch.uint8
    assert rollout.rewards.shape == (2, 3) and rollout.rewards.dtype == torch.float32
    for h, action in enumerate(actions[1:4]):
        frame, reward, *_ = twin.step(action)
        np.testing.assert_array_equal(rollout.frames[0, h], frame)
        assert rollout.rewards[0, h] == np.float32(reward)
    twin.restore(RoboDeskEnv.to_snapshot(before))
    for each in (env, twin):
        each.advance(actions[7])
    np.testing.assert_array_equal(
        RoboDeskEnv.to_vector(env.snapshot()), RoboDeskEnv.to_vector(twin.snapshot())
    )


def opened_slide(env: Any) -> dict[str, NDArray[np.float64]]:
    """A snapshot in which the slide stands open."""
    env.reset(seed=0)
    env.physics.named.data.qpos["slide_joint"] = 0.58
    env.physics.forward()
    return env.snapshot()


def test_success_terminates_and_pays_once(make_env: Make) -> None:
    env = make_env(task="open_slide", reward="success", action_repeat=1)
    opened = opened_slide(env)
    successes = env.successes()
    assert tuple(successes) == ROBODESK_TASKS
    assert successes["open_slide"] and not successes["open_drawer"]
    _, info = env.reset(options={"state": opened})
    assert info == {"success": False}
    still = np.zeros(5, np.float32)
    _, reward, terminated, truncated, info = env.step(still)
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    _, reward, terminated, _, _ = env.step(still)
    assert (reward, terminated) == (0.0, True)


def test_sparse_reward_pays_every_tick(make_env: Make) -> None:
    env = make_env(task="open_slide", reward="sparse", action_repeat=2)
    env.reset(options={"state": opened_slide(env)})
    assert env.step(np.zeros(5, np.float32))[1] == 2.0


def test_own_step_limit_truncates(make_env: Make) -> None:
    env = make_env(max_episode_steps=2, action_repeat=1)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(np.zeros(5, np.float32))[3] for _ in range(2)] == [False, True]


def goal_distance(frames: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    assert frames.dtype == goal.dtype == torch.float32
    assert 0 <= frames.min() and frames.max() <= 1
    return -(frames - goal).square().mean((-3, -2, -1))


def test_reward_object_compares_the_frame_with_the_goal(
    make_env: Make, actions: NDArray[np.float32]
) -> None:
    env = make_env(reward=goal_distance)
    plain = make_env()
    for each in (env, plain):
        each.restore(plain.snapshot())
    goal = plain.step(actions[0])[0]
    env.reset(seed=0, options={"state": env.snapshot(), "goal": goal})
    rewards = env.rollout(actions[None, :1]).rewards
    assert rewards.shape == (1, 1) and rewards.item() == 0
    assert env.step(-actions[0])[1] < 0
    env.reset(seed=1)
    assert env.step(actions[0])[1] < 0


def test_tensors_that_numpy_cannot_read(make_env: Make, actions: NDArray[np.float32]) -> None:
    env = make_env(reward=goal_distance)
    goal = np.full((64, 64, 3), 99, np.uint8)
    found = []
    for tensor in (np.asarray, elsewhere):
        env.reset(seed=0, options={"goal": tensor(goal)})
        rewards = env.rollout(tensor(actions[None, :1])).rewards
        found.append([rewards.item(), env.step(tensor(actions[0]))[1]])
    assert found[0] == found[1]


def test_gym_makes_limit_is_that_of_the_restored_step() -> None:
    env = gymnasium.make("RoboDesk-v0", rendering="fast", action_repeat=1, image_size=16)
    env.reset(seed=0)
    start = env.unwrapped.snapshot()
    for _ in range(2):
        ends = [env.step(np.zeros(5, np.float32))[3] for _ in range(15)]
        assert ends == [False] * 14 + [True]
        env.unwrapped.restore(start)
    env.close()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_as_the_environment_itself(
    actions: NDArray[np.float32], copied: Callable[[Any], Any]
) -> None:
    env = gymnasium.make(
        "RoboDesk-v0", task="open_slide", rendering="fast", action_repeat=1, reward="mse"
    )
    first, _ = env.reset(seed=3, options={"goal": np.zeros((64, 64, 3), np.uint8)})
    env.step(actions[0])
    twin = copied(env)
    assert twin.spec.max_episode_steps == 15 and twin.unwrapped.task == "open_slide"
    np.testing.assert_array_equal(twin.unwrapped.render(), env.unwrapped.render())
    np.testing.assert_array_equal(twin.step(actions[1])[0], (known := env.step(actions[1]))[0])
    assert twin.step(actions[2])[1] == env.step(actions[2])[1] != known[1]
    np.testing.assert_array_equal(twin.reset()[0], (known := env.reset())[0])
    assert (known[0] != first).any()
    for each in (env, twin):
        each.close()


def test_infos_have_a_dtype_and_vectors_of_them_are_bool_arrays() -> None:
    envs = gymnasium.make_vec("RoboDesk-v0", num_envs=2, rendering="fast", action_repeat=1)
    _, infos = envs.reset(seed=0)
    assert infos["success"].dtype == bool and infos["success"].tolist() == [False, False]
    envs.close()


def test_actions_are_clipped_to_the_action_space(make_env: Make) -> None:
    env = make_env()
    env.reset(seed=0)
    start = env.snapshot()
    ends = []
    for scale in (1, 50):
        env.restore(start)
        env.advance(np.array([scale, 0, -scale, 0, 0], np.float32))
        ends.append(RoboDeskEnv.to_vector(env.snapshot()))
    np.testing.assert_array_equal(*ends)
