"""How demonstrations lie in an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cola_train.data.pictures import Pictures


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes:
        cameras: the frames by the name of the camera.
        actions: HDF5 data set (T, A) or (T - 1, A) of T frames; None: there are none.
        first_action: number of the action that follows frame 0.
        length: how many frames or actions the file says there are; None: it does not say.
    """

    cameras: Mapping[str, Pictures]
    actions: Any | None
    first_action: int = 0
    length: int | None = None


class Layout(Protocol):
    """The demonstrations of an open file."""

    @property
    def fps(self) -> float: ...

    @property
    def rendering(self) -> str | None:
        """Profile of simulated frames, see ``cola_env.simulators.rendering``."""
        ...

    @property
    def splits(self) -> Mapping[str, str]:
        """ "train" or "test" by the key of a demo, where the file says so."""
        ...

    def keys(self) -> Sequence[str]: ...

    def demo(self, key: str) -> Demo: ...
