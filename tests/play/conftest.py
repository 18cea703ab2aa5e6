"""What is played with: a small random model of videos, and the shipped dream with its twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cola_train.play.session import PlayConfig, Session
from tests.train.conftest import write_videos
from tests.train.small import small_model

TASK = "push_green"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training on videos, of a model of random weights."""
    folder = tmp_path_factory.mktemp("own")
    videos = write_videos(folder / "videos", [30, 30, 30])
    small_model().save_pretrained(folder / "run" / "end_to_end")
    recipe = {"data": str(videos), "fps": 10, "phases": {"end_to_end": {}}}
    OmegaConf.save(OmegaConf.create(recipe), folder / "run" / "recipe.yaml")
    return folder / "run"


@pytest.fixture
def own(own_run: Path, tmp_path: Path) -> PlayConfig:
    """Real actions in the dream of that model, which has no twin."""
    return PlayConfig(env="own", checkpoint=str(own_run), out=str(tmp_path / "out"))


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The shipped dream beside the real RoboDesk."""
    pytest.importorskip("robodesk", reason="the twin needs RoboDesk")
    out = str(tmp_path_factory.mktemp("out"))
    session = Session(PlayConfig(task=TASK, out=out))
    yield session
    session.close()
