"""Drawing from streams and mixtures: shares, determinism, damage, actions, reader processes."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_train.data.batches import batches, step_generator
from cola_train.data.clips import Clips
from cola_train.data.mixture import Mixture, mixture
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.data.stream import Stream
from tests.train.conftest import (
    numbers,
    spoil,
    write_demos,
    write_lerobot,
    write_video,
    write_videos,
)

ON_DEMAND = LoadingConfig(memory_gb=0, workers=0)


def flat(value: int, actions: int = 0) -> Clips:
    return Clips(torch.full((3, 6, 8, 8, 3), value, dtype=torch.uint8), torch.zeros(3, 5, actions))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shares_follow_the_weights() -> None:
    parts = [flat(10), flat(20), flat(30)]
    data = mixture(parts, [54, 36, 90])
    for drawn in (data.sample(4000, 3, generator()).frames, data.sample_frames(4000, generator())):
        values = drawn.flatten(1)[:, 0]
        for value, share in ((10, 0.3), (20, 0.2), (30, 0.5)):
            assert float((values == value).float().mean()) == pytest.approx(share, abs=0.025)
        assert values[:20].unique().numel() > 1, "not sorted by parts"


def test_weights_may_name_paths_or_groups_of_them(tmp_path: Path) -> None:
    a, b, c = (str(write_videos(tmp_path / n, [10, 10, 10])) for n in "abc")
    data = DataSources({a: 1, "both": {"path": [b, c], "weight": 3}}, ON_DEMAND).split("train", 16)
    assert isinstance(data, Mixture)
    assert list(data.weights) == [1, 1.5, 1.5]
    with pytest.raises(ColaWorldError, match="The weight of .* is 0: give it a positive number"):
        DataSources({a: 0}, ON_DEMAND)
    with pytest.raises(ColaWorldError, match="both has no weight"):
        DataSources({"both": {"path": [b, c]}}, ON_DEMAND)


def test_a_list_is_drawn_from_in_proportion_to_its_frames(tmp_path: Path) -> None:
    paths = [
        str(write_lerobot(tmp_path / "a", [9, 9, 9])),
        str(write_lerobot(tmp_path / "b", [9, 9])),
    ]
    joined = DataSources(paths).split("train", 48)
    assert isinstance(joined, Clips) and joined.episodes == 3, "as one, in memory"
    assert joined.actions.shape == (3, 8, 5)
    mixed = DataSources(paths, ON_DEMAND).split("train", 48)
    assert isinstance(mixed, Mixture) and list(mixed.weights) == [18, 9]


def test_small_sources_are_kept_in_memory_and_big_ones_decoded(tmp_path: Path) -> None:
    small = str(write_demos(tmp_path / "small.hdf5", [8, 8, 8]))
    big = str(write_videos(tmp_path / "big", [40, 30, 20, 40]))
    budget = LoadingConfig(memory_gb=20 * 16 * 16 * 3 / 1e9, workers=2)
    data = DataSources([small, big], budget).split("train", 16)
    assert isinstance(data, Mixture) and data.workers == 2
    kept, streamed = data.parts
    assert isinstance(kept, Clips) and kept.episodes == 2
    assert isinstance(streamed, Stream) and streamed.memory is None
    assert DataSources(big).split("train", 16).workers == 0, "ragged episodes fit in memory"


@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_a_rate_thins_frames_and_takes_the_mean_of_actions(tmp_path: Path, memory: float) -> None:
    path = str(write_demos(tmp_path / "a.hdf5", [31, 25, 9]))
    data = DataSources(path, LoadingConfig(fps=5, memory_gb=memory)).split("train", 16)
    batch = data.sample(16, 3, generator())
    assert batch.frames.shape == (16, 3, 16, 16, 3) and batch.actions.shape == (16, 2, 5)
    for frames, actions in zip(batch.frames, batch.actions, strict=True):
        first = numbers(frames.numpy())[0]
        assert first % 4 == 0
        assert numbers(frames.numpy()) == [first, first + 4, first + 8]
        expected = [(first + 1.5) / 100, (first + 5.5) / 100]
        np.testing.assert_allclose(actions[:, 0], expected, atol=1e-6)


def test_memory_and_disk_give_the_same_clips(tmp_path: Path) -> None:
    path = str(write_videos(tmp_path / "a", [20, 30, 25]))
    on_disk = DataSources(path, ON_DEMAND).split("train", 16)
    in_memory = DataSources(path).split("train", 16)
    for length in (2, 9):
        drawn = [data.sample(5, length, generator(1)).frames for data in (on_disk, in_memory)]
        assert torch.equal(*drawn)


def test_a_part_without_actions_is_left_out_where_they_are_needed(tmp_path: Path) -> None:
    videos = str(write_videos(tmp_path / "videos", [10, 12, 9]))
    demos = str(write_demos(tmp_path / "demos.hdf5", [10, 11, 12]))
    sources = DataSources({videos: 1, demos: 1}, ON_DEMAND)
    assert sources.has_actions and sources.action_dim == 5 and sources.rendering == "vp2"
    data = sources.split("train", 16)
    assert data.sample(8, 3, generator()).actions.shape == (8, 2, 0)
    acted = data.with_actions()
    assert acted.name == demos and acted.sample(8, 3, generator()).actions.shape == (8, 2, 5)
    alone = DataSources(videos, ON_DEMAND)
    assert not alone.has_actions and alone.action_dim is None and alone.rendering == "video"


def test_rendering_profiles_do_not_mix(tmp_path: Path) -> None:
    lerobot = str(write_lerobot(tmp_path / "a", [9, 9], rendering="fast"))
    demos = str(write_demos(tmp_path / "b.hdf5", [9, 9]))
    with pytest.raises(ColaWorldError, match="cannot be mixed"):
        DataSources([lerobot, demos])


def test_damage_met_while_drawing_is_told_once_and_replaced(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "a", [12] * 8)
    sources = DataSources(str(folder), ON_DEMAND)
    data = sources.split("train", 16)
    for name in ("01.mp4", "02.mp4"):
        (folder / name).write_bytes(b"gone")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        drawn = [data.sample(8, 4, generator(i)).frames for i in range(6)]
        again = [data.sample(8, 4, generator(i)).frames for i in range(6)]
    assert all(frames.shape == (8, 4, 16, 16, 3) for frames in drawn)
    damaged = {Path(file).name for file in sources.damage_report.files}
    assert damaged and damaged <= {"01.mp4", "02.mp4"} and len(told) == len(damaged)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True)), "forgets nothing"
    assert f"{len(damaged)} damaged file(s)" in sources.damage_report.summary()


def test_the_whole_part_of_a_truncated_video_is_used(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    for name in "abc":
        spoil(write_video(tmp_path / "data" / f"{name}.mp4", noise), 0.6, 0.9)
    sources = DataSources(str(tmp_path / "data"), ON_DEMAND)
    with pytest.warns(UserWarning, match="mp4 is damaged and skipped"):
        batch = sources.split("train", 16).sample(12, 2, generator())
    assert batch.frames.shape[0] == 12 and len(sources.damage_report.files) == 2


@pytest.mark.filterwarnings("ignore:.*damaged and skipped")
def test_when_nothing_can_be_read_any_more_it_is_an_error(tmp_path: Path) -> None:
    good = str(write_demos(tmp_path / "good.hdf5", [10, 11, 12]))
    bad = write_videos(tmp_path / "bad", [10] * 4)
    data = DataSources({good: 1, str(bad): 3}, ON_DEMAND).split("train", 16)
    assert isinstance(data, Mixture)
    for file in bad.iterdir():
        file.write_bytes(b"gone")
    assert data.sample(8, 4, generator()).frames.shape[0] == 8, "the others take its share"
    with pytest.raises(ColaWorldError, match="No clip of 4 frames of .*3 damaged file"):
        data.parts[1].sample(1, 4, generator())


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_drawn_depends_on_the_step_alone(tmp_path: Path, workers: int) -> None:
    path = str(write_videos(tmp_path / "a", [20, 30, 25]))
    data = DataSources(path, LoadingConfig(memory_gb=0, workers=workers)).split("train", 16)

    def draw(data, generator):
        return data.sample(3, 4, generator)

    whole = [batch.frames for batch in batches(data, draw, 7, "phase", range(6))]
    rest = [batch.frames for batch in batches(data, draw, 7, "phase", range(4, 6))]
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))
    expected = data.sample(3, 4, step_generator(7, "phase", 5, "data")).frames
    assert torch.equal(whole[5], expected)
    assert not torch.equal(whole[0], whole[1])
    other = next(batches(data, draw, 8, "phase", range(1))).frames
    assert not torch.equal(whole[0], other)


def test_readers_tell_of_damage_and_of_the_end(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "a", [12] * 4)
    sources = DataSources(str(folder), LoadingConfig(memory_gb=0, workers=2))
    data = sources.split("train", 16)
    used = sorted({data.entry(span).file for span in data.spans})
    Path(used[0]).write_bytes(b"gone")

    def draw(data, generator):
        return data.sample(8, 4, generator)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(list(batches(data, draw, 0, "phase", range(6)))) == 6
    assert len(told) == 1 and list(sources.damage_report.files) == [used[0]]
    for file in used:
        Path(file).write_bytes(b"gone")
    with pytest.warns(UserWarning), pytest.raises(ColaWorldError, match="can be read: 3 damaged"):
        list(batches(data, draw, 0, "phase", range(2)))
