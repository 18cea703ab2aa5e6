"""How the real simulators are drawn: rendering profiles, OpenGL, the headless defaults.

A profile decides the pixels, so a model, its data, its goals and its simulator share one:
`check_same_profile` holds files and models to it, and `warn_if_unlike` warns of images that look
as if another one had drawn them.
"""

import atexit
import importlib
import importlib.util
import os
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def close_at_exit(drawing: Any) -> None:
    """Closes it, if it still lives, before mujoco's own exit handler: after that no context can be
    freed."""
    atexit.register(_close, weakref.ref(drawing))


def _close(drawing: "weakref.ref[Any]") -> None:
    if (alive := drawing()) is not None:
        alive.close()


UNLIKE = 16
"""Grey levels of the median difference; what a model has dreamt or a video has kept is below it."""


def warn_if_unlike(
    images: NDArray[np.uint8], known: NDArray[np.uint8], what: str, rendering: str
) -> None:
    """Warns when one of the images uint8 (..., S, S, 3) does not look like the frame `known`
    (S, S, 3), which was drawn with the profile `rendering`."""
    difference = np.abs(images.astype(np.int16) - known)
    if (np.median(difference, axis=(-3, -2, -1)) > UNLIKE).any():
        warnings.warn(
            f"{what} looks unlike the frames of rendering={rendering!r}, which are expected here: "
            "give an image that was drawn with that profile.",
            stacklevel=3,
        )
