"""`python -m cola_train.show`: pictures and numbers of a model of a few weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import cola_train.show as cli
from cola_env.errors import ColaWorldError
from cola_train.data.clips import Clips
from cola_train.evaluation.steering import hold_codes, steer, unlike
from cola_train.trained_models import data_of
from tests.train.conftest import write_videos
from tests.train.small import moving_square, small_model


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(Path(cli.__file__).parent / "conf"), version_base=None):
        return compose("show", ["clips=2", "horizon=4", "measured=8", *overrides])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a training of one phase on videos of 20 frames a second, at 10."""
    videos = write_videos(tmp_path / "videos", [12, 12, 12])
    run = tmp_path / "run"
    small_model().save_pretrained(run / "end_to_end")
    recipe = {"data": str(videos), "fps": 10, "phases": {"end_to_end": {}}}
    OmegaConf.save(OmegaConf.create(recipe), run / "recipe.yaml")
    return run


@pytest.fixture(scope="module")
def clips() -> Clips:
    return moving_square(episodes=6, steps=8)


def test_a_run_is_all_that_has_to_be_named(run: Path) -> None:
    told = cli.show(settings(f"run={run}"))
    assert "inferred, joint (of 1,024)" in told and "Verdict: " in told
    assert f"Pictures: {run / 'show' / 'index.html'}" in told
    page = (run / "show" / "index.html").read_text()
    assert "$" not in page and "Verdict: " in page
    for picture in ("clips.png", "clips.gif", "codes_0.gif", "codes_1.gif"):
        assert picture in page
        with Image.open(run / "show" / picture) as image:
            assert getattr(image, "n_frames", 1) > 1 or picture == "clips.png"


def test_data_and_frame_rate_are_those_of_the_training_unless_given(run: Path) -> None:
    for named in (run, run / "end_to_end"):
        data = data_of(named)
        assert data.config.fps == 10 and len(data.entries) == 3
    assert data_of(run, fps=20).config.fps == 20
    with pytest.raises(ColaWorldError, match="does not say what it was trained on: give data="):
        data_of(run.parent / "videos")


def test_clips_that_are_too_short_are_told(run: Path) -> None:
    with pytest.raises(ColaWorldError, match="has the 42 frames of a clip"):
        cli.show(settings(f"run={run}", "horizon=40"))


def test_a_clip_is_imagined_under_its_own_actions_and_under_the_next_ones(clips: Clips) -> None:
    model = small_model().eval()
    found = steer(model, clips, count=3, horizon=4)
    assert found.true.shape == found.own.shape == found.other.shape == (3, 5, 64, 64, 3)
    assert torch.equal(found.own[:, 0], found.true[:, 0])
    assert found.context.shape == (3, 2, 64, 64, 3)
    assert torch.equal(found.context[:, -1].float() / 255, found.true[:, 0])


def test_the_clips_that_are_shown_look_different() -> None:
    gray = torch.tensor([10, 12, 200, 90, 11], dtype=torch.uint8)
    pictures = gray[:, None, None, None].expand(-1, 4, 4, 3)
    assert unlike(pictures, 3) == [0, 2, 3]


def test_the_codes_of_a_token_are_held_one_by_one(clips: Clips) -> None:
    context = clips.sample(2, 2, torch.Generator().manual_seed(0)).frames
    codes = torch.tensor([[3, 7], [3, 8], [3, 7], [5, 9]])
    first, second = hold_codes(small_model().eval(), context, codes, steps=2, most=2)
    assert first.codes == [3, 5] and first.shares == [0.75, 0.25]
    assert second.codes == [7, 8], "the most frequent ones"
    assert first.frames.shape == (2, 2, 3, 64, 64, 3)
    assert torch.equal(first.frames[:, 0], second.frames[:, 0]), "the same pair of codes, held"
