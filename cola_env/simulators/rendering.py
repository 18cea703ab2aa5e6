"""How the real simulators are drawn: rendering profiles, the VP2 camera, the headless defaults.

A profile decides the pixels, so a model, its data, its goals and its simulator share one:
`check_same_profile` holds them to it.
"""

import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cola_env.errors import ColaWorldError, in_short

NO_OPENGL = (
    "The simulator cannot draw because no OpenGL context could be made: on Debian run "
    "'apt-get install libegl1 libgl1-mesa-dri libgles2', set MUJOCO_GL=egl and leave "
    "MUJOCO_EGL_DEVICE_ID unset."
)
NOT_INSTALLED = (
    "The real RoboDesk needs the packages robodesk, mujoco and dm_control: install them with: "
    "pip install 'colaworld[robodesk]'"
)
FORKED = (
    "The simulator cannot draw in a process forked from one that has drawn already: start the "
    "workers with the 'spawn' method, for instance AsyncVectorEnv(..., context='spawn')."
)


@dataclass(frozen=True)
class RenderingProfile:
    """Which passes the renderer spends its time on; `samples` 0 switches multisampling off."""

    name: str
    shadows: bool
    reflections: bool
    samples: int


PROFILES = {
    profile.name: profile
    for profile in (
        RenderingProfile("vp2", shadows=True, reflections=True, samples=4),
        RenderingProfile("fast", shadows=False, reflections=False, samples=0),
    )
}
"""`vp2` is the robodesk package's own look, `fast` draws about 20 times as many frames a second."""


def get_profile(name: str) -> RenderingProfile:
    """The profile called `name`; raises ColaWorldError when there is none."""
    if not isinstance(name, str) or name not in PROFILES:
        known = " or ".join(repr(profile) for profile in PROFILES)
        raise ColaWorldError(f"Unknown rendering profile {name!r}: choose {known}.")
    return PROFILES[name]


def check_same_profile(a: str, b: str, what: str) -> None:
    """Raises ColaWorldError when two profiles differ; `what` says whose they are."""
    if a != b:
        raise ColaWorldError(
            f"Rendering profiles {a!r} and {b!r} cannot be mixed ({what}): "
            "use the same rendering= for both."
        )


def set_headless_defaults() -> None:
    """Chooses EGL where there is no display and one llvmpipe thread; keeps what the user has set.

    Has to run before mujoco is imported.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not has_display:
        os.environ.setdefault("MUJOCO_GL", "egl")


def import_dm_control() -> ModuleType:
    """The module `dm_control.mujoco`, which looks for OpenGL as soon as it is imported.

    Raises ImportError when packages are missing and RuntimeError when OpenGL is.
    """
    set_headless_defaults()
    if not all(importlib.util.find_spec(name) for name in ("mujoco", "dm_control")):
        raise ImportError(NOT_INSTALLED)
    with needs_opengl():
        return importlib.import_module("dm_control.mujoco")


@contextmanager
def needs_opengl() -> Iterator[None]:
    """Turns whatever MuJoCo, GLFW or EGL raise where OpenGL is missing into one sentence.

    Each of their versions and backends has errors of its own: FatalError, ValueError, GLError, ...
    """
    try:
        yield
    except Exception as error:
        why = in_short(error) or type(error).__name__
        raise RuntimeError(f"{NO_OPENGL} ({why})") from error


_first_drawing_process: int | None = None


def check_drawing_process() -> None:
    """Raises RuntimeError in a fork of a process that has drawn.

    Mesa's threads are missing there, and drawing would wait for ever.
    """
    global _first_drawing_process
    _first_drawing_process = _first_drawing_process or os.getpid()
    if _first_drawing_process != os.getpid():
        raise RuntimeError(FORKED)


class DeskCamera:
    """The camera of VP2 (and of the robodesk package) over a RoboDesk physics.

    Draws 120 x 120 pixels (a multiple of it for images above 64), crops
    (16.75, 25, 105, 88.75) / 120 and resizes with Lanczos, as `robodesk.RoboDesk.render` does.
    The OpenGL context is made at the first frame and kept between frames.
    """

    RENDER_SIZE = 120
    CROP = (16.75, 25.0, 105.0, 88.75)

    def __init__(self, physics: Any, profile: RenderingProfile, image_size: int) -> None:
        self._physics = physics
        self._profile = profile
        self._image_size = image_size
        self._scale = math.ceil(image_size / 64)
        self._camera: Any = None
        visual = physics.model.vis
        visual.global_.offwidth = visual.global_.offheight = self.RENDER_SIZE * self._scale
        visual.quality.offsamples = profile.samples

    def frame(self) -> NDArray[np.uint8]:
        """The present state as uint8 RGB (image_size, image_size, 3).

        Raises RuntimeError without OpenGL, and in a fork of a process that has drawn.
        """
        if self._camera is None:
            self._camera = self._make_camera()
        left, upper, right, lower = (round(self._scale * edge) for edge in self.CROP)
        image = Image.fromarray(self._camera.render()).crop((left, upper, right, lower))
        size = (self._image_size, self._image_size)
        return np.array(image.resize(size, resample=Image.Resampling.LANCZOS))

    def _make_camera(self) -> Any:
        check_drawing_process()
        size = self.RENDER_SIZE * self._scale
        dm_control = import_dm_control()
        with needs_opengl():
            camera = dm_control.Camera(self._physics, height=size, width=size)
        view = camera._render_camera
        view.distance, view.azimuth, view.elevation = 1.8, 90, -60
        view.lookat[:] = (0, 0.535, 1.1)
        flags = importlib.import_module("mujoco").mjtRndFlag
        camera.scene.flags[flags.mjRND_SHADOW] = self._profile.shadows
        camera.scene.flags[flags.mjRND_REFLECTION] = self._profile.reflections
        return camera
