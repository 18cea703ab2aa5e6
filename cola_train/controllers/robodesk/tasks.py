"""The scripts: which phases solve which task."""

from collections.abc import Callable

import numpy as np

from cola_train.controllers.robodesk.controller import OPEN, Controller, Phase, Script
from cola_train.controllers.robodesk.drawer import open_drawer
from cola_train.controllers.robodesk.motions import AWAY, RIGHT, along, from_above
from cola_train.controllers.robodesk.scene import Scene, Simulator
from cola_train.controllers.scripts import find_script
from cola_train.controllers.workspace import UP, Vector


def push_button(color: str) -> Script:
    def button(scene: Scene) -> Vector:
        return scene.body(f"{color}_button")

    def pressed(scene: Scene) -> bool:
        return scene.joint(f"{color}_light") < -0.0046

    return Script(
        [
            Phase(from_above(button, 0.12), pressed),
            Phase(lambda s: s.tip + 0.1 * UP, patience=1),
        ],
        pressed,
    )


def open_slide() -> Script:
    """Push the door by its handle, with the fingers between the handle and the door."""

    def handle(scene: Scene) -> Vector:
        return scene.body("slide") - 0.11 * AWAY

    def passed(scene: Scene) -> bool:
        return bool(scene.tip[0] > handle(scene)[0])

    return Script(
        [
            Phase(lambda s: handle(s) - 0.06 * RIGHT - 0.06 * AWAY, tolerance=0.05),
            Phase(lambda s: handle(s) - 0.06 * RIGHT + 0.03 * AWAY, tolerance=0.035),
            Phase(lambda s: handle(s) + 0.1 * RIGHT + 0.03 * AWAY, passed),
            Phase(lambda s: handle(s) + [-0.15, -0.15, 0.05], tolerance=0.05),
        ],
        lambda s: s.joint("slide_joint") > 0.56,
    )


def flat_block_off_table() -> Script:
    def block(scene: Scene) -> Vector:
        return scene.body("flat_block") - 0.03 * UP

    def behind(scene: Scene) -> Vector:
        return block(scene) + 0.07 * AWAY

    return Script(
        [
            Phase(
                from_above(behind, 0.12),
                lambda s: bool(
                    np.linalg.norm((behind(s) - s.tip)[:2]) < 0.025 and s.tip[2] < 0.785
                ),
                level=True,
            ),
            Phase(lambda s: block(s) - 0.1 * AWAY, lambda s: s.tip[1] < block(s)[1], level=True),
            Phase(lambda s: s.tip + 0.1 * UP, patience=1),
        ],
        lambda s: s.body("flat_block")[2] < 0.6,
    )


def upright_block_off_table() -> Script:
    """Grip the block, lift it over the flat one and let it fall in front of the desk."""

    def block(scene: Scene) -> Vector:
        return scene.body("upright_block")

    def grip(scene: Scene) -> Vector:
        return block(scene) + 0.03 * UP + 0.01 * scene.pointing

    def lost(scene: Scene) -> bool:
        return bool(np.linalg.norm(scene.tip - block(scene)) > 0.1)

    def in_front(scene: Scene) -> Vector:
        return np.array([scene.tip[0], 0.45, 1.06])

    def upwards(scene: Scene) -> Vector:
        return scene.tip + 0.1 * UP

    return Script(
        [
            Phase(along(lambda s: -s.heading, grip, 0.1, radius=0.01), gripper=OPEN, level=True),
            Phase(upwards, lost, patience=1),
            Phase(upwards, lambda s: lost(s) or block(s)[2] > 0.885, patience=3),
            Phase(in_front, lambda s: lost(s) or block(s)[1] < 0.54),
            Phase(in_front, lost, gripper=OPEN, patience=2),
        ],
        lambda s: block(s)[2] < 0.6,
    )


_SCRIPTS: dict[str, Callable[[], Script]] = {
    "push_red": lambda: push_button("red"),
    "push_green": lambda: push_button("green"),
    "push_blue": lambda: push_button("blue"),
    "open_slide": open_slide,
    "open_drawer": open_drawer,
    "flat_block_off_table": flat_block_off_table,
    "upright_block_off_table": upright_block_off_table,
}

SCRIPTED_TASKS = tuple(_SCRIPTS)
"""The tasks that `make_controller` knows."""


def make_controller(
    task: str, env: Simulator, rng: np.random.Generator, noise: float = 0.0
) -> Controller:
    """A controller that solves `task` from the present state of `env`.

    Raises:
        ValueError: there is no script for `task`.
    """
    return Controller(env, find_script(_SCRIPTS, task), rng, noise)
