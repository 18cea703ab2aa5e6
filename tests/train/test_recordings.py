"""Videos whose header does not say when their frames are shown: the times of the frames rule."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_train.data.sources import DataSources, open_source
from cola_train.data.video import describe_video, frame_rate
from tests.train.conftest import numbered, numbers

CODECS = {"webm": "libvpx", "mkv": "libx264", "mp4": "libx264"}


def record(path: Path, milliseconds: Sequence[int], rate: int = 1000, strip: bool = False) -> Path:
    """A video with a clock of 1 ms that says ``rate``, or with ``strip`` nothing, of frames a
    second, as browsers and screen recorders write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if path.suffix == ".webm":
            stream.bit_rate, stream.options = 4_000_000, {"qmin": "0", "qmax": "2"}
        for time, image in zip(milliseconds, numbered(len(milliseconds)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if strip:
        data = bytearray(path.read_bytes())
        place = data.index(b"\x23\xe3\x83")  # Matroska's DefaultDuration becomes a Void
        size = 4 + (data[place + 3] & 0x7F)
        data[place : place + size] = bytes([0xEC, 0x80 | size - 2]) + bytes(size - 2)
        path.write_bytes(data)
    return path


IRREGULAR = np.random.default_rng(0).integers(40, 100, 50).cumsum()


@pytest.mark.parametrize(
    ("suffix", "rate", "strip"),
    [("webm", 30, False), ("webm", 1000, True), ("mkv", 1000, False), ("mp4", 1000, False)],
)
def test_a_recordings_frames_are_counted_and_taken_by_their_times(
    suffix: str, rate: int, strip: bool, tmp_path: Path
) -> None:
    data = open_source(record(tmp_path / f"a.{suffix}", IRREGULAR, rate, strip))
    (entry,) = data.entries
    seconds = (IRREGULAR[-1] - IRREGULAR[0]) / 1000
    assert entry.fps == pytest.approx(49 / seconds, rel=0.05)
    assert entry.frames == pytest.approx(seconds * entry.fps + 1, abs=0.5)
    shown = numbers(data.frames(0, 0, entry.frames))
    times = (IRREGULAR[shown] - IRREGULAR[0]) / 1000
    assert np.abs(times - np.arange(entry.frames) / entry.fps).max() < 0.1
    assert len(set(shown)) > 35 and shown[-1] == 49


def test_a_model_sees_the_pictures_of_a_recording(tmp_path: Path) -> None:
    for name in "ab":
        record(tmp_path / f"{name}.webm", range(0, 30 * 70, 70), strip=True)
    clips = DataSources(str(tmp_path)).split("train", 16)
    assert numbers(clips.frames[0].numpy()) == list(range(30))


@pytest.mark.parametrize("suffix", ["webm", "mp4"])
def test_a_pause_or_a_late_start_moves_no_frame_in_time(suffix: str, tmp_path: Path) -> None:
    times = [500 + 50 * i + (2000 if i >= 20 else 0) for i in range(40)]
    path = record(tmp_path / f"a.{suffix}", times)
    frames, fps, *_ = describe_video(path)
    assert (frames, fps) == (80, pytest.approx(20))
    assert numbers(open_source(path).frames(0, 0, 80)) == (
        list(range(20)) + [19] * 40 + list(range(20, 40))
    )


def test_times_that_cannot_be_are_told(tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match="40 frames are said to take 2000000 seconds"):
        describe_video(record(tmp_path / "a.mkv", [*range(0, 39 * 50, 50), 2_000_000_000]))


@pytest.mark.parametrize(
    ("times", "told", "fps"),
    [
        (np.arange(300) * 1001 / 30000, 30000 / 1001, 30000 / 1001),
        ((np.arange(300) * 1000 / 30).round() / 1000, 30.0, 30.0),
        ((np.arange(300) * 1000 / 30).round() / 1000, 1000.0, 30.0),
        (np.arange(300) / 14, 30.0, 14.0),
        (np.arange(300) // 4 * 0.2 + np.arange(300) % 4 * 0.001, 1000.0, 20.0),
        (np.delete(np.arange(300), range(50, 80)) / 20, 18.0, 20.0),
        (np.array([0.0]), 25.0, 25.0),
        (np.zeros(5), 25.0, 25.0),
    ],
    ids=["ntsc", "rounded", "clock", "header", "bursts", "dropped", "one frame", "no time"],
)
def test_the_frame_rate_is_how_fast_frames_come(times: np.ndarray, told: float, fps: float) -> None:
    assert frame_rate(times, told) == pytest.approx(fps, rel=0.02)
