"""The page is believed nothing: what is not exactly a message is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_train.play.controls import Controls
from cola_train.play.messages import LONGEST, Act, Back, Choose, Codes, Reset, parse

GOOD = {
    '{"do": "act", "keys": ["a", "w"], "size": 1}': Act(("a", "w"), 1.0),
    '{"do": "codes", "codes": [3, 31]}': Codes((3, 31)),
    '{"do": "back"}': Back(),
    '{"do": "reset", "pair": 4}': Reset(4),
    '{"do": "choose", "task": "push_red", "checkpoint": 1}': Choose("push_red", 1),
}
BAD = [
    "",
    "null",
    "[1]",
    "{",
    '{"do": 3}',
    '{"do": "eval"}',
    '{"do": "act"}',
    '{"do": "back", "path": "/etc/passwd"}',
    '{"do": "act", "keys": "aw", "size": 1}',
    '{"do": "act", "keys": [1], "size": 1}',
    '{"do": "act", "keys": [], "size": 0}',
    '{"do": "act", "keys": [], "size": 1.5}',
    '{"do": "act", "keys": [], "size": NaN}',
    '{"do": "act", "keys": [], "size": true}',
    '{"do": "act", "keys": ["a", "a", "a"], "size": "1"}',
    '{"do": "codes", "codes": [1.5]}',
    '{"do": "codes", "codes": [true]}',
    '{"do": "reset", "pair": 1e9}',
    '{"do": "reset", "pair": 99999999999999999999}',
    '{"do": "twin", "on": 1}',
    json.dumps({"do": "codes", "codes": [1] * 33}),
    json.dumps({"do": "choose", "task": "x" * LONGEST, "checkpoint": 0}),
    "[" * 2000,
]


@pytest.mark.parametrize("text", GOOD)
def test_messages_are_read(text: str) -> None:
    assert parse(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_everything_else_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ColaWorldError):
        parse(text)


def test_keys_move_the_hand_and_the_gripper_keeps_its_command() -> None:
    controls = Controls(("x", "y", "z", "wrist", "gripper"))
    np.testing.assert_allclose(controls.action(("a", "w"), 0.5), [-0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(controls.action(("v",), 0.5), [0, 0, 0, 0, 1])
    np.testing.assert_allclose(controls.action(("e", "a", "d"), 1), [0, 0, 0, 1, 1])
    controls.release()
    assert not controls.action((), 1).any()
    with pytest.raises(ColaWorldError, match="'y' moves nothing"):
        controls.action(("y",), 1)


def test_components_of_other_names_get_spare_keys() -> None:
    controls = Controls(("throttle", "x", "rudder"))
    assert [(axis.minus, axis.plus) for axis in controls.axes] == [
        ("1", "2"),
        ("a", "d"),
        ("3", "4"),
    ]
