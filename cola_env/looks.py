"""Images drawn with another rendering profile than the one that is expected, told by their looks.

In each world camera, robot and furniture stand where they are, so that at least half of the pixels
of any two frames of one profile are the same: their median difference was 0 of 255 grey levels in
743 "fast" frames of all tasks of RoboDesk and LIBERO, and 26 to 44 between RoboDesk's "fast" and
"vp2" frames. An image is only a guess, so this warns where a file or a model that names its profile
is refused.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

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
