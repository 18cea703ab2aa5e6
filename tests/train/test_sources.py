"""Training data of every kind: what is found in it, which frames and actions come out."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_train.data import video
from cola_train.data.episode_source import DamagedFile, DamageReport, Entry, spans
from cola_train.data.sources import DataSources, LoadingConfig, open_source
from cola_train.data.video import square
from tests.train.conftest import (
    numbered,
    numbers,
    spoil,
    write_demos,
    write_lerobot,
    write_lerobot_v2,
    write_video,
    write_videos,
)


@pytest.fixture(params=["lerobot", "lerobot v2.1", "hdf5", "mp4", "webm"])
def source(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "lerobot":
        return open_source(write_lerobot(tmp_path / "data", [30, 12]))
    if request.param == "lerobot v2.1":
        return open_source(write_lerobot_v2(tmp_path / "data", [30, 12]))
    if request.param == "hdf5":
        return open_source(write_demos(tmp_path / "data.hdf5", [30, 12]).parent)
    for i, length in enumerate([30, 12]):
        write_video(tmp_path / "data" / "deep" / f"{i}.{request.param}", numbered(length))
    return open_source(tmp_path / "data")


def test_metadata_tell_the_episodes(source) -> None:
    assert [entry.frames for entry in source.entries] == [30, 12]
    assert {(e.fps, e.height, e.width) for e in source.entries} == {(20.0, 48, 64)}


@pytest.mark.parametrize(
    "wanted", [range(0, 30), range(0, 1), range(29, 30), range(7, 20, 4), range(13, 28)]
)
def test_the_frames_asked_for_come_out(source, wanted: range) -> None:
    frames = source.frames(0, wanted.start, wanted.stop, wanted.step)
    assert frames.dtype == np.uint8 and frames.shape[1:] == (48, 64, 3)
    assert numbers(frames) == list(wanted)


@pytest.mark.parametrize("write", [write_lerobot, write_lerobot_v2, write_demos])
def test_actions_belong_to_their_frames(
    write: Callable[[Path, list[int]], Path], tmp_path: Path
) -> None:
    data = open_source(write(tmp_path / "data.h5", [9, 12, 6]))
    assert {entry.action_dim for entry in data.entries} == {5}
    actions = data.actions(1, 4, 7)
    assert actions.dtype == np.float32 and actions.shape == (3, 5)
    np.testing.assert_allclose(actions[:, 0], [0.04, 0.05, 0.06], atol=1e-6)
    np.testing.assert_allclose(actions[:, 1], 0.01, atol=1e-6)


def test_vp2s_robosuite_camera_masks_and_rates_are_known(tmp_path: Path) -> None:
    data = open_source(write_demos(tmp_path / "a.hdf5", [9] * 12, "agentview_shift_2_image"))
    assert [entry.key for entry in data.entries] == [f"demo_{i}" for i in range(12)]
    assert [entry.split for entry in data.entries] == ["train"] * 11 + ["test"]
    assert data.entries[0].rendering == "vp2"
    bare = open_source(write_demos(tmp_path / "b.hdf5", [9], actions=False))
    assert bare.entries[0].action_dim is None


def test_float_pixels_become_bytes(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data/demo_0/obs/camera_image"] = np.full((4, 8, 8, 3), 99.6)
    frames = open_source(tmp_path / "a.hdf5").frames(0, 0, 2)
    assert frames.dtype == np.uint8 and (frames == 100).all()


def test_frames_that_come_irregularly_are_taken_by_time(tmp_path: Path) -> None:
    import av

    path, times = tmp_path / "a.mp4", [0, 1, 2, 6, 7, 8, 9]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number, image in enumerate(numbered(len(times))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = video.read_frames(path, range(0, 10), 20)
    assert numbers(frames) == [0, 1, 2, 2, 2, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_phones_video_is_read_upright(suffix: str, tmp_path: Path) -> None:
    """Held upright, a phone stores the picture lying and a matrix in tkhd that turns it clockwise
    (x' = -y, y' = x; 16.16 fixed point numbers, the last 44 to 8 bytes of that box)."""
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 240
    path = write_video(tmp_path / f"a.{suffix}", frames)
    data = bytearray(path.read_bytes())
    end = data.index(b"tkhd") - 4 + int.from_bytes(data[data.index(b"tkhd") - 4 :][:4])
    turned = np.array([0, 1, 0, -1, 0, 0, 0, 0, 2**14]) * 2**16
    data[end - 44 : end - 8] = turned.astype(">i4").tobytes()
    path.write_bytes(data)
    shown = open_source(path).frames(0, 0, 4)
    assert shown.shape == (4, 64, 32, 3)
    assert shown[:, 4:28, 20:].min() > 200, "at the upper right"
    assert shown[:, 36:].max() < 40 and shown[:, :, :12].max() < 40


def test_an_index_is_reused_until_a_file_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_videos(tmp_path / "data", [8, 9, 10])
    opened: list[str] = []
    describe = video.describe_video

    def counted(path: Path):
        opened.append(path.name)
        return describe(path)

    monkeypatch.setattr(video, "describe_video", counted)
    first = open_source(folder)
    assert sorted(opened) == ["00.mp4", "01.mp4", "02.mp4"]
    (index,) = cache.rglob("*.json")
    assert open_source(folder).entries == first.entries and len(opened) == 3
    write_video(folder / "01.mp4", numbered(14))
    write_video(folder / "03.mp4", numbered(5))
    (folder / "02.mp4").unlink()
    assert [entry.frames for entry in open_source(folder).entries] == [8, 14, 5]
    assert sorted(opened[3:]) == ["01.mp4", "03.mp4"]
    index.write_text(index.read_text()[:40])
    assert [entry.frames for entry in open_source(folder).entries] == [8, 14, 5]
    assert not list(cache.rglob("*.tmp"))


def test_a_damaged_file_is_named_and_left_out_and_stays_so(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "data", [8, 9, 10])
    (folder / "01.mp4").write_bytes(b"no video")
    for _ in range(2):  # the second time from the index
        damage_report = DamageReport()
        with pytest.warns(UserWarning, match="01.mp4 is damaged and skipped"):
            data = open_source(folder, damage_report)
        assert [entry.frames for entry in data.entries] == [8, 10]
        assert damage_report.summary().startswith("1 damaged file(s) were skipped: ")


@pytest.mark.parametrize("suffix", ["mp4", "hdf5"])
@pytest.mark.filterwarnings("ignore:.*damaged and skipped")
def test_only_damaged_files_are_an_error(suffix: str, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.{suffix}").write_bytes(b"nothing")
    with pytest.raises(ColaWorldError, match="None of the 2 files"):
        open_source(tmp_path)


def test_nothing_to_train_on_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(ColaWorldError, match="holds nothing to train on: name a LeRobot folder"):
        open_source(tmp_path)
    write_lerobot(tmp_path / "robot", [3])
    with pytest.raises(
        ColaWorldError, match=r"LeRobot data sets .*name each, as a list: \['.*robot'\]"
    ):
        open_source(tmp_path)
    with pytest.raises(ColaWorldError, match="There is no data"):
        open_source(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["mp4", "hdf5", "lerobot"])
def test_damage_inside_is_met_on_reading_and_names_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    if kind == "mp4":
        noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
        file = spoil(write_video(path / "a.mp4", noise), 0.5, 0.9)
        data = open_source(path)
    elif kind == "hdf5":
        data = open_source(file := write_demos(path / "a.hdf5", [40, 5]))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        data = open_source(write_lerobot(path, [40, 5]))
        (file,) = path.rglob("*.mp4")
        file.write_bytes(b"no video")
    with pytest.raises(DamagedFile) as caught:
        data.frames(0, 0, 40)
    assert caught.value.file == str(file)


def test_the_middle_of_a_picture_is_resized() -> None:
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    frames[:, :, 20:60] = 200
    assert (square(frames, 20) == 200).all() and square(frames, 20).shape == (2, 20, 20, 3)
    assert square(frames[:, :, 20:60], 40).numpy().tobytes() == frames[:, :, 20:60].tobytes()


def split_of(entries: list[Entry], name: str) -> list[int]:
    return [span.episode for span in spans(entries, name, None)]


def test_demos_that_no_mask_names_are_shared_out_among_themselves(tmp_path: Path) -> None:
    import h5py

    write_demos(tmp_path / "a.hdf5", [9] * 12)
    with h5py.File(write_demos(tmp_path / "b.hdf5", [9] * 40), "r+") as file:
        del file["mask"]
    with h5py.File(write_demos(tmp_path / "c.hdf5", [9] * 3), "r+") as file:
        names = file["mask/train"][:1]
        del file["mask/train"]
        file["mask/train"] = names
    entries = open_source(tmp_path).entries
    train, test = (split_of(entries, name) for name in ("train", "test"))
    assert sorted(train + test) == list(range(55)), "every demo is in one of them"
    assert set(range(11)) | {52} <= set(train) and {11, 54} <= set(test)
    unnamed = {*range(12, 52), 53}
    assert len(unnamed & set(test)) == 2, "a twentieth of 41"


def test_masks_that_name_all_demos_or_none_hold_as_before(tmp_path: Path) -> None:
    masked = open_source(write_demos(tmp_path / "a.hdf5", [9] * 12)).entries
    assert split_of(masked, "test") == [11]
    bare = [replace(entry, split=None) for entry in masked]
    for alike in (bare, [replace(entry, split="train") for entry in masked]):
        assert split_of(alike, "test") == split_of(bare, "test") != []
        assert split_of(alike, "train") == [i for i in range(12) if i not in split_of(bare, "test")]


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation", "Validation", "val_unseen"])
@pytest.mark.parametrize("write", [write_lerobot, write_demos])
def test_what_is_held_out_by_any_usual_name_is_not_trained_on(
    write: Callable[[Path, list[int]], Path], name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "data.h5", [9] * 12)
    rename_splits(path, {"train": "0:9", name: "9:12", "part of train": "0:3"})
    entries = open_source(path).entries
    assert split_of(entries, "train") == list(range(9))
    assert split_of(entries, "test") == [9, 10, 11]


def test_a_split_for_both_is_held_out(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "data", [9] * 12)
    rename_splits(path, {"val": "9:12", "training": "0:12"})
    entries = open_source(path).entries
    assert split_of(entries, "train") == list(range(9))
    assert split_of(entries, "test") == [9, 10, 11]


def test_a_split_whose_name_does_not_tell_is_left_out_which_is_said_once(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "data", [9] * 12)
    rename_splits(path, {"train": "0:6", "unseen": "6:8", "dev": "8:9", "test": "9:12"})
    with pytest.warns(UserWarning, match="data in unseen and dev are left out") as told:
        entries = open_source(path).entries
    assert len(told) == 1
    assert split_of(entries, "train") == list(range(6))
    assert split_of(entries, "test") == [9, 10, 11]


def test_one_split_for_all_is_shared_out_whatever_its_name(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "data", [9] * 12)
    rename_splits(path, {"everything": "0:12"})
    entries = open_source(path).entries
    train, test = (split_of(entries, name) for name in ("train", "test"))
    assert sorted(train + test) == list(range(12)) and len(test) == 1


def test_what_is_all_held_out_is_not_trained_on(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "data", [9] * 3)
    rename_splits(path, {"validation": "0:3"})
    entries = open_source(path).entries
    assert split_of(entries, "train") == [] and split_of(entries, "test") == [0, 1, 2]
    with pytest.raises(ColaWorldError, match="no episodes for 'train'"):
        DataSources(str(path)).split("train", 16)


def rename_splits(path: Path, splits: dict[str, str]) -> None:
    """Gives data of ``write_lerobot`` or ``write_demos`` these splits, "FIRST:STOP"."""
    if path.is_dir():
        info = json.loads((path / "meta/info.json").read_text())
        (path / "meta/info.json").write_text(json.dumps(info | {"splits": splits}))
        return
    import h5py

    with h5py.File(path, "r+") as file:
        del file["mask"]
        for name, told in splits.items():
            file[f"mask/{name}"] = [f"demo_{i}".encode() for i in range(*map(int, told.split(":")))]


def test_a_target_rate_gives_the_stride_and_a_split_leaves_nothing_out(tmp_path: Path) -> None:
    entries = open_source(write_videos(tmp_path / "data", [40] * 6)).entries
    train, test = (spans(entries, name, fps=7) for name in ("train", "test"))
    assert {span.stride for span in train + test} == {3}
    assert {len(span) for span in train + test} == {14}
    assert sorted(p.episode for p in train + test) == list(range(6)) and len(test) == 1
    (first,), (last,) = (spans(entries[:1], name, None) for name in ("train", "test"))
    assert (first.start, first.stop, last.start, last.stop) == (0, 36, 36, 40)
    assert spans(entries, "train", 100)[0].stride == 1


def opened_at(fps: float | None, *paths: Path) -> DataSources:
    return DataSources([str(path) for path in paths], LoadingConfig(fps=fps, workers=0))


@pytest.mark.parametrize(("fps", "told"), [(14, "20"), (8, "10"), (30, "20"), (35, "20")])
@pytest.mark.parametrize("write", [write_lerobot, write_demos])
def test_a_rate_that_cannot_be_had_exactly_is_told_once_a_source(
    write: Callable[[Path, list[int]], Path], fps: float, told: str, tmp_path: Path
) -> None:
    one, other = (write(tmp_path / f"{name}.h5", [9, 9]) for name in "ab")
    sources = opened_at(fps, one, other)
    assert sources.other_rates == [
        f"2 of 2 episodes of {path} are read at {told} frames a second, the nearest whole stride "
        f"to fps={fps}."
        for path in (one, other)
    ]
    assert sources.fps == float(told)


@pytest.mark.parametrize("fps", [None, 20, 10, 5, 20.02])
def test_nothing_is_told_of_a_rate_that_is_had(fps: float | None, tmp_path: Path) -> None:
    assert opened_at(fps, write_lerobot(tmp_path / "data", [9, 9])).other_rates == []


def test_videos_of_any_rate_are_read_near_the_one_asked_for(tmp_path: Path) -> None:
    for name, fps in (("screen", 4), ("film", 24), ("phone", 30), ("web", 25)):
        write_video(tmp_path / "data" / f"{name}.mp4", numbered(20), fps=fps)
    (told,) = opened_at(10, tmp_path / "data").other_rates
    assert "3 of 4 episodes" in told and "at 4 to 12.5 frames" in told


@pytest.mark.parametrize("fps", [40, 60])
def test_a_rate_that_no_recording_comes_near_is_refused(fps: float, tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match=f"fps={fps} cannot be had .*give fps=20 or less"):
        opened_at(fps, write_lerobot(tmp_path / "data", [9, 9]))
