"""Small videos as numpy arrays: a nearly lossless H.264 writer and a frame-exact reader (PyAV)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.video_clock import describe_video as describe_video

try:
    import av
    from av.video.frame import PictureType
except ImportError as error:
    raise ImportError(
        "Reading and writing videos needs PyAV; install it with: pip install 'colaworld[train]'"
    ) from error

Frames = NDArray[np.uint8]
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

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_clips(path: Path, clips: Sequence[tuple[float, int]], fps: float) -> list[Frames]:
    """Clips of a video: `clips` holds (start in seconds, number of frames), sorted and disjoint.

    Returns one uint8 RGB array (count, H, W, 3) a clip. One pass from the first clip's key frame.
    Raises ColaWorldError, naming the file, when it is missing, damaged or shorter than asked.
    """
    if not path.is_file():
        raise ColaWorldError(f"The video {path} is missing: fetch the dataset again.")
    frames: list[list[Frames]] = [[] for _ in clips]
    try:
        _decode(path, clips, fps, frames)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ColaWorldError(
            f"The video {path} is damaged ({error}): fetch or make the dataset again."
        ) from error
    for (start, count), found in zip(clips, frames, strict=True):
        if len(found) != count:
            raise ColaWorldError(
                f"The video {path} is damaged: {len(found)} of the {count} frames from second "
                f"{start:.2f} on are in it; fetch or make the dataset again."
            )
    return [np.stack(found) for found in frames]


def _decode(
    path: Path, clips: Sequence[tuple[float, int]], fps: float, frames: list[list[Frames]]
) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        if stream.time_base is None:
            raise ValueError("its stream has no time base")
        container.seek(int(clips[0][0] / stream.time_base), stream=stream)
        current = 0
        for frame in container.decode(stream):
            start, count = clips[current]
            if frame.time is None or frame.time < start - 0.5 / fps:
                continue
            frames[current].append(_array(frame))
            if len(frames[current]) == count:
                current += 1
                if current == len(clips):
                    return


def read_frames(path: Path, wanted: range, fps: float) -> Frames:
    """Frames of a video by number, counted in steps of 1 / fps from its first: uint8 RGB
    (len(wanted), H, W, 3).

    Of a video whose frames come irregularly, the frame on show at that time. Decodes from the key
    frame before the first on. Raises ColaWorldError when the file is damaged or shorter than asked.
    """
    shown: list[Frames] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            if stream.time_base is None:
                raise ValueError("its stream has no time base")
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
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise ColaWorldError(f"The video {path} is damaged ({error}).") from error
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
