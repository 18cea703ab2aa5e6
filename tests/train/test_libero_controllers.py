from pathlib import Path

import numpy as np
import pytest

from cola_train.controllers.libero import SCRIPTED_TASKS, Phase, make_controller
from cola_train.controllers.libero.controller import DOWN, rotation_vector, turned
from cola_train.controllers.libero.evaluate import score


class StillScene:
    """A hand at the origin that points down."""

    tip = np.zeros(3)
    hand = DOWN


def test_a_rotation_vector_is_axis_times_angle() -> None:
    for angle in (-3.0, -0.5, 0.0, 1e-6, 2.0):
        turn = rotation_vector(turned(angle) @ DOWN.T)
        np.testing.assert_allclose(turn, [0, 0, angle], atol=1e-9)


def test_a_phase_moves_straight_to_its_target_and_turns_the_hand() -> None:
    scene = StillScene()
    far = Phase(lambda s: np.array([0.4, -0.2, 0.0]), angle=lambda s: 0.1)
    np.testing.assert_allclose(far.action(scene), [1.0, -0.5, 0, 0, 0, 0.2, -1], atol=1e-9)
    assert not far.is_done(scene, 0) and far.is_done(scene, far.patience)
    near = Phase(lambda s: np.array([0.005, 0.0, 0.0]))
    assert near.action(scene)[0] == pytest.approx(0.2) and near.is_done(scene, 0)
    assert not Phase(near.target, steps=3).is_done(scene, 2)


def test_unknown_task_lists_the_scripts() -> None:
    with pytest.raises(ValueError, match="no script for 'libero_goal/fly'.*put_the_bowl"):
        make_controller("libero_goal/fly", None, np.random.default_rng(0))


@pytest.mark.usefixtures("libero_assets")
def test_a_script_solves_its_task(libero_assets: Path) -> None:
    task = "libero_goal/put_the_bowl_on_the_plate"
    assert task in SCRIPTED_TASKS
    result = score(task, range(1000, 1002))
    assert result.success_rate == 1 and result.median_steps < 150
