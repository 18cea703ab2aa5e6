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


MOST_STEPS_A_FRAME = 100
"""A frame may stay on show so long in the mean; beyond that the times are taken for wrong."""
WINDOW = 8
"""Frames over which the time from one to the next is averaged: some recorders write in bursts."""
PAUSES = 0.05
"""Share by which pauses may slow down the mean rate; beyond that they are left out of it."""


def frame_rate(times: NDArray[np.float64], told: float) -> float:
    """How many frames a second come by their times (T,), sorted, pauses left out: ``told`` where it
    differs by less than half a frame over all, or where there are fewer than two moments."""
    steps, seconds = len(times) - 1, float(np.ptp(times))
    if not seconds:
        return told
    window = min(WINDOW, steps)
    usual = float(np.median(times[window:] - times[:-window])) / window
    mean = seconds / steps
    if 0 < usual < (1 - PAUSES) * mean:
        return 1 / usual
    return told if abs(told * seconds - steps) < 0.5 else 1 / mean


def describe_video(path: Path) -> tuple[int, float, int, int]:
    """Frames, fps, height and width of a video, from the times at which its frames are shown.

    The header's frame rate is not believed: screen recorders write that of their clock.
    Frames are counted in steps of 1 / fps from the first to the last, also where one stays on show.
    Raises ColaWorldError, naming the file, when it is missing, damaged or no video.
    """
    times = presentation_times(path)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            told = float(stream.average_rate or stream.guessed_rate or 0)
            height, width = stream.codec_context.height, stream.codec_context.width
        fps = frame_rate(times, told)
        frames = round((times[-1] - times[0]) * fps) + 1
        if not (fps > 0 and height and width):
            raise ValueError("it says nothing of its frames")
        if frames > MOST_STEPS_A_FRAME * len(times):
            raise ValueError(f"its {len(times)} frames are said to take {times[-1]:.0f} seconds")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ColaWorldError(f"The video {path} is damaged ({error}).") from error
    return frames, fps, height, width
