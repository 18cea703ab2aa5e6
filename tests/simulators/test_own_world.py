"""Worlds of the user's own: any Gymnasium environment behind the interface of the simulators."""

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from cola_env import ColaWorldError, GymnasiumSimulator, register_world
from cola_env.simulators.simulator_env import SimulatorEnv
from cola_env.worlds import WORLDS, WorldInfo, find_world
from tests.own_world import MODULE, write_module

HALF = np.array([0.5, -0.25], np.float32)


class Spot(gymnasium.Env[Any, Any]):
    """A white spot on a wide black picture, moved by at most 4 pixels a step."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}
    action_space = gymnasium.spaces.Box(np.array([0, -2], np.float32), np.array([4, 2], np.float32))
    observation_space = gymnasium.spaces.Box(0, 200, (2,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(20, 30, 2)
        return self.place, {}

    def step(self, action: NDArray[np.float32]) -> Any:
        self.place = self.place + action
        return self.place, float(action.sum()), True, False, {}

    def render(self) -> NDArray[np.uint8]:
        picture = np.zeros((64, 128, 3), np.uint8)
        x, y = self.place.astype(int)
        picture[y - 2 : y + 2, 32 + x - 2 : 32 + x + 2] = 255
        return picture


class SpotWorld(GymnasiumSimulator):
    simulator = "Spot"
    actions = ("x", "y")
    tasks = ("right", "down")

    def make_env(self) -> gymnasium.Env[Any, Any]:
        return Spot()

    def succeeds(self, task: str) -> bool:
        return bool(self.env.place[self.tasks.index(task)] > 35)


class StatefulSpot(SpotWorld):
    def get_state(self) -> NDArray[np.float64]:
        place: NDArray[np.float64] = self.env.place.copy()
        return place

    def set_state(self, state: NDArray[np.float64]) -> None:
        self.env.place = state.copy()


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Worlds that a test registers are gone after it."""
    worlds, ids = dict(WORLDS), dict(gymnasium.registry)
    yield
    for registry, before in ((WORLDS, worlds), (gymnasium.registry, ids)):
        for name in set(registry) - set(before):
            del registry[name]  # type: ignore[arg-type]


@pytest.fixture
def reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> Iterator[WorldInfo]:
    """The world of docs/own_world.md, from a file beside which a command was started."""
    pytest.importorskip("mujoco", reason="Reacher-v5 needs mujoco")
    write_module(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield find_world(f"{MODULE}:reach")
    del sys.modules[MODULE]


def test_actions_are_stretched_to_the_environments_bounds_and_held() -> None:
    env = SpotWorld(action_repeat=3)
    env.reset(seed=3)
    start = env.env.place.copy()
    env.step(np.array([1, 1], np.float32))
    np.testing.assert_allclose(env.env.place - start, [12, 6])
    env.step(np.array([-1, -1], np.float32))
    np.testing.assert_allclose(env.env.place - start, [12, 0])
    env.step(HALF)
    np.testing.assert_allclose(env.env.place - start, [21, -1.5])
    assert env.metadata["render_fps"] == 7


def test_success_and_reward_are_the_tasks_and_the_environments_end_is_not_looked_at() -> None:
    env = SpotWorld(action_repeat=2)
    env.reset(seed=0)
    told = [env.step(np.array([1, 0], np.float32)) for _ in range(4)]
    terminated = [step[2] for step in told]
    first = terminated.index(True)
    assert 0 < first < 3 and all(terminated[first:])
    assert [step[1] for step in told] == [float(i == first) for i in range(4)]
    assert env.successes() == {"right": True, "down": False}

    paid = SpotWorld("down", action_repeat=2, reward="env")
    paid.reset(seed=0)
    assert paid.step(HALF)[1] == pytest.approx(2 * (3 - 0.5))


def test_frames_are_the_middle_square_at_the_asked_size() -> None:
    env = SpotWorld()
    frame, _ = env.reset(seed=1)
    x, y = env.env.place.astype(int)
    wanted = np.zeros((64, 64, 3), np.uint8)
    wanted[y - 2 : y + 2, x - 2 : x + 2] = 255
    np.testing.assert_array_equal(frame, wanted)
    small, _ = SpotWorld(image_size=32).reset(seed=1)
    means = wanted.reshape(32, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small, means, atol=1)


def test_a_state_of_ones_own_makes_snapshots_rollouts_and_copies() -> None:
    env = StatefulSpot(action_repeat=2)
    env.reset(seed=5)
    env.step(HALF)
    saved = env.snapshot()
    ends = [env.step(HALF)[0] for _ in range(2)]
    env.restore(StatefulSpot.to_snapshot(StatefulSpot.to_vector(saved)))
    plans = np.stack([np.stack([HALF, HALF]), np.zeros((2, 2), np.float32)])
    tried = env.rollout(plans).frames.numpy()
    np.testing.assert_array_equal(tried[0], ends)
    assert (tried[1] != tried[0]).any()
    for copied in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        np.testing.assert_array_equal(copied.step(HALF)[0], ends[0])


def test_what_cannot_be_is_told() -> None:
    env = SpotWorld()
    env.reset(seed=0)
    with pytest.raises(ColaWorldError, match="give SpotWorld the methods get_state and set_state"):
        env.snapshot()
    with pytest.raises(ColaWorldError, match="choose one of right, down"):
        SpotWorld("left")
    with pytest.raises(ColaWorldError, match="rendering profile 'fast'.*own"):
        SpotWorld(rendering="fast")
    stateful = StatefulSpot()
    stateful.reset(seed=0)
    for wrong in (np.zeros(5), np.array([0, 0, np.nan, 1])):
        with pytest.raises(ColaWorldError, match="no snapshot of Spot"):
            stateful.restore(StatefulSpot.to_snapshot(wrong))

    class Named(SpotWorld):
        actions = ("x", "y", "z")

    with pytest.raises(ColaWorldError, match="names the 3 actions x, y, z, but .* takes Box"):
        Named()


def test_a_documented_world_is_found_by_its_module_and_known_to_gymnasium(reach: WorldInfo) -> None:
    assert find_world("reach") is reach and reach.action_dim == 2
    twin = gymnasium.make(f"{MODULE}:Reach-v0")
    assert isinstance(twin.unwrapped, SimulatorEnv)
    check_env(twin.unwrapped, skip_render_check=True)
    solved = 0
    for seed in range(8):
        twin.reset(seed=seed)
        for _ in range(15):
            env: Any = twin.unwrapped
            *_, success, _, _ = twin.step(env.script("reach").astype(np.float32))
            solved += success
            if success:
                break
    assert solved >= 6
    state = env.to_vector(env.snapshot())
    after = env.step(HALF)[0]
    env.restore(env.to_snapshot(state))
    np.testing.assert_array_equal(env.step(HALF)[0], after)
    assert len(np.unique(after.reshape(-1, 3), axis=0)) > 20


def test_an_unknown_module_or_a_name_that_is_taken_is_told(forgotten: None) -> None:
    with pytest.raises(ColaWorldError, match="no_such_module.*PYTHONPATH"):
        find_world("no_such_module:reach")
    with pytest.raises(ColaWorldError, match="env=MODULE:NAME"):
        find_world("reach")

    class Reacher(SpotWorld):
        simulator = "Reacher"

    with pytest.raises(ColaWorldError, match="Gymnasium has Reacher-v"):
        register_world(Reacher)

    class Mine(SpotWorld):
        simulator = "RoboDesk"

    with pytest.raises(ColaWorldError, match="There is a world 'robodesk' already"):
        register_world(Mine)


def test_a_world_registered_again_is_the_later_one(forgotten: None) -> None:
    assert register_world(SpotWorld, action_repeat=2).assets == Path("worlds/spot")
    assert register_world(SpotWorld, action_repeat=3, folder="here").assets == Path("here")
    env: Any = gymnasium.make("Spot-v0").unwrapped
    assert env.action_repeat == find_world("spot").action_repeat == 3
