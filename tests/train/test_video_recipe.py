"""`python -m cola_train` on data without actions and on mixtures, with models of a few weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train import recipes
from cola_train.phases import FlowMatching, Phase
from tests.train.conftest import numbered, write_demos, write_video, write_videos
from tests.train.runs import CONF, settings, weights
from tests.train.small import Killed


@pytest.mark.filterwarnings("ignore:.*damaged and skipped")
def test_a_folder_of_videos_trains_a_latent_action_world_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_videos(tmp_path / "videos", [12, 15, 9, 11])
    (folder / "broken.mp4").write_bytes(b"no video")
    write_video(folder / "cinema.mp4", numbered(14), fps=24)
    out, cache = tmp_path / "run", tmp_path / "latents"
    config = settings(
        "recipe=video_mini", f"data={folder}", f"out={out}", "loading.memory_gb=0",
        "loading.workers=0", f"trainer.latent_cache={cache}", "fps=10",
    )  # fmt: skip
    cli.train(config)
    told = capsys.readouterr().out
    assert "1 damaged file(s) were skipped: " in told
    assert told.count("fps=10") == 1, "the others have 20 frames a second"
    assert f"1 of 5 episodes of {folder} are read at 12 frames a second, the nearest" in told
    assert "Training on " in told and "warm_up 2, end_to_end 2" in told
    assert f"the model is {out / 'end_to_end'}." in told and f"cola_train.show run={out}" in told
    model = ColaWorldModel.from_pretrained(out / "end_to_end")
    assert model.config.rendering == "video"
    assert len(list(cache.glob("*.npy"))) == 2, "of the training and of the held-out videos"
    measured = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert "gap" in measured[-1] and measured[-1]["phase"] == "end_to_end"


def test_phases_that_need_actions_say_so_before_anything_runs(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "videos", [12, 15])
    config = settings("recipe=joint_mini", f"data={folder}", f"out={tmp_path / 'run'}")
    told = "no actions, which the phase.s. adapter, finetune need: .*order=.autoencoder,pretrain,"
    with pytest.raises(ColaWorldError, match=told):
        cli.train(config)
    assert not (tmp_path / "run").exists()


def test_the_adapter_draws_only_from_what_has_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = write_videos(tmp_path / "videos", [12, 15])
    demos = write_demos(tmp_path / "demos.hdf5", [9, 10, 11])
    drawn: list[tuple[bool, int]] = []
    draw = Phase.draw

    def spy(phase, data, generator, count):
        batch = draw(phase, data, generator, count)
        drawn.append((phase.needs_actions, batch.actions.shape[-1]))
        return batch

    monkeypatch.setattr("cola_train.phases.phase.Phase.draw", spy)
    config = settings(
        "recipe=joint_mini", f"data={{{videos}: 1, {demos}: 1}}", f"out={tmp_path / 'run'}"
    )
    config.phases.finetune.steps = 8
    cli.train(config)
    assert {size for needs, size in drawn if needs} == {5}
    assert len([needs for needs, _ in drawn if needs]) == 10
    assert 0 in {size for needs, size in drawn if not needs}


def test_a_quick_try_scales_all_that_is_counted_in_steps() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", ["recipe=video_mini", "data=x", "out=x", "steps_scale=0.1"])
    quick = recipes.scaled(config)
    assert [quick.phases[name].steps for name in config.order] == [800, 150, 100, 600]
    warm_up = quick.phases.warm_up
    assert (warm_up.continuous_steps, warm_up.restart_steps) == (70, 30)
    assert quick.steps_scale == 1 and config.phases.warm_up.steps == 1000


def test_a_warm_up_that_ends_before_it_has_codes_is_told() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", ["recipe=video_mini", "data=x", "phases.warm_up.steps=400"])
    with pytest.raises(ColaWorldError, match="steps=400 ends before the codebook.*steps_scale"):
        recipes.make_phase(config, "warm_up")


def test_clips_longer_than_the_videos_are_told_early(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "videos", [12, 3])
    config = settings("recipe=video_mini", f"data={folder}", f"out={tmp_path / 'run'}")
    with pytest.raises(ColaWorldError, match="has the 4 frames of a clip: give longer"):
        cli.train(config)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_on_streamed_videos_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    folder = write_videos(tmp_path / "videos", [12, 15, 9, 11])

    def run(name: str) -> None:
        config = settings(
            "recipe=video_mini", f"data={folder}", f"out={tmp_path / name}", "loading.memory_gb=0",
            f"loading.workers={workers}", "trainer.save_seconds=0", "order=[pretrain,warm_up]",
        )  # fmt: skip
        cli.train(config)

    run("whole")
    loss, calls = FlowMatching.loss, 0

    def killed(self, *args):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return loss(self, *args)

    monkeypatch.setattr(FlowMatching, "loss", killed)
    with pytest.raises(Killed):
        run("killed")
    run("killed")
    expected = weights(tmp_path / "whole" / "warm_up")
    for name, weight in weights(tmp_path / "killed" / "warm_up").items():
        assert torch.equal(weight, expected[name]), name


def test_the_papers_mixture_has_its_shares() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", ["mixture=paper", "out=x"])
    paths = [name for name in OmegaConf.missing_keys(config) if name.endswith(".path")]
    assert len(paths) == len(config.data) == 11
    weights = {name: part.weight for name, part in config.data.items() if name}
    total = sum(weights.values())
    assert weights.pop("open_x_embodiment") / total == pytest.approx(0.3)
    assert weights.pop("agibot") / total == pytest.approx(0.2)
    assert sum(weights.values()) / total == pytest.approx(0.5)


@pytest.mark.parametrize("size", [5, 6])
def test_a_video_model_is_taught_real_actions_of_any_size(tmp_path: Path, size: int) -> None:
    init, demos = tmp_path / "video", tmp_path / "demos.hdf5"
    model = recipes.build_model(settings("recipe=video_mini", "data=x"), "video")
    assert model.action_modes == ("latent",)
    model.save_pretrained(init)
    write_demos(demos, [9, 10, 11], size=size)
    out = tmp_path / "run"
    cli.train(
        settings(
            "recipe=joint_mini", f"data={demos}", f"init={init}", "start=adapter", f"out={out}"
        )
    )
    taught = ColaWorldModel.from_pretrained(out / "finetune")
    assert taught.config.action_dim == size and taught.action_modes == ("real", "latent")
    before, after = weights(init), weights(out / "finetune")
    assert torch.equal(before["idm.embed.weight"], after["idm.embed.weight"])
