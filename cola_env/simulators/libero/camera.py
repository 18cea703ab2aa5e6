"""How a LIBERO scene is drawn: the benchmark's camera in front of the robot."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_env.simulators.rendering import (
    RenderingProfile,
    check_drawing_process,
    close_at_exit,
    needs_opengl,
)

CAMERA = "agentview"
COLLISION_GEOMS, VISIBLE_GEOMS = 0, 1
"""Geom groups of robosuite's models."""


class SceneCamera:
    """A camera of a MuJoCo model, the right way up (the package's own images are upside down).

    The OpenGL context is made at the first frame and kept between frames.
    """

    def __init__(self, model: Any, data: Any, profile: RenderingProfile, image_size: int) -> None:
        self._model = model
        self._data = data
        self._profile = profile
        self._image_size = image_size
        self._mujoco = importlib.import_module("mujoco")
        self._renderer: Any = None
        self._look = self._mujoco.MjvOption()
        self._look.geomgroup[COLLISION_GEOMS] = 0
        self._look.geomgroup[VISIBLE_GEOMS] = 1
        model.vis.global_.offwidth = model.vis.global_.offheight = image_size
        model.vis.quality.offsamples = profile.samples

    def frame(self) -> NDArray[np.uint8]:
        """The present state as uint8 RGB (image_size, image_size, 3).

        Raises RuntimeError without OpenGL, and in a fork of a process that has drawn.
        """
        if self._renderer is None:
            self._renderer = self._make_renderer()
        self._renderer.update_scene(self._data, camera=CAMERA, scene_option=self._look)
        flags = self._mujoco.mjtRndFlag
        self._renderer.scene.flags[flags.mjRND_SHADOW] = self._profile.shadows
        self._renderer.scene.flags[flags.mjRND_REFLECTION] = self._profile.reflections
        image: NDArray[np.uint8] = self._renderer.render()
        return image

    def close(self) -> None:
        """Frees the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _make_renderer(self) -> Any:
        check_drawing_process()
        with needs_opengl():
            renderer = self._mujoco.Renderer(self._model, self._image_size, self._image_size)
        close_at_exit(renderer)
        return renderer
