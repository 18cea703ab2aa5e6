"""Whether the frames of a video are shown when a number of frames a second says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError

SLACK = 0.2
"""Share of the time from one frame to the next by which a frame may be early or late."""


@dataclass(frozen=True)
class VideoClock:
    """The frames of a video, numbered by the steps of a clock; missing frames keep their numbers.

    Attributes:
        end: one more than the number of the last frame.
        on_time: the numbers n of the frames that are shown at second n / fps, give or take
            ``SLACK``; of a clock that runs faster or slower, none after a while.
    """

    end: int
    on_time: Collection[int]


def video_clock(path: Path, fps: float) -> VideoClock:
    """From the times in the file, no frame decoded.

    Raises ColaWorldError, naming the file, when it is missing or damaged.
    """
    return _video_clock(path, path.stat().st_mtime_ns if path.exists() else 0, fps)


@lru_cache(maxsize=1024)
def _video_clock(path: Path, modified: int, fps: float) -> VideoClock:
    times = presentation_times(path) * fps
    steps = np.diff(times, prepend=-1).round().clip(1)
    numbers = steps.cumsum().astype(int) - 1
    end = int(numbers[-1]) + 1
    on_time = np.abs(times - numbers) <= SLACK
    if on_time.all() and end == len(numbers):
        return VideoClock(end, range(end))
    return VideoClock(end, frozenset(numbers[on_time].tolist()))


def presentation_times(path: Path) -> NDArray[np.float64]:
    """The seconds at which the frames of a video are shown, in order; none is decoded.

    Raises ColaWorldError, naming the file, when it is missing or damaged.
    """
    if not path.is_file():
        raise ColaWorldError(f"The video {path} is missing: fetch the dataset again.")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            shown = [
                float(packet.pts * packet.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.time_base and not packet.is_discard
            ]
            if not shown:
                raise ValueError("it holds no frames")
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise ColaWorldError(
            f"The video {path} is damaged ({error}): fetch or make the dataset again."
        ) from error
    return np.sort(np.array(shown, np.float64))
