import numpy as np
import pytest

from cola_env.simulators.loading import make_simulator
from cola_env.worlds import LIBERO
from cola_train.controllers import libero_scripts
from cola_train.controllers.__main__ import score
from cola_train.controllers.libero_arm import DOWN, SPEED, Scene, Waypoint, rotation_vector, turned
from cola_train.controllers.libero_scripts import SCRIPTED_TASKS, Play, make_controller
from cola_train.controllers.policies import SmoothRandom


class StillScene:
    """A hand at the origin that points down; an action is held for some control steps."""

    tip = np.zeros(3)
    hand = DOWN

    def __init__(self, action_repeat: int = 1) -> None:
        self.action_repeat = action_repeat
        self.reach = SPEED * action_repeat


def test_a_rotation_vector_is_axis_times_angle() -> None:
    for angle in (-3.0, -0.5, 0.0, 1e-6, 2.0):
        turn = rotation_vector(turned(angle) @ DOWN.T)
        np.testing.assert_allclose(turn, [0, 0, angle], atol=1e-9)


def test_a_waypoint_moves_straight_to_its_target_and_turns_the_hand() -> None:
    scene = StillScene()
    far = Waypoint(lambda s: np.array([0.4, -0.2, 0.0]), angle=lambda s: 0.1)
    np.testing.assert_allclose(far.action(scene), [1.0, -0.5, 0, 0, 0, 0.2, -1], atol=1e-9)
    assert not far.is_done(scene, 0) and far.is_done(scene, far.patience)
    near = Waypoint(lambda s: np.array([0.005, 0.0, 0.0]))
    assert near.action(scene)[0] == pytest.approx(0.2) and near.is_done(scene, 0)
    assert not Waypoint(near.target, steps=3).is_done(scene, 2)


def test_a_held_action_goes_as_far_as_one_that_is_asked_for_anew() -> None:
    held = StillScene(action_repeat=10)
    waypoint = Waypoint(lambda s: np.array([0.065, 0.0, 0.0]))
    assert waypoint.action(held)[0] == pytest.approx(0.5)
    assert waypoint.is_done(held, 6) and not waypoint.is_done(held, 5)
    closing = Waypoint(lambda s: s.tip, steps=14)
    assert closing.is_done(held, 1) and not closing.is_done(held, 0)


def test_unknown_task_lists_the_scripts() -> None:
    with pytest.raises(ValueError, match="no script for 'libero_goal/fly'.*put_the_bowl"):
        make_controller("libero_goal/fly", None, np.random.default_rng(0))


@pytest.mark.usefixtures("libero_assets")
def test_a_script_solves_its_task() -> None:
    task = "libero_goal/put_the_bowl_on_the_plate"
    assert task in SCRIPTED_TASKS
    for repeat, seeds in ((1, (1000, 1001)), (10, (1000,))):
        env = make_simulator(LIBERO, task, rendering="fast", action_repeat=repeat)
        steps = score(env, libero_scripts, seeds, noise=0.0, limit=150 // repeat)
        env.close()
        assert len(steps) == len(seeds) and None not in steps


@pytest.mark.usefixtures("libero_assets")
def test_free_policies_keep_the_hand_about_the_table() -> None:
    env = make_simulator(
        LIBERO, LIBERO.tasks[0], rendering="fast", action_repeat=LIBERO.action_repeat
    )
    for number, steered in enumerate((True, False, None)):
        env.reset(seed=number)
        rng, scene = np.random.default_rng(number), Scene(env)
        policy = Play(env, rng) if steered is None else SmoothRandom(scene, rng, steered=steered)
        actions = []
        for _ in range(6):
            actions.append(policy.act())
            env.advance(actions[-1])
        assert actions[0].shape == (7,) and np.abs(actions).max() <= 1
        assert np.std(actions, axis=0)[:3].min() > 0.01
        if steered is not False:
            assert (scene.tip > scene.low - 0.1).all() and (scene.tip < scene.high + 0.15).all()
    env.close()
