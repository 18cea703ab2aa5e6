"""Demonstrations in the layout of ALOHA and ACT, one a file.

observations/images/{camera}    (T, H, W, 3), or T JPEG images, padded with zeros
action                          (T, A)

Frame t is before action t. The frame rate is not told: 50 a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cola_env.hdf5 import has, member
from cola_train.data.demo_layouts import Demo
from cola_train.data.pictures import Pictures

IMAGES = "observations/images"


@dataclass(frozen=True)
class Aloha:
    file: Any

    fps: ClassVar[float] = 50.0
    rendering: ClassVar[None] = None
    splits: ClassVar[dict[str, str]] = {}

    @staticmethod
    def fits(file: Any) -> bool:
        return has(file, "observations") and has(member(file, "observations"), "images")

    def keys(self) -> list[str]:
        return [""]

    def demo(self, key: str) -> Demo:
        images = member(self.file, IMAGES)
        return Demo(
            {name: Pictures(member(images, name)) for name in sorted(images)},
            member(self.file, "action") if has(self.file, "action") else None,
        )
