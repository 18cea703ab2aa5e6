"""Whether the frames of a video are shown when a number of frames a second says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError

SLACK = 0.2
"""Share of the time from one frame to the next by which a frame may be early or late."""


@dataclass(frozen=True)
class VideoClock:
    """The frames of a video numbered by the steps of a clock, where lost frames keep their numbers.

    Attributes:
        end: one more than the number of the last frame.
        off: the numbers n of no frame, or of one that is not shown at second n / fps, give or take
            ``SLACK``; where the clock runs faster or slower, all after a while.
    """

    file: str
    end: int
    off: Sequence[int]


def video_clock(path: Path, fps: float) -> VideoClock:
    """From the times in the file, no frame decoded.

    Raises ColaWorldError, naming the file, when it is missing or damaged.
    """
    times = presentation_times(path) * fps
    numbers = np.diff(times, prepend=-1).round().clip(1).cumsum().astype(int) - 1
    end = int(numbers[-1]) + 1
    on_time = numbers[np.abs(times - numbers) <= SLACK]
    return VideoClock(str(path), end, np.setdiff1d(np.arange(end), on_time).tolist())


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
