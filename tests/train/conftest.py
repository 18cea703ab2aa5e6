"""Small data sets of every kind, whose pixels and actions say where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.evaluation.controllability import controllability
from cola_train.phases.distillation import teacher_agreement


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, for indexes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def few_measured_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a phase measures at its end is measured on few clips, where nobody counts them."""
    for measure in (controllability, teacher_agreement):
        monkeypatch.setattr(measure, "__defaults__", (4,))


def numbered(count: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Frames (count, height, width, 3), frame t a flat gray of 4 t + 20."""
    gray = (4 * np.arange(count) + 20).astype(np.uint8)
    return np.broadcast_to(gray[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    """Which frames of ``numbered`` these are."""
    return [round((float(frame.mean()) - 20) / 4) for frame in frames]


def write_video(path: Path, frames: NDArray[np.uint8], fps: int = 20, gop: int = 12) -> Path:
    """An mp4 or webm as cameras make them: few key frames, B-frames, yuv420p."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        codec = "libvpx" if path.suffix == ".webm" else "libx264"
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        if path.suffix == ".webm":
            stream.bit_rate, stream.options = 4_000_000, {"qmin": "0", "qmax": "2"}
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_videos(folder: Path, lengths: list[int], **kwargs: int) -> Path:
    for i, length in enumerate(lengths):
        write_video(folder / f"{i:02d}.mp4", numbered(length), **kwargs)
    return folder


def write_demos(
    path: Path,
    lengths: list[int],
    camera: str = "camera_image",
    actions: bool = True,
    size: int = 5,
) -> Path:
    """An HDF5 file in VP2's layout; action t of demo i is (t, i, 0, ...) / 100."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        environment = {"env_name": "robodesk", "env_kwargs": {"control_freq": 20}}
        data.attrs["env_args"] = json.dumps(environment)
        data.attrs["total"] = sum(lengths)
        for i, length in enumerate(lengths):
            demo = data.create_group(f"demo_{i}")
            demo["states"] = np.zeros((length, 76))
            demo[f"obs/{camera}"] = numbered(length)
            demo["obs/robot0_eef_pos"] = np.zeros((length, 3))
            if actions:
                values = np.zeros((length, size))
                values[:, 0], values[:, 1] = np.arange(length) / 100, i / 100
                demo["actions"] = values
        names = [f"demo_{i}".encode() for i in range(len(lengths))]
        file["mask/train"], file["mask/valid"] = names[:-1], names[-1:]
    return path


def write_lerobot(folder: Path, lengths: list[int], rendering: str = "fast") -> Path:
    features = {
        "observation.image": {"dtype": "video", "shape": [48, 64, 3]},
        "action": {"dtype": "float32", "shape": [5]},
    }
    with LeRobotWriter(folder, features=features, fps=20, robot_type="stub") as writer:
        for i, length in enumerate(lengths):
            actions = np.zeros((length, 5), np.float32)
            actions[:, 0], actions[:, 1] = np.arange(length) / 100, i / 100
            columns = {"observation.image": numbered(length), "action": actions}
            writer.add_episode("task", columns, {})
        last = len(lengths) - 1
        splits = {"train": f"0:{last}", "test": f"{last}:{last + 1}"}
        writer.close(splits, rendering=rendering)
    return folder


def write_lerobot_v2(folder: Path, lengths: list[int]) -> Path:
    """As ``write_lerobot``, in the layout v2.1, two episodes a chunk."""
    (folder / "meta").mkdir(parents=True)
    one = {"dtype": "int64", "shape": [1]}
    info = {
        "codebase_version": "v2.1",
        "fps": 20,
        "total_episodes": len(lengths),
        "chunks_size": 2,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
        "features": {
            "observation.images.top": {
                "dtype": "video",
                "shape": [3, 48, 64],
                "names": ["channels", "height", "width"],
                "info": {"video.is_depth_map": False},
            },
            "action": {"dtype": "float32", "shape": [5]},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), one),
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    tasks = [{"task_index": i, "task": f"task {i}"} for i in range(len(lengths))]
    _write_lines(folder / "meta/tasks.jsonl", tasks)
    episodes = [
        {"episode_index": i, "tasks": [f"task {i}"], "length": length}
        for i, length in enumerate(lengths)
    ]
    _write_lines(folder / "meta/episodes.jsonl", episodes)
    for i, length in enumerate(lengths):
        place = f"chunk-{i // 2:03d}"
        video = folder / f"videos/{place}/observation.images.top/episode_{i:06d}.mp4"
        write_video(video, numbered(length))
        steps = np.arange(length)
        actions = np.zeros((length, 5), np.float32)
        actions[:, 0], actions[:, 1] = steps / 100, i / 100
        columns = {
            "action": pa.array([*actions], pa.list_(pa.float32())),
            "timestamp": (steps / 20).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, i),
            "index": sum(lengths[:i]) + steps,
            "task_index": np.full(length, i),
        }
        data = folder / f"data/{place}/episode_{i:06d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), data)
    return folder


def _write_lines(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def spoil(path: Path, start: float = 0.6, stop: float = 1.0) -> Path:
    """Overwrites a stretch of a file (shares of its size) with noise."""
    data = bytearray(path.read_bytes())
    first, last = int(start * len(data)), int(stop * len(data))
    data[first:last] = np.random.default_rng(0).bytes(last - first)
    path.write_bytes(data)
    return path
