"""Which of a data set's cameras is read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection

from cola_env.errors import ColaWorldError


def is_depth(name: str) -> bool:
    """Whether a camera is by its name one of depth maps: "head_depth", but not "depth_cam_rgb"."""
    return "depth" in name.lower() and not re.search("rgb|colou?r", name.lower())


def choose_camera(available: Collection[str], camera: str | None, where: str) -> str:
    """The name among ``available`` that is read: ``camera``, in full or by its last part without
    "_image" or "_rgb" ("top" is observation.images.top, "agentview" is agentview_image).

    None: the first that is not on the hand; of several, a warning says which. Depth maps are no
    cameras. where: the data set, for messages. Raises ColaWorldError when there is no such camera.
    """
    names = [name for name in available if not is_depth(name)]
    if not names:
        maps = f" but depth maps ({', '.join(available)})" if available else ""
        raise ColaWorldError(f"{where} has no camera: it holds no pictures{maps}.")
    if camera is not None:
        found = [name for name in names if name == camera] or [
            name for name in names if _short(name) == camera
        ]
        if len(found) != 1:
            raise ColaWorldError(
                f"{where} has no camera {camera!r}: choose one of {names} by loading.camera."
            )
        return found[0]
    taken = min(names, key=_is_on_the_hand)
    if len(names) > 1:
        warnings.warn(
            f"Of the cameras {names} of {where}, {taken!r} is read: choose another by "
            "loading.camera.",
            stacklevel=2,
        )
    return taken


def _short(name: str) -> str:
    return re.sub("_(image|rgb)$", "", re.split("[./]", name)[-1])


def _is_on_the_hand(name: str) -> bool:
    return re.search("wrist|hand|gripper", name.lower()) is not None
