"""LeRobot folders whose metadata and content disagree, or that lead elsewhere; their cameras."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data import video as videos
from cola_train.data.episode_source import DamagedFile, Unreadable
from cola_train.data.lerobot import LeRobotDataset
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.data.sources import DataSources, LoadingConfig, open_source
from cola_train.data.video import video_clock
from tests.train.conftest import numbered, numbers, write_lerobot, write_lerobot_v2

LENGTHS = [12, 10, 12]
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.image/chunk-000/file-000.mp4"
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lerobot")
    return {
        "v3": write_lerobot(folder / "v3", LENGTHS),
        "v2.1": write_lerobot_v2(folder / "v2", LENGTHS),
    }


@pytest.fixture
def folder(written: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written["v3"], tmp_path / "data"))


@pytest.fixture
def old(written: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written["v2.1"], tmp_path / "old"))


def edit(file: str, column: str, row: int, change: Callable[[Any], Any]) -> Change:
    """Changes one value of a parquet file."""

    def apply(folder: Path) -> None:
        table = pq.read_table(folder / file)
        values = table.column(column).to_pylist()
        values[row] = change(values[row])
        place = table.column_names.index(column)
        kind = table.schema.field(column).type
        pq.write_table(table.set_column(place, column, pa.array(values, type=kind)), folder / file)

    return apply


def edit_info(folder: Path, **values: Any) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | values))


def set_action(row: int, number: float) -> Change:
    return edit(DATA, "action", row, lambda action: [number, *action[1:]])


def write_at(path: Path, frames: NDArray[np.uint8], milliseconds: list[float]) -> None:
    """A video of which each frame is shown at its own time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for image, time in zip(frames, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def readable(folder: Path) -> list[int]:
    """The episodes that are read, each of which must be right."""
    try:
        with warnings.catch_warnings(action="ignore"):
            source = open_source(folder)
    except Unreadable:
        return []
    found = [int(entry.key) for entry in source.entries]
    for i, number in enumerate(found):
        frames, actions = source.frames(i, 0, LENGTHS[number]), source.actions(i, 0, 4)
        assert numbers(frames) == [*range(LENGTHS[number])]
        np.testing.assert_allclose(actions[:, 0], np.arange(4) / 100, atol=1e-6)
        np.testing.assert_allclose(actions[:, 1], number / 100, atol=1e-6)
    return found


@pytest.mark.parametrize(
    ("change", "told", "right"),
    [
        (
            edit(DATA, "frame_index", 15, lambda n: n + 1),
            "frame_index does not count from 0 to 9",
            [0, 2],
        ),
        (edit(DATA, "index", 15, lambda n: n - 1), "index does not count from 12 to 21", [0, 2]),
        (edit(DATA, "episode_index", 15, lambda n: 7), "9 rows are of it", [0, 2]),
        (edit(DATA, "episode_index", 30, lambda n: 1), "11 rows are of it", [0]),
        (
            edit(DATA, "timestamp", 15, lambda n: 0.3),
            "timestamps are not those of 20 frames",
            [0, 2],
        ),
        (edit(DATA, "timestamp", 15, lambda n: None), "timestamps are not", [0, 2]),
        (set_action(15, np.nan), "actions hold NaN or infinity", [0, 2]),
        (set_action(12, -np.inf), "actions hold NaN or infinity", [0, 2]),
        (edit(EPISODES, "length", 1, lambda n: 9), "10 rows are of it.*9 are told", [0, 2]),
        (
            edit(EPISODES, "dataset_from_index", 1, lambda n: 13),
            "does not count from 13 to 22",
            [0, 2],
        ),
        (
            edit(EPISODES, "videos/observation.image/from_timestamp", 1, lambda s: s + 0.02),
            "10 of its 10 frames, the first of them number 0, are not in the video at the times",
            [0, 2],
        ),
        (
            edit(EPISODES, "videos/observation.image/from_timestamp", 1, lambda s: s - 0.05),
            "it has 10 rows, and is said to end at second 1.1",
            [2],
        ),
        (
            edit(EPISODES, "videos/observation.image/to_timestamp", 1, lambda s: s + 0.05),
            "it has 10 rows, and is said to end at second 1.15",
            [0, 2],
        ),
    ],
)
def test_an_episode_that_contradicts_itself_is_named_and_alone_left_out(
    change: Change, told: str, right: list[int], folder: Path
) -> None:
    change(folder)
    with pytest.raises(DamagedFile, match=f", episode 1 is damaged: .*{told}"):
        LeRobotDataset(folder).episode(1)
    assert readable(folder) == right


def test_what_the_last_action_is_does_not_matter(folder: Path) -> None:
    set_action(11, np.nan)(folder)
    assert readable(folder) == [0, 1, 2]


@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_training_goes_on_without_them_and_counts_them(memory: float, folder: Path) -> None:
    set_action(15, np.nan)(folder)
    edit_info(folder, splits={})
    with pytest.warns(UserWarning, match="file-000.parquet, episode 1 is damaged and skipped"):
        sources = DataSources(str(folder), LoadingConfig(memory_gb=memory, workers=0))
    sources.check_actions()
    for name in ("train", "test"):
        batch = sources.split(name, 16).sample(8, 4, torch.Generator().manual_seed(0))
        assert {round(float(number), 2) for number in batch.actions[..., 1].unique()} < {0, 0.02}
    assert sources.damage_report.summary().startswith("1 damaged file(s) were skipped: ")


def test_when_all_contradict_themselves_training_is_refused(folder: Path) -> None:
    edit_info(folder, fps=29.97)
    with (
        pytest.warns(UserWarning),
        pytest.raises(ColaWorldError, match="Nothing in .* can be read"),
    ):
        DataSources(str(folder))


def test_statistics_are_not_believed(folder: Path) -> None:
    set_action(15, 90.0)(folder)
    with pytest.raises(ColaWorldError, match=r"go beyond .*at most \[90, "):
        DataSources(str(folder)).check_actions()
    DataSources(str(folder), LoadingConfig(action_range=[-180, 180])).check_actions()


def gray(kept: list[int]) -> NDArray[np.uint8]:
    whole = np.concatenate([numbered(length) for length in LENGTHS])
    return whole[kept]


@pytest.mark.parametrize(
    ("lost", "right"),
    [([5, 6], [1, 2]), ([0], [1, 2]), ([13], [0, 2]), ([33], []), ([11, 12], [2])],
)
def test_frames_that_a_video_lacks_shift_no_others(
    lost: list[int], right: list[int], folder: Path
) -> None:
    kept = [i for i in range(sum(LENGTHS)) if i not in lost]
    write_at(folder / VIDEO, gray(kept), [50.0 * i for i in kept])
    assert readable(folder) == right


@pytest.mark.parametrize(
    ("count", "step", "right"),
    [
        (34, 1000 / 19.5, []),
        (34, 1000 / 19.8, [0]),
        (34, 1000 / 30, []),
        (34, 100, []),
        (32, 50, []),
        (36, 50, []),
    ],
)
def test_a_video_of_another_clock_or_length_is_not_read_where_it_shows(
    count: int, step: float, right: list[int], folder: Path
) -> None:
    frames = [min(i, 33) for i in range(count)]
    write_at(folder / VIDEO, gray(frames), [step * i for i in range(count)])
    assert readable(folder) == right


def test_a_clock_numbers_what_is_missing_and_drops_what_drifts(tmp_path: Path) -> None:
    write_at(tmp_path / "a.mp4", numbered(5), [0, 50, 200, 258, 320])
    clock = video_clock(tmp_path / "a.mp4", 20)
    assert clock.end == 7 and clock.off == [2, 3, 6]
    write_at(tmp_path / "b.mkv", numbered(5), [0, 33, 67, 100, 133])
    clock = video_clock(tmp_path / "b.mkv", 30)
    assert clock.end == 5 and clock.off == []


def test_episodes_that_share_frames_are_left_out(folder: Path) -> None:
    for end, second in (("from", 0.1), ("to", 0.6)):
        edit(EPISODES, f"videos/observation.image/{end}_timestamp", 1, lambda _, s=second: s)(
            folder
        )
    assert readable(folder) == [2]


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("video_path", "../outside/{file_index}.mp4"),
        ("video_path", "videos/{video_key}/../../../{file_index}.mp4"),
        ("data_path", "/etc/{file_index}.parquet"),
        ("data_path", "data/../../secret.parquet"),
    ],
)
def test_no_path_leads_out_of_the_folder(template: str, path: str, folder: Path) -> None:
    edit_info(folder, **{template: path})
    with pytest.raises(ColaWorldError, match=f"outside of its folder .{template}"):
        open_source(folder)


@pytest.mark.parametrize(
    "path",
    [
        "data/{file_index:0999999999d}.parquet",
        "data/{file_index.__class__}.parquet",
        "data/{video_key[0]}.parquet",
        "data/" + "{file_index:099d}" * 3,
        "data/{unknown}.parquet",
        "data/{",
        7,
    ],
)
def test_paths_that_name_no_file_are_told_in_a_sentence(path: object, folder: Path) -> None:
    edit_info(folder, data_path=path)
    with pytest.raises(ColaWorldError, match="data_path of .*gives no file for episode 0"):
        open_source(folder)


def test_links_inside_a_folder_may_lead_anywhere(folder: Path, tmp_path: Path) -> None:
    """As in the cache of the hub."""
    for i, name in enumerate((DATA, VIDEO)):
        (folder / name).rename(tmp_path / str(i))
        (folder / name).symlink_to(tmp_path / str(i))
    assert readable(folder) == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"video_path": "{nothing}.mp4"}, "video_path .*gives no file for episode 0"),
        ({"video_path": None}, "video_path .*gives no file"),
        ({"data_path": "{chunk_index:q}"}, "data_path .*gives no file"),
        ({"fps": None}, "fps is None"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"total_episodes": 0}, "total_episodes is 0"),
        ({"total_episodes": 4}, "info.json counts 4"),
        ({"features": {"a": 3}}, "feature 'a' has no shape"),
        ({"features": {"a": {"dtype": "video", "shape": [3]}}}, "not three axes"),
        ({"splits": {"train": "0:50"}}, r"3 episodes is written .*0:3"),
        ({"splits": {"train": "0:2,2:3"}}, "splits are"),
        ({"splits": {"train": [0, 1]}}, "splits are"),
    ],
)
def test_an_info_that_cannot_be_is_told(values: dict[str, Any], told: str, folder: Path) -> None:
    edit_info(folder, **values)
    with pytest.raises(ColaWorldError, match=told):
        open_source(folder)


def test_no_splits_are_fine(folder: Path) -> None:
    edit_info(folder, splits=None)
    assert {entry.split for entry in open_source(folder).entries} == {None}


CAMERAS = ["observation.images.depth_left", "observation.images.wrist", "observation.images.top"]


def write_cameras(folder: Path, kind: str = "video") -> Path:
    """Frame t of camera k shows number t + 10 k."""
    features: dict[str, dict[str, Any]] = {
        name: {"dtype": "video", "shape": [48, 64, 3]} for name in CAMERAS
    }
    with LeRobotWriter(folder, features=features, fps=20, robot_type="stub") as writer:
        frames = numbered(36)
        writer.add_episode(
            "task", {name: frames[10 * k : 10 * k + 8] for k, name in enumerate(CAMERAS)}
        )
        writer.close()
    return folder


@pytest.mark.parametrize(("camera", "first"), [(None, 20), ("wrist", 10), (CAMERAS[2], 20)])
def test_the_camera_that_is_asked_for_is_read(
    camera: str | None, first: int, tmp_path: Path
) -> None:
    folder = write_cameras(tmp_path / "data")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sources = DataSources(str(folder), LoadingConfig(camera=camera))
    (source,) = sources.groups[0][0]
    assert numbers(source.frames(0, 0, 3)) == [first, first + 1, first + 2]
    assert len(told) == (camera is None)


@pytest.mark.parametrize("place", ["", "info", "video_info"])
def test_a_depth_map_is_never_taken(place: str, tmp_path: Path) -> None:
    folder = write_cameras(tmp_path / "data")
    info = json.loads((folder / "meta/info.json").read_text())
    top = info["features"].pop(CAMERAS[2])
    info["features"][CAMERAS[2]] = top | (
        {place: {"video.is_depth_map": True}} if place else {"is_depth_map": True}
    )
    if place == "video_info":
        del info["features"][CAMERAS[2]]["info"]
    edit_info(folder, features=info["features"])
    assert LeRobotDataset(folder).image == CAMERAS[1]
    for name in (CAMERAS[0], "top"):
        with pytest.raises(
            ColaWorldError, match=r"no camera .*choose one of \['observation.images.w"
        ):
            LeRobotDataset(folder, camera=name)


@pytest.mark.parametrize(
    ("shape", "names", "size"),
    [
        ([3, 48, 64], ["channels", "height", "width"], (48, 64)),
        ([3, 48, 64], None, (48, 64)),
        ([48, 64, 3], ["height", "width", "channel"], (48, 64)),
        ([3, 48, 3], ["channel", "height", "width"], (48, 3)),
        ([3, 48, 3], None, (3, 48)),
    ],
)
def test_pictures_are_declared_with_channels_first_or_last(
    shape: list[int], names: list[str] | None, size: tuple[int, int], folder: Path
) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features["observation.image"] |= {"shape": shape, "names": names}
    edit_info(folder, features=features)
    entry = open_source(folder).entries[0]
    assert (entry.height, entry.width) == size


def embed(folder: Path, pictures: list[dict[str, Any]]) -> None:
    """Pictures in the rows in place of the video."""
    table = pq.read_table(folder / DATA)
    pq.write_table(table.append_column("observation.image", pa.array(pictures)), folder / DATA)
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features["observation.image"]["dtype"] = "image"
    edit_info(folder, features=features)


def png(image: NDArray[np.uint8]) -> bytes:
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt = 48, 64, "rgb24"
    encoder.time_base = Fraction(1, 20)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])


def test_pictures_in_the_rows_are_read_and_bad_ones_are_damage(folder: Path) -> None:
    pictures: list[dict[str, Any]] = [
        {"bytes": png(image), "path": None} for image in gray([*range(sum(LENGTHS))])
    ]
    pictures[3]["bytes"] = b"no picture"
    pictures[14] = {"bytes": None, "path": "../frame_000002.png"}
    embed(folder, pictures)
    source = open_source(folder)
    assert numbers(source.frames(2, 3, 9, 2)) == [3, 5, 7]
    for episode in (0, 1):
        with pytest.raises(DamagedFile, match=f"episode {episode} .*its pictures of observation"):
            source.frames(episode, 0, 4)


def test_the_times_of_a_video_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = folder / VIDEO
    kept = [i for i in range(sum(LENGTHS)) if i != 13]
    write_at(video, gray(kept), [50.0 * i for i in kept])
    assert readable(folder) == [0, 2]
    read: list[Path] = []
    times = videos.presentation_times
    monkeypatch.setattr(
        videos, "presentation_times", lambda path: (read.append(path), times(path))[1]
    )
    assert readable(folder) == [0, 2] and not read
    write_at(video, gray([*range(34)]), [50.0 * i for i in range(34)])
    assert readable(folder) == [0, 1, 2] and read == [video]


def test_columns_that_are_missing_or_ragged_are_told(folder: Path) -> None:
    table = pq.read_table(folder / DATA)
    place = table.column_names.index("action")
    ragged = [[0.0] * (4 + 2 * (i % 2)) for i in range(table.num_rows)]
    for changed, told in (
        (table.set_column(place, "action", pa.array(ragged)), "different lengths"),
        (
            table.set_column(place, "action", pa.array([["a"] * 5] * table.num_rows)),
            "not 5 numbers",
        ),
        (
            table.set_column(place, "action", pa.array([[0.0] * 4] * table.num_rows)),
            "not 5 numbers",
        ),
        (table.drop_columns("action"), "lacks the columns .'action'"),
        (table.drop_columns("timestamp"), "lacks the columns .'timestamp'"),
    ):
        pq.write_table(changed, folder / DATA)
        with pytest.raises(DamagedFile, match=told):
            LeRobotDataset(folder).actions(0)
        assert readable(folder) == []


def test_version_2_has_tasks_splits_and_chunks(old: Path) -> None:
    dataset = LeRobotDataset(old)
    assert [dataset.episode(i).task for i in range(3)] == ["task 0", "task 1", "task 2"]
    assert dataset.split("train") == range(3) and dataset.action_dim == 5
    assert dataset.frames_file(2).parts[-3:] == (
        "chunk-001",
        "observation.images.top",
        "episode_000002.mp4",
    )
    edit_info(old, codebase_version="v2.0")
    assert readable(old) == [0, 1, 2]


def test_version_2_is_checked_alike(old: Path) -> None:
    data = "data/chunk-000/episode_000001.parquet"
    edit(data, "action", 4, lambda action: [np.nan] * 5)(old)
    assert readable(old) == [0, 2]
    video = LeRobotDataset(old).frames_file(0)
    write_at(video, numbered(11), [50.0 * i for i in range(11)])
    with pytest.raises(DamagedFile, match="episode_000000.mp4 is damaged: .*ends after frame 10"):
        LeRobotDataset(old).frames(0)
    edit_info(old, data_path="../{episode_index}.parquet")
    with pytest.raises(ColaWorldError, match="outside of its folder"):
        open_source(old)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("episodes", None, "episodes.jsonl is missing"),
        ("episodes", "{", "episodes.jsonl is damaged"),
        ("episodes", '{"length": 3}', "episodes.jsonl is damaged"),
        ("episodes", '{"episode_index": 0, "length": 12}', "its list of episodes holds 1"),
        ("tasks", "[1]", "tasks.jsonl is damaged"),
    ],
)
def test_damaged_metadata_of_version_2_are_told(
    file: str, content: str | None, told: str, old: Path
) -> None:
    path = old / "meta" / f"{file}.jsonl"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ColaWorldError, match=told):
        open_source(old)
