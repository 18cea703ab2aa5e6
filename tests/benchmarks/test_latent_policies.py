"""The study of policies from video and few labelled actions, with the real RoboDesk."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks import latent_policies
from benchmarks.latent_policies import Study, draw, judge, rows, table
from benchmarks.vp2_protocol.results import wilson
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy
from tests.train.demonstrated import write_demonstrations
from tests.train.small import small_model

pytest.importorskip("robodesk", reason="robodesk is not installed")
CONF = Path(latent_policies.__file__).parent / "conf"


def settings(folder: Path, *more: str) -> DictConfig:
    given = [
        f"video={folder / 'data'}", f"labelled={folder / 'data'}", f"model={folder / 'model'}",
        f"out={folder / 'out'}", "device=cpu", "tasks=[push_red,open_slide]", "counts=[4]",
        "latent={steps:2,width:8,held_out:0.1}", "real={steps:2,width:8,held_out:0.1}",
        "pairs=2", "episode_steps=2",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("latent_policies", [*given, *more])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_demonstrations(tmp_path / "data", action_dim=5)
    small_model().save_pretrained(tmp_path / "model")
    return tmp_path


def test_every_arm_learns_is_judged_and_goes_on(folder: Path) -> None:
    study = Study(settings(folder))
    labels = ["labels alone", "latent actions, decoded", "latent actions, finetuned"]
    assert [policy.arm.label for policy in study.policies] == labels
    for policy in study.policies[:2]:
        judge(study, policy)
    assert [row["arm"] for row in rows(study)] == labels[:2], "what has been played"
    before = study.policies[0].record.read_bytes()
    for policy in study.policies:
        judge(study, policy)
    assert study.policies[0].record.read_bytes() == before
    for policy in study.policies:
        assert {task: len(s) for task, s in policy.solved().items()} == dict.fromkeys(
            study.tasks, 2
        )
        card = json.loads((policy.folder / "late" / "model_card.json").read_text())
        assert card["data"]["episodes"] == 4
        assert (card["training"]["init"] is None) == (policy.arm.label == "labels alone")
    found = rows(study)
    assert [row["episodes"] for row in found] == [4, 4, 4]
    assert (found[0]["ci_low"], found[0]["ci_high"]) == wilson(found[0]["solved"], 4)
    draw(found, folder / "figure.png")
    assert (folder / "figure.png").stat().st_size > 5_000
    assert table(study, found).row_count == 3


def test_a_training_that_was_stopped_while_it_wrote_its_policy_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(policy: VisualPolicy, folder: Path) -> None:
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"a part")
        raise KeyboardInterrupt

    study = Study(settings(folder))
    (policy, *_) = study.policies
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(VisualPolicy, "save_pretrained", stopped)
        judge(study, policy)
    judge(study, policy)
    assert policy.solved().keys() == set(study.tasks)


def test_settings_that_do_not_fit_are_told_early(folder: Path) -> None:
    Study(settings(folder))
    with pytest.raises(ColaWorldError, match="other settings"):
        Study(settings(folder, "real.steps=3"))
    with pytest.raises(ColaWorldError, match="must be random or latent"):
        Study(settings(folder, "+arms.other={init:policy,learns:all}"))
    with pytest.raises(ColaWorldError, match="arms.other must be {init: ..., learns: ...}"):
        Study(settings(folder, "+arms.other={init:latent}"))
    with pytest.raises(ColaWorldError, match="counts must be a whole number of at least 1"):
        Study(settings(folder, "counts=[0]"))
