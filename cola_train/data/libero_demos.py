"""LIBERO's own demonstrations: robomimic's layout, with three differences.

- The cameras are obs/agentview_rgb and obs/eye_in_hand_rgb.
- Their images are upside down, unless the attribute macros_image_convention of data says "opencv".
- Observation t was recorded after action t. That is seen in the joints: obs/joint_states[t] are
  those of states[t + 1], where in files that others have recorded anew they are those of states[t].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cola_env.hdf5 import has, member
from cola_train.data.demo_layouts import Demo
from cola_train.data.pictures import Pictures
from cola_train.data.robomimic import Robomimic

CAMERAS = ("agentview_rgb", "eye_in_hand_rgb")
CONVENTION = "macros_image_convention"
FPS = 20.0
JOINTS = slice(1, 8)
"""Of a state: the time, then the joints of the arm, then the rest."""
COMPARED = 64
"""Steps whose joints are compared."""


@dataclass(frozen=True)
class Libero(Robomimic):
    @staticmethod
    def fits(file: Any) -> bool:
        """Whether a file of robomimic's layout is LIBERO's."""
        data = member(file, "data")
        if CONVENTION in data.attrs:
            return True
        first = next(iter(data), None)
        demo = None if first is None else member(data, first)
        return demo is not None and any(has(demo, f"obs/{camera}") for camera in CAMERAS)

    @property
    def fps(self) -> float:
        rate = (self.environment.get("env_kwargs") or {}).get("control_freq")
        return FPS if rate is None else float(rate)

    @property
    def rendering(self) -> str:
        """robosuite draws with shadows, reflections and four samples a pixel."""
        return "vp2"

    def demo(self, key: str) -> Demo:
        demo = super().demo(key)
        flipped = str(self.data.attrs.get(CONVENTION, "opengl")) == "opengl"
        cameras = {name: Pictures(p.data, flipped) for name, p in demo.cameras.items()}
        first = 1 if _is_recorded_after_its_action(member(self.data, key)) else 0
        return replace(demo, cameras=cameras, first_action=first)


def _is_recorded_after_its_action(demo: Any) -> bool:
    observations = member(demo, "obs")
    if not (has(observations, "joint_states") and has(demo, "states")):
        return False
    joints = member(observations, "joint_states")[:COMPARED]
    states = member(demo, "states")[:COMPARED, JOINTS]
    if joints.shape != states.shape or len(joints) < 2:
        return False
    return bool(np.abs(joints[:-1] - states[1:]).max() < np.abs(joints - states).max())
