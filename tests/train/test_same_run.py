"""A folder goes on with the training that was begun in it, and with no other."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_train import recipes
from cola_train.preconditions import check_same_run
from cola_train.trained_models import RECIPE
from tests.train.conftest import write_videos
from tests.train.runs import CONF, settings, weights
from tests.train.small import Killed


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains two phases on a few videos; ``phase``: settings of end_to_end."""
    videos = write_videos(tmp_path / "videos", [12, 15])
    monkeypatch.setattr(cli.Trainer, "_measures", lambda *_: {})

    def train(*overrides: str, order: str = "pretrain,warm_up", name: str = "run", **phase: object):
        config = settings(
            "recipe=video_mini", f"data={videos}", f"out={tmp_path / name}", "fps=10",
            "trainer.logger=none", "trainer.save_seconds=0", f"order=[{order}]", *overrides,
        )  # fmt: skip
        config.phases.end_to_end.update(phase)
        cli.train(config)
        return tmp_path / name

    return train


def test_other_settings_are_refused_and_named_with_both_values(run) -> None:
    out = run()
    before, recipe = weights(out / "warm_up"), (out / RECIPE).read_text()
    for change, told in {
        "seed=3": "seed: 0 there, 3 here",
        "fps=20": "fps: 10 there, 20 here",
        "init=elsewhere": "init: None there, elsewhere here",
        "max_episodes=1": "max_episodes: None there, 1 here",
        "phases.warm_up.lr=0.1": r"phases.warm_up.lr: 0.0005 there, 0.1 here",
        "trainer.max_gradient_norm=2": "max_gradient_norm: 1.0 there, 2 here",
        "+model.timestep_shift=true": "model.timestep_shift: None there, True here",
        "data=other": r"data: .*videos there, other here",
    }.items():
        with pytest.raises(ColaWorldError, match=f"{told}.*choose another out=FOLDER"):
            run(change)
    longer = OmegaConf.to_container(OmegaConf.load(out / RECIPE))
    longer["phases"]["warm_up"]["steps"] = 5
    with pytest.raises(ColaWorldError, match="phases.warm_up.steps: 2 there, 5 here"):
        check_same_run(out, longer)
    assert (out / RECIPE).read_text() == recipe
    assert all(torch.equal(now, before[key]) for key, now in weights(out / "warm_up").items())


def test_another_order_of_what_has_begun_is_refused(run) -> None:
    run()
    for order in ("warm_up", "autoencoder,pretrain,warm_up", "pretrain"):
        with pytest.raises(ColaWorldError, match=r"order: \['pretrain', 'warm_up'\] there, \["):
            run(order=order)


def test_what_changes_no_weight_may_change(run, capsys: pytest.CaptureFixture[str]) -> None:
    out = run()
    before = weights(out / "warm_up")
    run(
        "threads=2", "trainer.log_every=1", "trainer.keep_last=5", "trainer.collapse.stop=true",
        "loading.workers=0", "loading.memory_gb=0",
    )  # fmt: skip
    assert "Going on from warm_up, step 2." in capsys.readouterr().out
    assert all(torch.equal(now, before[key]) for key, now in weights(out / "warm_up").items())


def test_phases_that_have_not_begun_may_be_added_and_changed(run) -> None:
    """What comes out is what the longer training would have made at once."""
    added = {"order": "pretrain,warm_up,end_to_end", "lr": 1e-3}
    run(name="killed")
    longer = run(name="killed", **added)
    expected = weights(run(name="whole", **added) / "end_to_end")
    assert all(
        torch.equal(now, expected[key]) for key, now in weights(longer / "end_to_end").items()
    )


def test_a_killed_training_says_where_it_goes_on(
    run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = cli.Trainer._evaluate

    def killed(self, phase, *rest):
        if phase.name == "warm_up":
            raise Killed
        return evaluate(self, phase, *rest)

    monkeypatch.setattr(cli.Trainer, "_evaluate", killed)
    with pytest.raises(Killed):
        run()
    monkeypatch.setattr(cli.Trainer, "_evaluate", evaluate)
    assert "Going on" not in capsys.readouterr().out
    run()
    assert "Going on from warm_up, step 1." in capsys.readouterr().out


@pytest.mark.parametrize("recipe", ["joint_mini", "joint_paper", "two_stage_mini", "distill_paper"])
def test_the_shipped_recipes_go_on_from_what_they_store(recipe: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(
            "train", [f"recipe={recipe}", "data={videos/a: 1, b: 2.5}", f"out={tmp_path}"]
        )
    stored = recipes.stored_recipe(config)
    OmegaConf.save(stored, tmp_path / RECIPE)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{config.order[-1]}-00000001.pt").touch()
    check_same_run(tmp_path, stored)
