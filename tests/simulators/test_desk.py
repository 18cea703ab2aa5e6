"""The faster simulation against the robodesk package's own."""

from typing import Any

import numpy as np
import pytest
from absl import logging
from numpy.typing import NDArray

from cola_env.simulators.rendering import import_dm_control

import_dm_control()

from cola_env.simulators.robodesk.desk import Desk, RoboDesk  # noqa: E402
from cola_env.worlds import ROBODESK_TASKS, VP2_TASKS  # noqa: E402


@pytest.fixture(scope="module")
def package() -> Any:
    """The package's environment, without its slow pixels and its noisy log."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    env = RoboDesk(action_repeat=10, episode_length=None)
    env._get_obs = dict
    yield env
    logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk("open_slide", 10, "dense")


def start_both(package: Any, desk: Desk, task: str, reward: str, seed: int) -> None:
    for env in (package, desk):
        env.task, env.reward = task, reward
    np.random.seed(seed)
    package.reset()
    package.original_pos = {name: pos.copy() for name, pos in package.original_pos.items()}
    np.random.seed(seed)
    desk.new_episode(np.random)


def assert_same_state(package: Any, desk: Desk) -> None:
    for field in ("qpos", "qvel", "ctrl", "qacc", "qfrc_applied", "site_xpos", "time"):
        np.testing.assert_array_equal(
            getattr(package.physics.data, field), getattr(desk.simulation.data, field), field
        )


def test_tasks_are_those_of_the_package(package: Any) -> None:
    assert list(ROBODESK_TASKS) == package.all_tasks
    assert len(VP2_TASKS) == 7 and set(VP2_TASKS) < set(ROBODESK_TASKS)


@pytest.mark.parametrize(
    ("task", "reward"),
    [("open_slide", "dense"), ("flat_block_off_table", "sparse"), ("push_green", "success")],
)
def test_states_and_rewards_equal_the_package_bit_for_bit(
    package: Any, desk: Desk, actions: NDArray[np.float32], task: str, reward: str
) -> None:
    start_both(package, desk, task, reward, seed=3)
    assert_same_state(package, desk)
    for action in actions:
        _, expected, _, _ = package.step(action)
        total, _ = desk.advance(action)
        assert_same_state(package, desk)
        assert total == expected


def test_unreachable_targets_equal_the_package_and_are_not_logged(
    package: Any, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    start_both(package, desk, "stack", "dense", seed=0)
    stretch = np.array([1, 1, 1, 0, 0], dtype=np.float32)
    for _ in range(12):
        package.step(stretch)
    caplog.clear()
    for _ in range(12):
        desk.advance(stretch)
    assert_same_state(package, desk)
    assert not caplog.records


def test_pushing_one_block_needs_the_others_in_place(desk: Desk) -> None:
    desk.new_episode(np.random.default_rng(0))
    qpos = desk.simulation.named.data.qpos
    qpos["flat_block"][2] = 0.3
    desk.simulation.forward()
    assert desk.succeeds("flat_block_off_table")
    qpos["ball"][0] += 0.05
    desk.simulation.forward()
    assert not desk.succeeds("flat_block_off_table")


def test_state_round_trip_keeps_the_next_steps(desk: Desk, actions: NDArray[np.float32]) -> None:
    desk.task, desk.reward = "push_red", "dense"
    desk.new_episode(np.random.default_rng(1))
    for action in actions[:4]:
        desk.advance(action)
    saved = desk.get_state()
    first = [desk.advance(action)[0] for action in actions[4:8]]
    end = desk.get_state()
    desk.set_state(saved)
    assert [desk.advance(action)[0] for action in actions[4:8]] == first
    np.testing.assert_array_equal(desk.get_state(), end)
