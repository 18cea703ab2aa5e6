"""The models that a run can name: copies, ensembles, the user's own, planners by task."""

import pytest
import torch

from benchmarks.vp2_protocol.dynamics import CopyDynamics, VideoPredictionDynamics
from benchmarks.vp2_protocol.methods import make_methods
from benchmarks.vp2_protocol.named_models import NamedModels, members, names
from benchmarks.vp2_protocol.run import Run
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import ROBODESK

CPU = torch.device("cpu")
MODULE = """
import numpy as np

class Still:
    def __call__(self, batch):
        return {"rgb": np.repeat(batch["video"][:, -1:], batch["actions"].shape[1], 1)}
"""


@pytest.fixture
def own_model(tmp_path, monkeypatch) -> dict[str, str]:
    (tmp_path / "still_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return {"_target_": "still_models.Still"}


@pytest.fixture
def method(configure, tmp_path):
    """Make the method of one spec for push_red and open_slide."""

    def make(spec, *overrides: str):
        config = configure(tmp_path / "run", *overrides)
        models = NamedModels(ROBODESK, {"it": spec}, CPU)
        tasks = ["push_red", "open_slide"]
        (made,) = make_methods("it", spec, models, config, tasks, "fast", CPU)
        return made

    return make


def test_models_of_ones_own_need_a_label():
    own = {"_target_": "a.B"}
    assert names({"mine": own}) == names([{"mine": own}]) == {"mine": own}
    assert names(["cola", {"mine": own}]) == {"cola": "cola", "mine": own}
    assert list(names(None)) == ["cola", "direct", "random"]
    with pytest.raises(ColaWorldError, match="needs a label"):
        names([own])
    with pytest.raises(ColaWorldError, match="label of its own"):
        names(["mine:folder", {"mine": own}])


def test_a_plus_joins_models_unless_it_is_in_a_folders_name(tmp_path):
    assert members("first+second") == ["first", "second"]
    (tmp_path / "a+b").mkdir()
    assert members(str(tmp_path / "a+b")) == [str(tmp_path / "a+b")]


def test_planners_differ_by_task(method):
    made = method("copy", "planner_by_task={open_slide:{num_samples:7,horizon:4}}")
    assert made.planners["push_red"].num_samples == 3
    assert (made.planners["open_slide"].num_samples, made.planners["open_slide"].horizon) == (7, 4)
    assert made.settings["planner_by_task"] == {"open_slide": {"num_samples": 7, "horizon": 4}}
    assert "planner_by_task" not in method("copy").settings


def test_an_ensemble_has_all_its_members_and_says_how_they_are_combined(method, tiny_model):
    made = method(f"{tiny_model}+{tiny_model}", "ensemble.how=cautious")
    assert len(made.make_dynamics(None)) == 2
    assert made.settings["ensemble"] == {"how": "cautious", "penalty": 1.0}
    first, second = made.settings["weights"].split("+")
    assert first == second
    assert "ensemble" not in method(str(tiny_model)).settings
    with pytest.raises(ColaWorldError, match="'copy' cannot be in the ensemble"):
        method(f"{tiny_model}+copy")


def test_copies_and_models_of_ones_own_are_what_they_say(method, own_model):
    (copy,) = method("copy").make_dynamics(None)
    assert isinstance(copy, CopyDynamics)
    made = method(own_model)
    (foreign,) = made.make_dynamics(None)
    assert isinstance(foreign, VideoPredictionDynamics)
    assert made.settings["model"] == own_model and made.settings["checkpoint"] is None


def test_a_run_plays_a_model_of_ones_own_as_it_plays_the_same_of_ours(
    configure, own_model, tmp_path
):
    """A callable that copies the last frame plans exactly as model=copy."""
    run = Run(configure(tmp_path / "run", "model=[copy,{mine:{_target_:still_models.Still}}]"))
    run.play(lambda record: None)
    copy, mine = (run.folder.load(label, "push_red", 0) for label in ("copy", "mine"))
    assert copy.costs == mine.costs and copy.steps == mine.steps == len(copy.costs)
    assert copy.imagined_psnr == mine.imagined_psnr and copy.imagined_psnr is not None


def test_a_model_of_other_pixels_than_the_goals_is_told_of_at_once(method, tmp_path):
    ColaWorldModel(image_size=32, stdit_config={"input_size": 4}).save_pretrained(tmp_path)
    with pytest.raises(ColaWorldError, match="64 x 64 pixels, the model .* imagines 32 x 32"):
        method(str(tmp_path))


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"action_dim": 0}, "trained on video alone.*recipe=joint_mini.*start=adapter"),
        ({"action_dim": 7}, "actions of 7 dimensions, this world 5: choose env="),
    ],
)
def test_a_model_that_cannot_take_the_worlds_actions_is_told_of_at_once(
    method, tmp_path, saved, told
):
    ColaWorldModel(rendering="fast", **saved).save_pretrained(tmp_path)
    with pytest.raises(ColaWorldError, match=told) as error:
        method(str(tmp_path))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
