"""Demonstrations in the layout of robomimic and VP2.

data/demo_{i}/obs/{camera}_image    (T, H, W, 3); VP2's RoboDesk: camera_image; also {camera}_rgb
data/demo_{i}/actions               (T, A) or (T - 1, A); the last of T leads to no frame
data/demo_{i}, attribute num_samples
data, attribute env_args            JSON; env_kwargs.control_freq is the frame rate
mask/{train, valid, test}           names of demos

Frame t is before action t. Other contents (states, rewards, goals) are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cola_env.hdf5 import env_args, has, member, names_robodesk
from cola_train.data.demo_layouts import Demo
from cola_train.data.pictures import Pictures

FPS = 10.0
"""Of files that name no control frequency: RoboDesk's under VP2's action repeat of 50."""


@dataclass(frozen=True)
class Robomimic:
    """The demonstrations of a file that has a group ``data``."""

    file: Any

    @cached_property
    def data(self) -> Any:
        return member(self.file, "data")

    @cached_property
    def environment(self) -> dict[str, Any]:
        return env_args(self.data)

    @property
    def fps(self) -> float:
        rate = (self.environment.get("env_kwargs") or {}).get("control_freq")
        if not isinstance(rate, int | float | None):
            raise ValueError(f"its frame rate, control_freq in env_args, is {rate!r}")
        return FPS if rate is None else float(rate)

    @property
    def rendering(self) -> str | None:
        return "vp2" if names_robodesk(self.environment) else None

    @property
    def splits(self) -> dict[str, str]:
        """From the masks; "valid" counts as "test"."""
        splits: dict[str, str] = {}
        if has(self.file, "mask"):
            masks = member(self.file, "mask")
            for mask, split in (("train", "train"), ("valid", "test"), ("test", "test")):
                if has(masks, mask):
                    names = member(masks, mask)
                    if names.dtype.kind not in "OS":
                        raise ValueError(f"{names.name} holds {names.dtype}, not names of demos")
                    splits.update((name.decode(), split) for name in names[:])
        return splits

    def keys(self) -> list[str]:
        """In the order of their numbers."""
        return sorted(self.data, key=_number)

    def demo(self, key: str) -> Demo:
        demo = member(self.data, key)
        observations = member(demo, "obs")
        names = [name for name in sorted(observations) if name.endswith(("image", "rgb"))]
        found = {name: Pictures(member(observations, name)) for name in names}
        length = demo.attrs.get("num_samples")
        return Demo(
            {name: pictures for name, pictures in found.items() if pictures.are_rgb} or found,
            member(demo, "actions") if has(demo, "actions") else None,
            length=None if length is None else int(length),
        )


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0, name)
