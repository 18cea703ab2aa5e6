"""A run becomes a checkpoint to ship: small, loadable, with a card that tells what it measures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import cola_train.publish as cli
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.data.stream import Stream
from cola_train.publish import publish
from tests.train.conftest import write_demos, write_lerobot, write_videos
from tests.train.small import small_model

FEATURES = {
    "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
    "action": {"dtype": "float32", "shape": [5]},
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    with LeRobotWriter(folder, features=FEATURES, fps=10, robot_type="stub") as writer:
        for _ in range(3):
            frames = rng.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
            actions = rng.uniform(-1, 1, (9, 5)).astype(np.float32)
            writer.add_episode("task", {"observation.image": frames, "action": actions}, {})
        writer.close({"train": "0:2", "test": "2:3"}, rendering="fast")
    return str(folder)


def test_a_published_run_loads_and_its_card_tells_the_measures(data: str, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    torch.manual_seed(0)
    model = ColaWorldModel(
        rendering="fast",
        stdit_config={"hidden_size": 32, "depth": 1, "num_heads": 2},
        conditioner_config={"hidden_size": 32, "num_heads": 2},
    )
    model.save_pretrained(run / "finetune")
    recipe = {
        "data": data,
        "seed": 3,
        "loading": {"index": str(tmp_path / "index"), "workers": 0},
        "trainer": {"latent_cache": str(tmp_path / "latents")},
        "phases": {"pretrain": {"steps": 5}, "finetune": {"steps": 7}},
    }
    OmegaConf.save(recipe, run / "recipe.yaml")
    measures = publish(run, data, out, clips=4)
    card = (out / "README.md").read_text()
    assert f"| {measures['own']:.2f} |" in card
    assert "finetune 7" in card and "It went on" not in card
    assert "2 training episodes" in card and "of 1 held-out episodes" in card
    assert not any(str(tmp_path) in (out / f).read_text() for f in ("recipe.yaml", "config.json"))
    loaded = load_model(out, "cpu")
    assert loaded.dtype == torch.float32
    for name, weight in model.float().state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    weights = out / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 2.2 * sum(p.numel() for p in model.parameters()) + 1e5


def test_an_unfinished_run_is_refused(data: str, tmp_path: Path) -> None:
    OmegaConf.save({"phases": {"pretrain": {"steps": 5}}}, tmp_path / "recipe.yaml")
    with pytest.raises(ColaWorldError, match="No phase"):
        publish(tmp_path, data, tmp_path / "out")


def trained(folder: Path, data: Path, recipe: dict[str, Any], **settings: object) -> Path:
    """The `out` of a training of one phase on ``data``."""
    small_model(**settings).save_pretrained(folder / "end_to_end")
    recipe = {"data": str(data), "phases": {"end_to_end": {"steps": 9}}, **recipe}
    OmegaConf.save(OmegaConf.create(recipe), folder / "recipe.yaml")
    return folder


def published(run: Path, out: Path, **settings: Any) -> str:
    publish(run, None, out, **{"clips": 4, **settings})
    return (out / "README.md").read_text()


def test_videos_of_any_length_are_what_the_card_says(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", [14, 9, 12, 20])
    run = trained(tmp_path / "run", videos, {}, rendering="video")
    card = published(run, tmp_path / "out")
    assert "A world model of video at 64 px, conditioned on latent actions." in card
    assert 'gym.make("ColaWorld-Own-v0", checkpoint=folder, action_mode="latent")' in card
    assert "3 training episodes.\n" in card and "4 clips of 4 frames of 1 held-out" in card
    assert "adapter" not in card


@pytest.mark.parametrize("conditioning", ["latent", "direct"])
def test_demonstrations_of_any_length_are_measured_with_their_actions(
    tmp_path: Path, conditioning: str
) -> None:
    demos = write_demos(tmp_path / "demos.hdf5", [14, 9, 12])
    run = trained(tmp_path / "run", demos, {}, rendering="vp2", conditioning=conditioning)
    card = published(run, tmp_path / "out")
    assert "A world model of RoboDesk at 64 px (vp2 rendering)" in card
    assert ("real actions through the adapter" in card) is (conditioning == "latent")
    bare = write_videos(tmp_path / "videos", [9, 9])
    if conditioning == "direct":
        with pytest.raises(ColaWorldError, match="held-out actions of 5 dimensions; .* has none"):
            publish(run, str(bare), tmp_path / "out")


def test_measures_are_at_the_frame_rate_of_the_training(tmp_path: Path) -> None:
    data = write_lerobot(tmp_path / "data", [14, 14, 14])
    run = trained(tmp_path / "run", data, {"fps": 10}, rendering="fast")
    assert "2 training episodes at 10 frames a second." in published(run, tmp_path / "out")
    with pytest.raises(ColaWorldError, match="has the 8 frames of a clip"):
        published(run, tmp_path / "out", length=8)


def test_training_episodes_are_counted_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    loaded = Stream.loaded

    def note(stream: Stream) -> Stream:
        read.extend(span.episode for span in stream.spans)
        return loaded(stream)

    monkeypatch.setattr(Stream, "loaded", note)
    data = write_lerobot(tmp_path / "data", [9, 9, 9, 9])
    run = trained(tmp_path / "run", data, {"max_episodes": 2}, rendering="fast")
    card = published(run, tmp_path / "out")
    assert read == [3]
    assert "3 training episodes, of each source at most the first 2" in card


def test_the_card_says_what_a_training_went_on_from(tmp_path: Path) -> None:
    data = write_lerobot(tmp_path / "data", [9, 9, 9])
    before = {
        "phases": {name: {"steps": i} for i, name in enumerate(("autoencoder", "pretrain", "late"))}
    }
    first = trained(tmp_path / "first", data, before)
    for folder, told in (
        (first / "pretrain", "It went on from a model of autoencoder 0, pretrain 1."),
        (tmp_path / "nowhere" / "model", "It went on from another model."),
    ):
        run = trained(tmp_path / "run", data, {"init": str(folder)}, rendering="fast")
        card = published(run, tmp_path / "out")
        assert f"Optimiser steps: end_to_end 9. {told} The full" in card
        assert str(tmp_path) not in card


def test_what_is_wrong_is_told_in_a_sentence(tmp_path: Path) -> None:
    for given, told in (
        (["data=x"], "Give out=FOLDER and run=FOLDER."),
        ([f"run={tmp_path}", "out=o"], f"No phase of {tmp_path} is finished yet"),
    ):
        with initialize_config_dir(str(Path(cli.__file__).parent / "conf"), version_base=None):
            config = compose("publish", given)
        with pytest.raises(SystemExit, match=told):
            cli.main.__wrapped__(config)
