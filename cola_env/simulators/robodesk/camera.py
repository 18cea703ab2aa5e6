"""How RoboDesk is drawn: the camera of VP2."""

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cola_env.simulators.rendering import (
    RenderingProfile,
    check_drawing_process,
    import_dm_control,
    needs_opengl,
)


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
