"""The videos for the trial of docs/own_video.md."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measurements.suite_videos import ACTED, film, main
from cola_train.data.sources import DataSources


def test_an_action_leads_from_each_frame_to_the_next() -> None:
    frames, actions = film(ACTED, 0, np.random.default_rng(0))
    assert frames.dtype == np.uint8 and frames.shape[1:] == (ACTED.height, ACTED.width, 3)
    assert 5 * ACTED.fps <= len(frames) <= 8 * ACTED.fps + 1
    assert actions.shape == (len(frames) - 1, 6) and np.abs(actions).max() <= 1


def test_both_kinds_of_files_are_training_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["suite_videos", str(tmp_path), "--clips", "2"])
    main()
    videos = DataSources(str(tmp_path / "videos"))
    assert len(videos.entries) == 2 and not videos.has_actions
    assert DataSources(str(tmp_path / "cheetah.hdf5")).action_dim == 6
