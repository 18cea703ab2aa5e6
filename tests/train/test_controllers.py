"""The scripts solve their tasks in the simulator; the random policies move as they promise."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_env.goals.loading import load_goals
from cola_env.worlds import ROBODESK
from cola_train.clone import script_actions
from cola_train.controllers.planned import Planned
from cola_train.controllers.policies import CorrelatedNoise, SmoothRandom
from cola_train.controllers.robodesk_arm import WORKSPACE_HIGH, WORKSPACE_LOW, Controller, Scene
from cola_train.controllers.robodesk_scripts import SCRIPTED_TASKS, Play, make_controller
from cola_train.data.lerobot import RecordedEpisode

pytest.importorskip("robodesk")
from cola_env.simulators.robodesk.env import RoboDeskEnv  # noqa: E402


@pytest.fixture(scope="module")
def env() -> Iterator[RoboDeskEnv]:
    simulator = RoboDeskEnv(rendering="fast")
    yield simulator
    simulator.close()


def solves(env: RoboDeskEnv, task: str, seed: int, noise: float = 0.0) -> bool:
    env.reset(seed=seed)
    controller = make_controller(task, env, np.random.default_rng(seed), noise)
    for _ in range(35):
        env.advance(controller.act())
        if env.successes()[task]:
            return True
    return False


@pytest.mark.parametrize("task", SCRIPTED_TASKS)
def test_script_solves_its_task(env: RoboDeskEnv, task: str) -> None:
    assert solves(env, task, seed=101)
    assert solves(env, task, seed=102)


@pytest.mark.parametrize("task", ["flat_block_off_table", "upright_block_off_table", "open_drawer"])
def test_script_remembers_nothing(env: RoboDeskEnv, task: str) -> None:
    env.reset(seed=106)
    old = make_controller(task, env, np.random.default_rng(0), noise=0.2)
    for _ in range(12):
        action = old.act()
        fresh = make_controller(task, env, np.random.default_rng(0))
        fresh.act()
        np.testing.assert_array_equal(old.intended, fresh.intended)
        env.advance(action)


def test_scripts_teach_in_any_recorded_state(
    env: RoboDeskEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cola clone teacher=script`, in states to which something else has led."""
    env.reset(seed=107)
    rng, wanted, states = np.random.default_rng(0), [], [env.to_vector(env.snapshot())]
    for _ in range(3):
        script = make_controller("open_slide", env, rng)
        script.act()
        wanted.append(script.intended)
        env.advance(rng.uniform(-1, 1, 5).astype(np.float32))
        states.append(env.to_vector(env.snapshot()))
    info = {"robot_type": "robodesk", "rendering": "fast", "action_repeat": 50}
    tell = script_actions(SimpleNamespace(info=info, path="data"))
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    episode = RecordedEpisode(
        frames, None, None, None, None, states=np.stack(states), task="open_slide"
    )
    np.testing.assert_allclose(tell(episode).numpy(), np.stack(wanted), atol=1e-4)
    with pytest.raises(ColaWorldError, match="has no states, which teacher=script needs"):
        tell(replace(episode, states=None))
    with pytest.raises(ColaWorldError, match="no script for stack.*among push_red"):
        tell(replace(episode, task="stack"))
    monkeypatch.setattr(Controller, "remembers", True)
    with pytest.raises(ColaWorldError, match="open_slide remembers .* leave out teacher=script"):
        tell(episode)


def test_script_bears_noise(env: RoboDeskEnv) -> None:
    assert solves(env, "push_blue", seed=103, noise=0.3)


def test_script_rests_after_success(env: RoboDeskEnv) -> None:
    env.reset(seed=104)
    controller = make_controller("push_green", env, np.random.default_rng(0))
    for _ in range(20):
        env.advance(controller.act())
    assert not env.successes()["push_green"]
    assert np.abs(controller.act()[:4]).max() < 0.2


def actions_of(env: RoboDeskEnv, policy: str, noise: float, seed: int) -> np.ndarray:
    env.reset(seed=105)
    rng = np.random.default_rng(seed)
    acting: Controller | Play | SmoothRandom
    if policy == "script":
        acting = make_controller("flat_block_off_table", env, rng, noise)
    else:
        acting = (
            Play(env, rng, noise) if policy == "play" else SmoothRandom(Scene(env), rng, scale=1.0)
        )
    actions: list[np.ndarray] = []
    for _ in range(8):
        actions.append(acting.act())
        env.advance(actions[-1])
    return np.stack(actions)


@pytest.mark.parametrize("policy", ["script", "play", "random"])
def test_actions_are_bounded_and_repeatable(env: RoboDeskEnv, policy: str) -> None:
    actions = actions_of(env, policy, noise=0.5, seed=1)
    assert actions.shape == (8, 5) and actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, actions_of(env, policy, noise=0.5, seed=1))
    assert not np.array_equal(actions, actions_of(env, policy, noise=0.5, seed=2))


def test_a_planner_in_a_dream_is_bounded_and_repeatable(env: RoboDeskEnv) -> None:
    def plan(seed: int) -> np.ndarray:
        env.reset(seed=1)
        return Planned(env, ROBODESK, "direct", np.random.default_rng(seed)).act()

    action = plan(0)
    assert action.shape == (5,) and action.dtype == np.float32 and np.abs(action).max() <= 1
    np.testing.assert_array_equal(action, plan(0))
    assert not np.array_equal(action, plan(1))


def test_a_planner_in_a_dream_aims_at_the_goals_that_it_is_given(
    env: RoboDeskEnv, tmp_path: Path
) -> None:
    shipped = load_goals()
    slide = shipped.of("open_slide")[0]

    def plan(goal: np.ndarray, name: str) -> np.ndarray:
        file = tmp_path / name
        replace(shipped, pairs=(replace(slide, goal_frame=goal),)).save(file)
        env.reset(seed=1)
        rng = np.random.default_rng(0)
        return Planned(env, ROBODESK, "direct", rng, ("open_slide",), str(file)).act()

    action = plan(slide.goal_frame, "slide.npz")
    np.testing.assert_array_equal(action, plan(slide.goal_frame, "same.npz"))
    assert not np.array_equal(action, plan(slide.initial_frame, "still.npz"))


def test_script_without_noise_does_not_depend_on_the_generator(env: RoboDeskEnv) -> None:
    np.testing.assert_array_equal(
        actions_of(env, "script", 0.0, seed=1), actions_of(env, "script", 0.0, seed=2)
    )


def test_noise_has_its_scale_and_correlation_from_the_first_step() -> None:
    noise = CorrelatedNoise(20_000, 0.4, np.random.default_rng(0), correlation=0.8)
    samples = np.stack([noise() for _ in range(4)])
    np.testing.assert_allclose(samples.std(axis=1), 0.4, rtol=0.03)
    correlations = [np.corrcoef(samples[0], later)[0, 1] for later in samples[1:]]
    np.testing.assert_allclose(correlations, [0.8, 0.64, 0.512], atol=0.03)


@pytest.mark.parametrize(("scale", "correlation"), [(-0.1, 0.5), (0.1, 1.0), (0.1, -0.1)])
def test_noise_refuses_what_it_cannot_do(scale: float, correlation: float) -> None:
    with pytest.raises(ValueError, match="but it is"):
        CorrelatedNoise(5, scale, np.random.default_rng(0), correlation)


def test_smooth_random_stays_in_the_workspace(env: RoboDeskEnv) -> None:
    env.reset(seed=106)
    scene, policy = Scene(env), SmoothRandom(Scene(env), np.random.default_rng(3), scale=1.0)
    tips = []
    for _ in range(60):
        env.advance(policy.act())
        tips.append(scene.tip)
    outside = np.abs(np.clip(tips, WORKSPACE_LOW, WORKSPACE_HIGH) - tips).max(axis=1)
    assert outside.max() < 0.2
    assert np.mean(outside < 0.08) > 0.8
    assert np.ptp(tips, axis=0).min() > 0.15


def test_unsteered_motion_is_the_noise_itself_wherever_the_arm_goes(env: RoboDeskEnv) -> None:
    env.reset(seed=106)
    free = SmoothRandom(Scene(env), np.random.default_rng(3), scale=1.0, steered=False)
    noise = CorrelatedNoise(5, 1.0, np.random.default_rng(3), correlation=0.8)
    scene, steps = Scene(env), 30
    outside = []
    for _ in range(steps):
        action = free.act()
        np.testing.assert_array_equal(action, noise().clip(-1, 1).astype(np.float32))
        env.advance(action)
        outside.append(np.any(scene.tip != scene.tip.clip(WORKSPACE_LOW, WORKSPACE_HIGH)))
    assert np.mean(outside) > 0.2


def test_unknown_task_names_the_known_ones(env: RoboDeskEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="push_red"):
        make_controller("fold_the_towel", env, np.random.default_rng(0))
