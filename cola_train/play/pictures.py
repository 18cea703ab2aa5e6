"""Frames as the page takes them: PNG in a data URL."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def data_url(frame: NDArray[np.uint8]) -> str:
    """A lossless picture of a uint8 RGB frame (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png", compress_level=1)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()
