"""The real LIBERO; skipped without its packages or its assets."""

import builtins
import copy
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

import cola_env  # noqa: F401
from cola_env.errors import ColaWorldError
from cola_env.simulators.libero.env import LiberoEnv
from cola_env.simulators.libero.package import find_task

pytestmark = pytest.mark.usefixtures("libero_assets")
STOVE = "libero_goal/turn_on_the_stove"
DRAWER = (
    "libero_spatial/pick_up_the_black_bowl_in_the_top_drawer_of_the_wooden_cabinet"
    "_and_place_it_on_the_plate"
)
REPEAT = 4
STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def make_libero(libero_assets: Path) -> Iterator[Make]:
    made: dict[Any, LiberoEnv] = {}

    def make(task: str = STOVE, name: str = "first", **options: Any) -> LiberoEnv:
        """One environment for each name and options, kept for the module: they are slow to make."""
        key = (task, name, *sorted(options.items()))
        if key not in made:
            made[key] = LiberoEnv(task, **{"rendering": "fast"} | options)
        return made[key]

    yield make
    for env in made.values():
        env.close()


@pytest.fixture
def actions() -> NDArray[np.float32]:
    """Twelve random actions (12, 7)."""
    return np.random.default_rng(7).uniform(-1, 1, (12, 7)).astype(np.float32)


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions that change nothing and take no time, where only steps are counted."""
    monkeypatch.setattr(LiberoEnv, "_simulate", lambda self, action: (0.0, False))


def knob_turned(env: LiberoEnv) -> None:
    """Turns the stove on by hand."""
    env.physics.data.set_joint_qpos("flat_stove_1_button", 1.0)


@pytest.mark.filterwarnings("error::UserWarning:gymnasium")
def test_passes_the_environment_checker() -> None:
    env = gymnasium.make("LIBERO-v0", task=STOVE, rendering="fast", action_repeat=2)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.unwrapped.max_episode_steps == 150
    assert env.unwrapped.metadata["render_fps"] == 10
    env.close()


@pytest.mark.usefixtures("untouched")
def test_a_limit_given_to_gym_make_replaces_the_suites() -> None:
    given = {"task": STOVE, "rendering": "fast", "action_repeat": 100}
    for limit, steps in ((None, 3), (4, 4)):
        env = gymnasium.make("LIBERO-v0", max_episode_steps=limit, **given)
        env.reset(seed=0)
        assert [env.step(STILL)[3] for _ in range(steps)] == [False] * (steps - 1) + [True]
        env.close()
    env = LiberoEnv(**given, max_episode_steps=-1)
    env.reset(seed=0)
    assert not any(env.step(STILL)[3] for _ in range(4))
    env.close()


def test_the_shipped_classifiers_by_name() -> None:
    task = "libero_goal/put_the_bowl_on_the_stove"
    env = gymnasium.make("LIBERO-v0", task=task, rendering="fast", reward="vp2")
    frame, _ = env.reset(seed=0, options={"goal": np.zeros((64, 64, 3), np.uint8)})
    assert np.isfinite(env.step(STILL)[1])
    env.close()
    with pytest.raises(ColaWorldError, match=f"no success classifier for task '{STOVE}'.*{task}"):
        LiberoEnv(STOVE, rendering="fast", reward="vp2")


def test_same_seed_gives_identical_episodes_and_leaves_numpys_global_state(
    make_libero: Make, actions: NDArray[np.float32]
) -> None:
    first, second = make_libero(), make_libero(name="second")
    before = np.random.get_state()[1].copy()
    first.reset(seed=3)
    runs = []
    for env in (first, second):
        frames = [env.reset(seed=11)[0]]
        frames += [env.step(action)[0] for action in actions[:3]]
        states = [LiberoEnv.to_vector(env.snapshot())]
        frames += [env.reset()[0]]
        states += [LiberoEnv.to_vector(env.snapshot())]
        runs.append((np.stack(frames), np.stack(states)))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    frames = runs[0][0]
    assert not np.array_equal(frames[0], frames[-1])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("task", [STOVE, DRAWER])
def test_starts_and_steps_are_those_of_the_package(
    make_libero: Make, task: str, actions: NDArray[np.float32]
) -> None:
    env = make_libero(task, action_repeat=REPEAT)
    from libero.libero.envs.env_wrapper import ControlEnv

    env.reset(seed=1)
    env.reset(seed=2)
    seed = int(np.random.default_rng(2).integers(2**32))
    kept = np.random.get_state()
    np.random.seed(seed)
    package = ControlEnv(
        bddl_file_name=str(find_task(task).bddl_file),
        use_camera_obs=False,
        has_offscreen_renderer=False,
        hard_reset=False,
    )
    np.random.set_state(kept)
    for _ in range(10):
        package.step(STILL.astype(np.float64))
    actions[4:, 2] = -1.0  # down to the table, so that contacts are among what is compared
    for action in actions:
        np.testing.assert_array_equal(env.physics.data.qpos, package.sim.data.qpos)
        np.testing.assert_array_equal(env.physics.data.qvel, package.sim.data.qvel)
        np.testing.assert_array_equal(env.physics.model.body_pos, package.sim.model.body_pos)
        held = env.advance(action)
        for _ in range(REPEAT):
            success = package.step(action.astype(np.float64))[2]
        assert held == success
    package.close()


def test_snapshot_continues_exactly_here_and_in_another_instance(
    make_libero: Make, actions: NDArray[np.float32]
) -> None:
    first, second = make_libero(), make_libero(name="second")
    first.reset(seed=1)
    for action in actions[:5]:
        first.advance(action)
    saved, shown = first.snapshot(), first.render()
    expected = [first.step(action)[0] for action in actions[5:9]]
    end = LiberoEnv.to_vector(first.snapshot())
    second.reset(seed=2)
    second.advance(actions[9])
    for env in (first, second):
        env.restore(LiberoEnv.to_snapshot(LiberoEnv.to_vector(saved)))
        np.testing.assert_array_equal(
            LiberoEnv.to_vector(env.snapshot()), LiberoEnv.to_vector(saved)
        )
        np.testing.assert_array_equal(env.render(), shown)
        np.testing.assert_array_equal([env.step(a)[0] for a in actions[5:9]], expected)
        np.testing.assert_array_equal(LiberoEnv.to_vector(env.snapshot()), end)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.filterwarnings("ignore:The goal image")
def test_a_copy_goes_on_as_the_environment_itself(
    actions: NDArray[np.float32], copied: Callable[[Any], Any]
) -> None:
    env = gymnasium.make("LIBERO-v0", task=STOVE, rendering="fast", reward="mse", action_repeat=3)
    first, _ = env.reset(seed=3, options={"goal": np.zeros((64, 64, 3), np.uint8)})
    env.step(actions[0])
    twin = copied(env)
    assert twin.unwrapped.task == STOVE and twin.unwrapped.max_episode_steps == 100
    np.testing.assert_array_equal(twin.unwrapped.render(), env.unwrapped.render())
    np.testing.assert_array_equal(twin.step(actions[1])[0], (known := env.step(actions[1]))[0])
    assert twin.step(actions[2])[1] == env.step(actions[2])[1] != known[1]
    for one, other in zip(
        *(each.unwrapped.snapshot().values() for each in (env, twin)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(twin.reset()[0], (known := env.reset())[0])
    assert (known[0] != first).any()
    for each in (env, twin):
        each.close()


def test_rollout_equals_stepping_and_changes_nothing(
    make_libero: Make, actions: NDArray[np.float32]
) -> None:
    env, twin = make_libero(reward="sparse"), make_libero(name="second", reward="sparse")
    for each in (env, twin):
        each.reset(seed=5)
        each.advance(actions[0])
    before = LiberoEnv.to_vector(env.snapshot())
    rollout = env.rollout(torch.from_numpy(actions[1:7].reshape(2, 3, 7)))
    np.testing.assert_array_equal(LiberoEnv.to_vector(env.snapshot()), before)
    assert rollout.frames.shape == (2, 3, 64, 64, 3) and rollout.frames.dtype == torch.uint8
    assert rollout.rewards.shape == (2, 3) and rollout.rewards.dtype == torch.float32
    for h, action in enumerate(actions[1:4]):
        frame, reward, *_ = twin.step(action)
        np.testing.assert_array_equal(rollout.frames[0, h], frame)
        assert rollout.rewards[0, h] == np.float32(reward)


def test_action_repeat_holds_an_action(make_libero: Make, actions: NDArray[np.float32]) -> None:
    once, thrice = make_libero(), make_libero(action_repeat=3)
    for env in (once, thrice):
        env.reset(seed=0)
    for _ in range(3):
        once.advance(actions[0])
    thrice.advance(actions[0])
    np.testing.assert_array_equal(once.snapshot()["simulation"], thrice.snapshot()["simulation"])
    assert (once.max_episode_steps, thrice.max_episode_steps) == (300, 100)


def test_the_picture_is_the_right_way_up(make_libero: Make) -> None:
    """What goes up moves up in the picture, and the robot stands at its upper edge."""
    env = make_libero(image_size=128)
    env.reset(seed=0)
    plate = env.physics.model.get_joint_qpos_addr("plate_1_joint0")[0]
    base = env.render().astype(float)
    heights = []
    for lift in (0.1, 0.3):
        env.physics.data.qpos[plate + 2] = 0.9 + lift
        env.physics.forward()
        env._frame = None
        changed = np.abs(env.render() - base).sum(-1) > 60
        brighter = changed & (env.render().astype(float).sum(-1) > 500)
        heights.append(np.nonzero(brighter)[0].mean())
    assert heights[1] < heights[0] - 5
    upper, lower = base[:32, 48:80], base[96:, 48:80]
    assert upper.std() > lower.std()


def test_the_vp2_profile_is_the_look_of_the_package(make_libero: Make) -> None:
    env, fast = make_libero(rendering="vp2"), make_libero()
    picture = env.reset(seed=0)[0]
    assert np.abs(picture.astype(float) - fast.reset(seed=0)[0]).mean() > 1
    assert (env.rendering, fast.rendering) == ("vp2", "fast")
    assert env.physics.model._model.vis.quality.offsamples == 4


def test_starts_of_the_benchmark(make_libero: Make) -> None:
    env = make_libero()
    assert env.num_starts == 50
    shown = [env.reset(seed=0, options={"start": index})[0] for index in (0, 7, 0)]
    np.testing.assert_array_equal(shown[0], shown[2])
    assert not np.array_equal(shown[0], shown[1])
    with pytest.raises(ColaWorldError, match="start 50 for LIBERO"):
        env.reset(options={"start": 50})


def test_success_terminates_pays_once_and_lights_the_burner(make_libero: Make) -> None:
    env = make_libero()
    dark = env.reset(seed=0)[0]
    assert not env.successes()[STOVE]
    knob_turned(env)
    turned = env.snapshot()
    _, info = env.reset(options={"state": turned})
    assert info == {"success": False} and env.successes()[STOVE]
    frame, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert np.abs(frame.astype(float) - dark).max() > 50
    assert env.step(STILL)[1:3] == (0.0, True)
    np.testing.assert_array_equal(env.reset(seed=0)[0], dark)


@pytest.mark.usefixtures("untouched")
def test_episodes_end_at_the_limit(make_libero: Make) -> None:
    env = make_libero(action_repeat=150)
    env.reset(seed=0)
    assert [env.step(STILL)[3] for _ in range(2)] == [False, True]


def test_mistakes_get_a_sentence(make_libero: Make) -> None:
    env = make_libero()
    env.reset(seed=0)
    with pytest.raises(ColaWorldError, match=r"Actions must have shape \(7,\), not \(5,\)"):
        env.step(np.zeros(5, np.float32))
    with pytest.raises(ColaWorldError, match="no snapshot of LIBERO"):
        env.restore({"qpos": np.zeros(3)})
    with pytest.raises(ColaWorldError, match="no snapshot of LIBERO"):
        env.restore(make_libero(DRAWER).reset(seed=0) and make_libero(DRAWER).snapshot())
    with pytest.raises(ColaWorldError, match="reset option 'init'.*state, goal, start"):
        env.reset(options={"init": 0})
    with pytest.raises(ColaWorldError, match="reward 'dense'.*success, sparse, vp2"):
        LiberoEnv(STOVE, reward="dense")
    with pytest.raises(ColaWorldError, match="action_repeat must be .* at least 1, not 0"):
        LiberoEnv(STOVE, action_repeat=0)


@pytest.mark.parametrize("name", ["episode", "controller", "fixtures", "simulation"])
def test_a_snapshot_of_numbers_that_no_episode_has_changes_nothing(
    make_libero: Make, name: str
) -> None:
    env = make_libero()
    env.reset(seed=0)
    before = env.snapshot()
    for value in (np.nan, 1e12):
        wrong = before[name].copy()
        wrong.flat[-1] = value
        with pytest.raises(ColaWorldError, match=f"no snapshot of LIBERO.*{name} holds numbers"):
            env.restore(before | {name: wrong})
    np.testing.assert_array_equal(LiberoEnv.to_vector(env.snapshot()), LiberoEnv.to_vector(before))


def test_a_simulation_that_diverges_is_told_of_and_can_be_restored(make_libero: Make) -> None:
    env = make_libero()
    env.reset(seed=0)
    before = env.snapshot()
    env.physics.data.qvel[0] = 1e9
    thrown = env.snapshot()
    for _ in range(2):
        env.restore(thrown)
        with pytest.raises(ColaWorldError, match="diverged.*reset"):
            env.step(STILL)
    env.restore(before)
    np.testing.assert_array_equal(LiberoEnv.to_vector(env.snapshot()), LiberoEnv.to_vector(before))
    env.step(STILL)


WITHOUT_OPENGL = """
from cola_env.simulators.libero.env import LiberoEnv
try:
    LiberoEnv(rendering="fast").reset(seed=0)
except RuntimeError as error:
    print(error)
"""


def test_no_opengl_names_the_debian_packages() -> None:
    environment = os.environ | {"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"}
    command = [sys.executable, "-c", WITHOUT_OPENGL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    told = "libegl1 libgl1-mesa-dri libgles2.*MUJOCO_GL=egl"
    assert re.search(told, done.stdout), done.stderr


@pytest.mark.parametrize("error", ["RuntimeError", "ValueError", "FatalError", "AttributeError"])
def test_a_failing_context_names_the_debian_packages(
    make_libero: Make, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import mujoco

    kind = getattr(builtins, error, None) or mujoco.FatalError

    def fail(*args: Any, **options: Any) -> None:
        raise kind("Cannot create\nan EGL context.")

    env = make_libero(image_size=32)
    monkeypatch.setattr(mujoco, "Renderer", fail)
    with pytest.raises(RuntimeError, match="libegl1.*MUJOCO_GL=egl.*create an EGL context"):
        env.reset(seed=0)


def test_a_subset_of_the_assets_says_what_is_missing(libero_assets: Path) -> None:
    task = "libero_object/pick_up_the_ketchup_and_place_it_in_the_basket"
    if (libero_assets / "stable_hope_objects" / "ketchup").is_dir():
        pytest.skip("the assets hold libero_object")
    with pytest.raises(ColaWorldError, match="libero_object/pick_up_the_ketchup.*complete copy"):
        LiberoEnv(task)


WITHOUT_CONFIG = """
import os
import cola_env, gymnasium
env = gymnasium.make("LIBERO-v0", rendering="fast")
env.reset(seed=0)
assert "LIBERO_CONFIG_PATH" not in os.environ
env.close()
"""


def test_importing_asks_nothing_and_writes_nothing_into_the_home(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "LIBERO_CONFIG_PATH"}
    environment |= {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT_CONFIG]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Y/N" not in done.stdout
    assert not (tmp_path / ".libero").exists()
