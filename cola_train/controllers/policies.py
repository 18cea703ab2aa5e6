"""What the policies of all worlds share: the space they move in, noise, random motion, play."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

Vector = np.ndarray
"""A position or direction in the world: float64 (3,), metres; z up."""

UP: Vector = np.array([0.0, 0.0, 1.0])


class Policy(Protocol):
    """``intended``: the last action without its noise, float32 (A,) in [-1, 1]."""

    @property
    def intended(self) -> np.ndarray: ...

    def act(self) -> np.ndarray:
        """The action for the simulator's present state, float32 (A,) in [-1, 1]."""
        ...


class Workspace(Protocol):
    """Where a hand is and may go, in metres, and how it is moved.

    low, high: corners of the box in which the fingertips, at `tip`, can be useful.
    reach: the hand's way in a full action, whose first three components are that shift.
    spread: (A,), how much each component of an action varies.
    """

    @property
    def low(self) -> Vector: ...

    @property
    def high(self) -> Vector: ...

    @property
    def reach(self) -> float: ...

    @property
    def spread(self) -> np.ndarray: ...

    @property
    def tip(self) -> Vector: ...


class Simulator(Protocol):
    """An environment as far as a controller needs it."""

    @property
    def physics(self) -> Any: ...

    @property
    def action_repeat(self) -> int: ...


class CorrelatedNoise:
    """A stationary AR(1) process, x' = r x + sqrt(1 - r^2) e, whose variance r does not change.

    Args:
        size: number of independent components.
        scale: standard deviation of each component at every step.
        correlation: r in [0, 1), the correlation of two successive steps.
    """

    def __init__(
        self, size: int, scale: float, rng: np.random.Generator, correlation: float = 0.7
    ) -> None:
        if not 0 <= correlation < 1:
            raise ValueError(f"correlation must be in [0, 1), but it is {correlation}.")
        if scale < 0:
            raise ValueError(f"scale must not be negative, but it is {scale}.")
        self._rng = rng
        self._scale = scale
        self._correlation = correlation
        self._value = rng.standard_normal(size)

    def __call__(self) -> np.ndarray:
        """The next sample, float64 (size,)."""
        value = self._value
        fresh = self._rng.standard_normal(value.shape)
        self._value = self._correlation * value + np.sqrt(1 - self._correlation**2) * fresh
        return self._scale * value


class SmoothRandom:
    """Actions from an AR(1) process, steered back when the fingertips leave the workspace.

    Where nothing steers each component has mean 0, standard deviation `scale` times its spread
    (before the clip to [-1, 1]) and correlation `correlation` between successive steps.

    Args:
        scene: the simulator's; only the fingertips' position is read.
        rng: source of all randomness.
        scale: standard deviation; None draws it from [0.3, 1] once.
        correlation: of two successive actions, in [0, 1).
        steered: False lets the arm run against its limits, as the candidates of a planner do.
    """

    def __init__(
        self,
        scene: Workspace,
        rng: np.random.Generator,
        scale: float | None = None,
        correlation: float = 0.8,
        steered: bool = True,
    ) -> None:
        self.scale = float(rng.uniform(0.3, 1.0)) if scale is None else scale
        self.steered = steered
        self._scene = scene
        self._noise = CorrelatedNoise(len(scene.spread), self.scale, rng, correlation)

    def act(self) -> np.ndarray:
        """The next action: float32 (A,) in [-1, 1]."""
        scene = self._scene
        action = scene.spread * self._noise()
        if self.steered:
            tip = scene.tip
            excess = np.clip(tip, scene.low, scene.high) - tip
            action[:3] = np.where(excess == 0, action[:3], np.sign(excess) * np.abs(action[:3]))
            action[:3] += excess / scene.reach
        self.intended = np.clip(action, -1.0, 1.0).astype(np.float32)
        return self.intended


Script = TypeVar("Script")


class Scripted(Policy, Protocol):
    """A controller that goes through a script; the action after it has ``finished`` begins anew.

    past_pickup: whether a planning problem may begin at its last action, as what is to be placed
    is in the hand.
    remembers: whether what it does depends on more than the present state, so that it cannot tell
    in any state what is to be done there.
    """

    @property
    def past_pickup(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    @property
    def remembers(self) -> bool: ...


def find_script(scripts: dict[str, Callable[[], Script]], task: str) -> Script:
    """The script for ``task``; ValueError, naming those there are, when there is none."""
    if task not in scripts:
        raise ValueError(f"no script for {task!r}; choose one of {', '.join(scripts)}.")
    return scripts[task]()


class PlayPolicy(ABC):
    """One short script after another, each drawn at random from where the last one left off.

    Args:
        env: the simulator; its true state is read at every action.
        rng: source of all randomness.
        noise: standard deviation of the temporally correlated noise on the action.
    """

    def __init__(self, env: Simulator, rng: np.random.Generator, noise: float = 0.1) -> None:
        self._env, self._rng, self._noise = env, rng, noise
        self._controller = self._draw()

    @property
    def intended(self) -> np.ndarray:
        return self._controller.intended

    def act(self) -> np.ndarray:
        """The next action: float32 (A,) in [-1, 1]."""
        if self._controller.finished:
            self._controller = self._draw()
        return self._controller.act()

    @abstractmethod
    def _draw(self) -> Scripted:
        """What to do next, from the present state on."""

    def _direction(self) -> np.ndarray:
        """A horizontal unit vector, (3,)."""
        angle = self._rng.uniform(-np.pi, np.pi)
        return np.array([np.cos(angle), np.sin(angle), 0.0])
