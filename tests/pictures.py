"""Reading back the pictures and videos that a test wrote."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def line_colours(path: Path) -> set[tuple[int, ...]]:
    """The colours, grays aside, that at least 20 pixels of a plot have."""
    pixels = read_picture(path).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    vivid = np.ptp(colours.astype(int), axis=1) > 60
    return {tuple(map(int, colour)) for colour in colours[vivid & (counts >= 20)]}


def read_video(path: Path) -> NDArray[np.uint8]:
    """(T, H, W, 3)."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
