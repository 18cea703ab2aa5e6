"""A dream and its real twin in the same state with the same goal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from cola_env import ColaWorldEnv, ColaWorldError, ColaWorldVectorEnv, load_goals, make_pair

pytest.importorskip("robodesk", reason="the twin needs RoboDesk")

TASK = "open_slide"


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = np.square(one.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Any, Any]]:
    dream, twin = make_pair(TASK)
    yield dream, twin
    twin.close()


def test_both_begin_in_the_pairs_state_with_its_goal(pair: tuple[Any, Any]) -> None:
    dream, twin = pair
    for index in (0, 3):
        known = load_goals("fast").of(TASK)[index]
        dreamt, _ = dream.reset(options={"pair": index})
        real, _ = twin.reset(options={"pair": index})
        np.testing.assert_array_equal(dreamt, known.initial_frame)
        assert psnr(dreamt, real) > 35
        np.testing.assert_array_equal(dream.unwrapped.dream.goals[0], known.goal_frame)
        ends = [twin.step(action)[2] for action in known.expert_actions]
        assert ends == [False] * (len(ends) - 1) + [True]


def test_both_begin_in_the_pairs_of_a_file_of_ones_own(tmp_path: Path) -> None:
    shipped = load_goals("fast")
    known = shipped.of(TASK)[7]
    replace(shipped, pairs=(known,)).save(tmp_path / "mine.npz")
    dream, twin = make_pair(TASK, goals=tmp_path / "mine.npz")
    np.testing.assert_array_equal(dream.reset(options={"pair": 0})[0], known.initial_frame)
    assert psnr(twin.reset(options={"pair": 0})[0], known.initial_frame) > 35
    for env in (dream, twin):
        with pytest.raises(ColaWorldError, match="pair"):
            env.reset(options={"pair": 1})
    twin.close()


def test_they_agree_on_actions_frames_and_length(pair: tuple[Any, Any]) -> None:
    dream, twin = pair
    assert dream.action_space == twin.action_space
    assert dream.observation_space == twin.observation_space
    for env in pair:
        env.reset(options={"pair": 1})
        still = np.zeros(5, np.float32)
        assert [env.step(still)[3] for _ in range(15)] == [False] * 14 + [True]


def test_the_seed_still_draws_the_noise_and_nothing_else() -> None:
    env = ColaWorldEnv(TASK, num_inference_steps=2)
    starts, ends = zip(
        *((env.reset(seed=s, options={"pair": 2})[0], env.step(np.ones(5))[0]) for s in (1, 1, 2)),
        strict=True,
    )
    assert (starts[0] == starts[2]).all() and (ends[0] == ends[1]).all()
    assert (ends[0] != ends[2]).any()


def test_a_vector_of_dreams_takes_a_pair_for_each() -> None:
    env = ColaWorldVectorEnv(3, TASK)
    frames, _ = env.reset(options={"pair": np.array([4, 0, 4])})
    pairs = load_goals("fast").of(TASK)
    for frame, index in zip(frames, (4, 0, 4), strict=True):
        np.testing.assert_array_equal(frame, pairs[index].initial_frame)


@pytest.mark.parametrize("index", [30, -1, 1.0, True, "first"])
def test_an_index_that_there_is_not_is_refused_by_both(pair: tuple[Any, Any], index: Any) -> None:
    for env in pair:
        with pytest.raises(ColaWorldError, match=r"options\['pair'\] must be .* 0 to 29"):
            env.reset(options={"pair": index})


def test_a_pair_and_another_start_contradict_each_other(pair: tuple[Any, Any]) -> None:
    dream, twin = pair
    frame, _ = dream.reset(seed=0)
    with pytest.raises(ColaWorldError, match="not both"):
        dream.reset(options={"pair": 0, "frame": frame})
    twin.reset(seed=0)
    with pytest.raises(ColaWorldError, match="not both"):
        twin.reset(options={"pair": 0, "state": twin.unwrapped.snapshot()})


def test_a_twin_of_another_look_has_no_pairs_and_says_how_to_get_them() -> None:
    env = gymnasium.make("RoboDesk-v0", task=TASK, rendering="vp2")
    with pytest.raises(ColaWorldError, match="make it with 'fast'"):
        env.reset(options={"pair": 0})
    env.close()
