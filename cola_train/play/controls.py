"""What the keys mean: the movements of a robot's hand, by the names of its action's components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError

KEYS = {
    "x": ("a", "d", "left", "right"),
    "y": ("s", "w", "back", "forward"),
    "z": ("f", "r", "down", "up"),
    "wrist": ("q", "e", "turn left", "turn right"),
    "yaw": ("q", "e", "turn left", "turn right"),
    "roll": ("u", "o", "roll −", "roll +"),
    "pitch": ("i", "k", "pitch −", "pitch +"),
    "gripper": ("c", "v", "gripper −", "gripper +"),
}
"""Of each component the keys that make it smaller and larger, and what the page calls them."""
SPARE = (("1", "2"), ("3", "4"), ("5", "6"), ("7", "8"), ("9", "0"))
"""Keys of components that have other names, in their order."""
HELD = "gripper"
"""Stays where the last key has brought it, until the other one is pressed."""


@dataclass(frozen=True)
class Axis:
    """One component of an action."""

    name: str
    minus: str
    plus: str
    minus_label: str
    plus_label: str


class Controls:
    """The keys of an action with these components, and the gripper's present command."""

    def __init__(self, names: Sequence[str]) -> None:
        spare = iter(SPARE)
        axes = []
        for name in names:
            if name in KEYS:
                axes.append(Axis(name, *KEYS[name]))
            elif keys := next(spare, None):
                axes.append(Axis(name, *keys, f"{name} −", f"{name} +"))
        self.axes = tuple(axes)
        self._names = tuple(names)
        self.gripper = 0.0

    def release(self) -> None:
        """The gripper as at the start of an episode: half open."""
        self.gripper = 0.0

    def action(self, keys: Sequence[str], size: float) -> NDArray[np.float32]:
        """The action (A,) under the held keys; ColaWorldError for a key without a meaning."""
        known = {key for axis in self.axes for key in (axis.minus, axis.plus)}
        if unknown := sorted(set(keys) - known):
            raise ColaWorldError(f"The key {unknown[0]!r} moves nothing.")
        action = np.zeros(len(self._names), np.float32)
        for axis in self.axes:
            place = self._names.index(axis.name)
            sign = (axis.plus in keys) - (axis.minus in keys)
            if axis.name == HELD:
                self.gripper = float(sign) if sign else self.gripper
                action[place] = self.gripper
            else:
                action[place] = sign * size
        return action
