"""Every mistake gets one sentence that says what to do."""

import builtins
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_env.simulators.rendering import import_dm_control
from cola_env.simulators.robodesk.env import RoboDeskEnv

Make = Callable[..., Any]


def test_unknown_task_lists_the_tasks() -> None:
    with pytest.raises(ColaWorldError, match="task 'push_pink'.*open_slide.*lift_flat_block"):
        RoboDeskEnv("push_pink")


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("rendering", "pretty", "rendering profile 'pretty'.*'vp2' or 'fast'"),
        ("reward", "money", "reward 'money'.*success, sparse, dense, vp2"),
        ("render_mode", "human", "render mode 'human'.*rgb_array"),
        ("action_repeat", 0, "action_repeat must be a whole number of at least 1, not 0"),
        ("action_repeat", 2.5, "action_repeat must be a whole number of at least 1, not 2.5"),
        ("image_size", 0, "image_size must be a whole number of at least 1, not 0"),
        ("max_episode_steps", 0, "max_episode_steps must be at least 1, or -1.*not 0"),
        ("max_episode_steps", float("nan"), "max_episode_steps must be at least 1.*not nan"),
        ("max_episode_steps", "15", "max_episode_steps must be at least 1.*not '15'"),
    ],
)
def test_unknown_choices_list_the_known_ones(option: str, value: str, sentence: str) -> None:
    with pytest.raises(ColaWorldError, match=sentence):
        RoboDeskEnv("push_red", **{option: value})


@pytest.mark.parametrize("package", ["robodesk", "dm_control", "mujoco"])
def test_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "cola_env.simulators.robodesk.desk", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'colaworld\[robodesk\]'"):
        RoboDeskEnv("push_red")


WITHOUT_OPENGL = """
from cola_env.simulators.robodesk.camera import DeskCamera
from cola_env.simulators.rendering import import_dm_control
try:
    import_dm_control()
except RuntimeError as error:
    print(error)
"""
DEBIAN_PACKAGES = "libegl1 libgl1-mesa-dri libgles2.*MUJOCO_GL=egl"


def test_no_opengl_names_the_debian_packages() -> None:
    pytest.importorskip("dm_control")
    environment = os.environ | {"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"}
    command = [sys.executable, "-c", WITHOUT_OPENGL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert re.search(DEBIAN_PACKAGES, done.stdout), done.stderr


@pytest.mark.parametrize("error", ["RuntimeError", "ValueError", "FatalError", "AttributeError"])
def test_a_failing_context_names_the_debian_packages(
    make_env: Make, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    pytest.importorskip("robodesk")
    env = make_env(image_size=32)
    kind = getattr(builtins, error, None) or import_module("mujoco").FatalError

    def fail(*args: Any, **options: Any) -> None:
        raise kind("Cannot create\nan EGL context.")

    monkeypatch.setattr(import_dm_control(), "Camera", fail)
    with pytest.raises(RuntimeError, match=f"{DEBIAN_PACKAGES}.*create an EGL context"):
        env.reset()


def test_drawing_in_a_fork_of_a_drawing_process_is_refused(
    make_env: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("robodesk")
    env = make_env(image_size=32)
    drawing, this = 1, 2
    monkeypatch.setattr("cola_env.simulators.rendering._first_drawing_process", drawing)
    monkeypatch.setattr("cola_env.simulators.rendering.os.getpid", lambda: this)
    with pytest.raises(RuntimeError, match="forked.*'spawn'"):
        env.reset()


@pytest.fixture
def env(make_env: Make) -> Any:
    pytest.importorskip("robodesk")
    env = make_env(action_repeat=1)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("shape", [(4,), (1, 5), ()])
def test_wrong_action_shape(env: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ColaWorldError, match=r"Actions must have shape \(5,\), not"):
        env.step(np.zeros(shape, np.float32))


def test_nan_action(env: Any) -> None:
    before = env.snapshot()
    with pytest.raises(ColaWorldError, match="NaN"):
        env.step(np.array([0, np.nan, 0, 0, 0], np.float32))
    for key, value in env.snapshot().items():
        np.testing.assert_array_equal(value, before[key])


def test_wrong_rollout_shape(env: Any) -> None:
    with pytest.raises(ColaWorldError, match=r"\(N, H, 5\), not \(3, 5\)"):
        env.rollout(np.zeros((3, 5), np.float32))


def test_foreign_snapshot(env: Any) -> None:
    flat = env.snapshot() | {"original_positions": np.zeros((3, 2))}
    for state in ({"qpos": np.zeros(3)}, RoboDeskEnv.to_snapshot(np.zeros(40)), flat):
        with pytest.raises(ColaWorldError, match="no snapshot of RoboDesk"):
            env.restore(state)


@pytest.mark.parametrize("name", ["episode", "original_positions", "simulation"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e12])
def test_a_snapshot_of_numbers_that_no_episode_has_changes_nothing(
    env: Any, name: str, value: float
) -> None:
    before = env.snapshot()
    wrong = before[name].copy()
    wrong.flat[-1] = value
    with pytest.raises(ColaWorldError, match=f"no snapshot of RoboDesk.*{name} holds numbers"):
        env.restore(before | {name: wrong})
    for key, kept in env.snapshot().items():
        np.testing.assert_array_equal(kept, before[key])


def test_a_simulation_that_diverges_is_told_of_and_can_be_restored(env: Any) -> None:
    kept = env.snapshot()
    before = env.step(np.zeros(5, np.float32))[0]
    thrown = kept["simulation"].copy()
    thrown[45] = 1e9
    env.restore(kept | {"simulation": thrown})
    with pytest.raises(ColaWorldError, match="diverged.*reset"):
        env.step(np.zeros(5, np.float32))
    env.restore(kept)
    np.testing.assert_array_equal(env.step(np.zeros(5, np.float32))[0], before)


def test_unknown_reset_option(env: Any) -> None:
    with pytest.raises(ColaWorldError, match="reset option 'gaol'.*state, goal"):
        env.reset(options={"gaol": None})


def test_goal_of_another_size(env: Any) -> None:
    with pytest.raises(ColaWorldError, match=r"\(64, 64, 3\).*not uint8 of shape \(32, 32, 3\)"):
        env.reset(options={"goal": np.zeros((32, 32, 3), np.uint8)})


def test_float_goal_out_of_range(env: Any) -> None:
    with pytest.raises(ColaWorldError, match=r"\[0, 1\]"):
        env.reset(options={"goal": np.full((64, 64, 3), 200.0)})


def test_reward_object_without_a_goal(make_env: Make) -> None:
    pytest.importorskip("robodesk")
    env = make_env(reward=lambda frames, goal: goal.mean(), action_repeat=1)
    with pytest.raises(ColaWorldError, match="options={'goal': frame}"):
        env.reset(seed=0)


@pytest.mark.parametrize("other", [{"rendering": "vp2"}, {"rendering": "fast", "image_size": 32}])
def test_rewards_of_a_classifier_of_other_frames(other: dict[str, Any]) -> None:
    for reward in ("vp2", {"mse": 1, "classifier": 1}):
        with pytest.raises(ColaWorldError, match="classifier knows frames.*'fast' and 64 px.*mse"):
            RoboDeskEnv("push_red", reward=reward, **other)


def test_step_before_reset() -> None:
    pytest.importorskip("robodesk")
    env = RoboDeskEnv("push_red", rendering="fast")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(5, np.float32))
    env.close()
