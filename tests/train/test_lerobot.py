import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cola_env.errors import ColaWorldError
from cola_train.data.lerobot import LeRobotDataset
from cola_train.data.lerobot_writer import LeRobotWriter, episode_stats, merge_stats

LENGTHS = (5, 9, 3, 7)
SIZE = 32
VIDEO = "videos/observation.image/chunk-000/file-{:03d}.mp4"
DATA = "data/chunk-000/file-{:03d}.parquet"
FEATURES = {
    "observation.image": {"dtype": "video", "shape": [SIZE, SIZE, 3]},
    "observation.state": {"dtype": "float64", "shape": [11]},
    "action": {"dtype": "float32", "shape": [5], "names": list("abcde")},
    "next.reward": {"dtype": "float32", "shape": [1]},
    "next.successes": {"dtype": "bool", "shape": [2]},
}


def make_episode(length: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    coarse = rng.integers(0, 256, (SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
    image = coarse.repeat(8, 0).repeat(8, 1)
    return {
        "observation.image": np.stack([np.roll(image, t, 1) for t in range(length)]),
        "observation.state": rng.standard_normal((length, 11)),
        "action": rng.uniform(-1, 1, (length, 5)).astype(np.float32),
        "next.reward": rng.random(length).astype(np.float32),
        "next.successes": rng.random((length, 2)) < 0.5,
    }


def write(folder: Path, episodes: list[dict[str, np.ndarray]], **sizes: float) -> Path:
    features = {key: FEATURES[key] for key in episodes[0]}
    with LeRobotWriter(folder, features=features, fps=10, robot_type="stub", **sizes) as writer:
        for i, episode in enumerate(episodes):
            writer.add_episode(f"task {i % 2}", episode, {"noise": 0.1 * i})
        writer.close({"train": "0:3", "test": "3:4"}, rendering="fast")
    return folder


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.fixture(scope="module")
def episodes() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [make_episode(length, rng) for length in LENGTHS]


@pytest.fixture(scope="module")
def written(episodes, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("lerobot") / "dataset", episodes)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy"


def all_frames(dataset: LeRobotDataset) -> np.ndarray:
    return np.concatenate([dataset.frames(i) for i in range(dataset.num_episodes)])


def check_contents(dataset: LeRobotDataset, episodes: list[dict[str, np.ndarray]]) -> None:
    frames = all_frames(dataset)
    stops = np.cumsum(LENGTHS)
    assert dataset.num_episodes == len(episodes)
    for i, truth in enumerate(episodes):
        episode = dataset.episode(i)
        assert episode.task == f"task {i % 2}"
        np.testing.assert_array_equal(episode.actions, truth["action"][:-1])
        np.testing.assert_array_equal(episode.states, truth["observation.state"])
        np.testing.assert_array_equal(episode.rewards, truth["next.reward"][:-1])
        np.testing.assert_array_equal(episode.successes, truth["next.successes"][:-1])
        assert psnr(episode.frames, truth["observation.image"]) > 38
        own = frames[stops[i] - LENGTHS[i] : stops[i]]
        np.testing.assert_array_equal(own, episode.frames)


def test_reads_back_what_was_written(written, episodes):
    dataset = LeRobotDataset(written)
    check_contents(dataset, episodes)
    assert dataset.split("test") == range(3, 4)
    assert dataset.info["rendering"] == "fast"
    assert dataset.episodes[2]["noise"] == pytest.approx(0.2)


def test_episodes_go_on_in_further_files(episodes, tmp_path):
    folder = write(tmp_path / "many", episodes, data_mb=1e-4, video_mb=1e-9)
    assert (folder / DATA.format(3)).exists() and (folder / VIDEO.format(1)).exists()
    check_contents(LeRobotDataset(folder), episodes)


def test_layout_is_that_of_lerobot_v3(written):
    info = json.loads((written / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["total_episodes"] == len(LENGTHS) and info["total_frames"] == sum(LENGTHS)
    assert info["features"]["observation.image"]["dtype"] == "video"
    assert {"timestamp", "frame_index", "episode_index", "index", "task_index"} <= {
        *info["features"]
    }
    rows = pq.read_table(written / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for row, length, start in zip(rows, LENGTHS, np.cumsum((0, *LENGTHS)), strict=False):
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (start, start + length)
        assert row["videos/observation.image/from_timestamp"] == pytest.approx(start / 10)
        assert row["videos/observation.image/to_timestamp"] == pytest.approx((start + length) / 10)
        assert row["data/file_index"] == row["videos/observation.image/file_index"] == 0
    data = pq.read_table(written / DATA.format(0))
    assert data.column("index").to_pylist() == list(range(sum(LENGTHS)))
    pandas = json.loads(pq.read_schema(written / "meta/tasks.parquet").metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]


def test_statistics_are_those_of_all_frames(written, episodes):
    stats = json.loads((written / "meta/stats.json").read_text())
    actions = np.concatenate([episode["action"] for episode in episodes]).astype(float)
    images = np.concatenate([episode["observation.image"] for episode in episodes]) / 255
    for key, values, axes in (("action", actions, 0), ("observation.image", images, (0, 1, 2))):
        np.testing.assert_allclose(np.ravel(stats[key]["mean"]), values.mean(axes))
        np.testing.assert_allclose(np.ravel(stats[key]["std"]), values.std(axes))
        np.testing.assert_allclose(np.ravel(stats[key]["max"]), values.max(axes))
    assert np.shape(stats["observation.image"]["mean"]) == (3, 1, 1)


def test_statistics_merge_like_one_episode():
    values = np.random.default_rng(1).standard_normal((12, 3))
    merged = merge_stats(
        [episode_stats(values[:4], "float64"), episode_stats(values[4:], "float64")]
    )
    for name, value in episode_stats(values, "float64").items():
        np.testing.assert_allclose(merged[name], value)


def test_video_only_dataset_has_no_actions(episodes, tmp_path):
    videos = [{"observation.image": episode["observation.image"]} for episode in episodes]
    episode = LeRobotDataset(write(tmp_path / "videos", videos)).episode(1)
    assert episode.frames.shape == (LENGTHS[1], SIZE, SIZE, 3)
    assert episode.actions is episode.rewards is episode.successes is episode.states is None


def test_an_aborted_dataset_leaves_nothing_readable(episodes, tmp_path):
    with (
        pytest.raises(RuntimeError),
        LeRobotWriter(tmp_path / "half", features=FEATURES, fps=10, robot_type="stub") as writer,
    ):
        writer.add_episode("task", episodes[0])
        raise RuntimeError
    with pytest.raises(ColaWorldError, match="no LeRobot dataset"):
        LeRobotDataset(tmp_path / "half")


def test_wrong_shapes_and_second_writes_are_refused(written, episodes, tmp_path):
    with (
        LeRobotWriter(tmp_path / "new", features=FEATURES, fps=10, robot_type="stub") as writer,
        pytest.raises(ColaWorldError, match="'action'"),
    ):
        writer.add_episode("task", {**episodes[0], "action": np.zeros((5, 4), np.float32)})
    with pytest.raises(ColaWorldError, match="already holds"):
        LeRobotWriter(written, features=FEATURES, fps=10, robot_type="stub")


def test_missing_folder_old_layout_and_unknown_names_are_said_clearly(folder, tmp_path):
    with pytest.raises(ColaWorldError, match="There is no dataset folder"):
        LeRobotDataset(tmp_path / "nowhere")
    with pytest.raises(ColaWorldError, match=r"choose one of \['observation.image'\]"):
        LeRobotDataset(folder, camera="wrist")
    with pytest.raises(ColaWorldError, match="no split 'dev'"):
        LeRobotDataset(folder).split("dev")
    info = json.loads((folder / "meta/info.json").read_text()) | {"codebase_version": "v1.6"}
    (folder / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(ColaWorldError, match="layout v1.6; v3.0, v2.1 and v2.0 are read"):
        LeRobotDataset(folder)
    (folder / "meta/info.json").write_text("{")
    with pytest.raises(ColaWorldError, match="info.json is damaged"):
        LeRobotDataset(folder)


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "missing"])
@pytest.mark.parametrize("file", [VIDEO.format(0), DATA.format(0), "meta/tasks.parquet"])
def test_a_damaged_file_is_named(folder, file, damage):
    path = folder / file
    size = path.stat().st_size
    if damage == "truncated":
        os.truncate(path, size // 2)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\x00" * size)
    with pytest.raises(ColaWorldError, match=path.name):
        LeRobotDataset(folder).episode(len(LENGTHS) - 1)


def test_a_video_with_damaged_pictures_is_named(folder):
    path = folder / VIDEO.format(0)
    data = bytearray(path.read_bytes())
    media = data.index(b"mdat")
    data[media + 1200 : media + 1800] = bytes(600)
    path.write_bytes(data)
    with pytest.raises(ColaWorldError, match=path.name):
        all_frames(LeRobotDataset(folder))
