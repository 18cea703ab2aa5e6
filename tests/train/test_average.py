"""The mean weights of finetunings of one model."""

import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.average import average, main
from tests.models.small import small_model


def finetuned(by: float) -> ColaWorldModel:
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)
    return model


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three trainings, of which each moved all weights by another constant."""
    for name, by in (("a", 0.0), ("b", 0.1), ("c", -0.4)):
        finetuned(by).save_pretrained(tmp_path / name / "finetune")
        OmegaConf.save({"phases": {"finetune": {"steps": 3}}}, tmp_path / name / "recipe.yaml")
    return [tmp_path / name for name in "abc"]


def test_each_weight_is_the_mean_of_its_kind(runs: list[Path]) -> None:
    mean, expected = average(runs).state_dict(), finetuned(-0.1).state_dict()
    for name, value in small_model().named_parameters():
        torch.testing.assert_close(mean[name], expected[name], msg=name)
        assert not torch.equal(mean[name], value)


def test_the_command_leaves_what_a_training_leaves(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mean"
    given = ["average", f"runs=[{','.join(map(str, runs))}]", f"out={out}"]
    monkeypatch.setattr(sys, "argv", given)
    main()
    loaded = load_model(out, "cpu").state_dict()
    torch.testing.assert_close(loaded, average(runs).state_dict())
    assert len(OmegaConf.load(out / "recipe.yaml").averaged) == 3
    with pytest.raises(SystemExit, match="not empty"):
        main()


def test_only_models_of_one_kind_are_averaged(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match="at least two"):
        average(runs[:1])
    small_model(guidance_scale=2.0).save_pretrained(tmp_path / "other")
    with pytest.raises(ColaWorldError, match="other differs from .*a in guidance_scale"):
        average([runs[0], tmp_path / "other"])
