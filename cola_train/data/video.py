"""Videos (PyAV): a nearly lossless writer, a frame-exact reader, and folders of them as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cola_env.errors import ColaWorldError
from cola_train.data.episode_source import DamagedFile, DamageReport, Entry, Frames
from cola_train.data.file_index import FileIndex

try:
    import av
    from av.video.frame import PictureType
except ImportError as error:
    raise ImportError(
        "Reading and writing videos needs PyAV; install it with: pip install 'colaworld[train]'"
    ) from error


CODEC, PIXEL_FORMAT = "libx264", "yuv444p"
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""FFmpeg's own threads, which PyAV uses from 17 on, make small frames wait where cores are busy."""


class VideoWriter:
    """One mp4 file to which clips are appended; the first frame of every clip is a key frame.

    Full chroma (yuv444p) and a constant rate factor of at most 6 keep 64 x 64 frames above 38 dB.
    One thread, so that the same frames give the same bytes.
    """

    def __init__(self, path: Path, height: int, width: int, fps: int, crf: int = 4) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.num_frames = 0
        self.num_bytes = 0
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(CODEC, rate=fps)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = PIXEL_FORMAT
        self._stream.thread_count = 1
        self._stream.options = {
            "crf": str(crf),
            "bf": "0",
            "rc-lookahead": "0",
            "forced-idr": "1",
        }

    def append(self, frames: Frames) -> None:
        """Adds one clip, uint8 RGB (T, H, W, 3)."""
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self.num_frames
            frame.pict_type = PictureType.NONE if i else PictureType.I
            self._mux(self._stream.encode(frame))
            self.num_frames += 1

    def close(self) -> None:
        self._mux(self._stream.encode(None))
        self._container.close()

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            self.num_bytes += packet.size
            self._container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A file and its video, whose times can be told. ColaWorldError, which names the file, where it
    is missing, or something in it cannot be read."""
    if not path.is_file():
        raise ColaWorldError(f"The video {path} is missing: fetch the dataset again.")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            if stream.time_base is None:
                raise ValueError("its stream has no time base")
            yield container, stream
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise ColaWorldError(
            f"The video {path} is damaged ({error}): fetch or make the dataset again."
        ) from error


def read_clip(path: Path, start: float, count: int, fps: float) -> Frames:
    """`count` frames of a video from second `start` on: uint8 RGB (count, H, W, 3).

    Raises ColaWorldError, naming the file, when it is missing, damaged or shorter than asked.
    """
    found: list[Frames] = []
    with _opened(path) as (container, stream):
        container.seek(int(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is None or frame.time < start - 0.5 / fps:
                continue
            found.append(_array(frame))
            if len(found) == count:
                return np.stack(found)
    raise ColaWorldError(
        f"The video {path} is damaged: {len(found)} of the {count} frames from second {start:.2f} "
        "on are in it; fetch or make the dataset again."
    )


def read_frames(path: Path, wanted: range, fps: float) -> Frames:
    """Frames of a video by number, counted in steps of 1 / fps from its first: uint8 RGB
    (len(wanted), H, W, 3).

    Of a video whose frames come irregularly, the frame on show at that time. Decodes from the key
    frame before the first on. Raises ColaWorldError when the file is damaged or shorter than asked.
    """
    shown: list[Frames] = []
    with _opened(path) as (container, stream):
        begin = float((stream.start_time or 0) * stream.time_base)
        times = [begin + number / fps for number in wanted]
        container.seek(int(times[0] / stream.time_base), stream=stream)
        last = None
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            while last is not None and frame.time > times[len(shown)] + 0.5 / fps:
                shown.append(_rgb(last))
                if len(shown) == len(times):
                    return np.stack(shown)
            last = frame
        while last is not None and last.time > times[len(shown)] - 1.5 / fps:
            shown.append(_rgb(last))
            if len(shown) == len(times):
                return np.stack(shown)
    raise ColaWorldError(
        f"The video {path} is damaged: it ends before its frame {wanted[len(shown)]}."
    )


def _rgb(frame: av.VideoFrame) -> Frames:
    if frame.is_corrupt:
        raise ValueError(f"its frame at second {frame.time:.2f} is corrupt")
    return _array(frame)


def _array(frame: av.VideoFrame) -> Frames:
    """As it is to be shown: phones store pictures turned, and say so."""
    stored = frame.to_ndarray(format="rgb24", **ONE_THREAD)
    return np.ascontiguousarray(np.rot90(stored, round(frame.rotation / 90)))


def decode_image(data: bytes) -> Frames:
    """One encoded image (PNG, JPEG, ...) as uint8 RGB (H, W, 3). Raises ColaWorldError for none."""
    from io import BytesIO

    try:
        with av.open(BytesIO(data)) as container:
            return _array(next(container.decode(video=0)))
    except (av.error.FFmpegError, IndexError, StopIteration) as error:
        raise ColaWorldError(f"An image is damaged ({error}).") from error


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
    with _opened(path) as (container, stream):
        shown = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None and packet.time_base and not packet.is_discard
        ]
        if not shown:
            raise ValueError("it holds no frames")
    return np.sort(np.array(shown, np.float64))


MOST_STEPS_A_FRAME = 100
"""A frame may stay on show so long in the mean; beyond that the times are taken for wrong."""
RATE_WINDOW = 8
"""Frames over which the time from one to the next is averaged: some recorders write in bursts."""
PAUSES = 0.05
"""Share by which pauses may slow down the mean rate; beyond that they are left out of it."""


def frame_rate(times: NDArray[np.float64], told: float) -> float:
    """How many frames a second come by their times (T,), sorted, pauses left out: ``told`` where it
    differs by less than half a frame over all, or where there are fewer than two moments."""
    steps, seconds = len(times) - 1, float(np.ptp(times))
    if not seconds:
        return told
    window = min(RATE_WINDOW, steps)
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
    with _opened(path) as (_, stream):
        told = float(stream.average_rate or stream.guessed_rate or 0)
        height, width = stream.codec_context.height, stream.codec_context.width
        fps = frame_rate(times, told)
        frames = round((times[-1] - times[0]) * fps) + 1
        if not (fps > 0 and height and width):
            raise ValueError("it says nothing of its frames")
        if frames > MOST_STEPS_A_FRAME * len(times):
            raise ValueError(f"its {len(times)} frames are said to take {times[-1]:.0f} seconds")
    return frames, fps, height, width


def square(frames: Frames, size: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, size, size, 3): the largest square in the middle, resized."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = torch.from_numpy(frames[:, top : top + side, left : left + side].copy())
    if side == size:
        return images.contiguous()
    planes = images.movedim(-1, 1)
    planes = interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return planes.movedim(1, -1).contiguous()


VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")


class VideoFolder:
    """Every video file below a folder (or one file) is an episode."""

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        index: Path,
        damage_report: DamageReport,
    ) -> None:
        self.path = path
        self.entries = FileIndex(path, scan_video, index, damage_report).entries(files)

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        entry = self.entries[episode]
        wanted = range(start, stop, stride)
        try:
            return read_frames(Path(entry.file), wanted, entry.fps)
        except ColaWorldError as error:
            raise DamagedFile(entry.file, error.__cause__ or error) from error

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        raise ColaWorldError(f"The videos in {self.path} have no actions.")

    def action_extremes(self) -> None:
        return None


def scan_video(file: Path) -> list[Entry]:
    try:
        return [Entry(str(file), "", *describe_video(file))]
    except ColaWorldError as error:
        raise DamagedFile(file, error.__cause__ or error) from error
