"""Training killed at any moment ends as if nothing had happened; checkpoints are kept as told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks.measurements.kill_stress import stress
from cola_env.errors import ColaWorldError
from cola_train.phases import FlowMatching, Phase
from cola_train.run_folder import TrainingCheckpoints
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.small import moving_square, small_model
from tests.train.small import phases as every_phase


def test_a_run_that_is_killed_many_times_loses_nothing(tmp_path: Path) -> None:
    report = stress(tmp_path, kills=5, longest=0.4, seed=0)
    assert report.kills == 5
    assert report.lossless, report


def warm_up(steps: int = 6) -> list[Phase]:
    learns = ["idm", "quantizer", "conditioner"]
    return [
        FlowMatching("warm_up", steps, learns, batch_size=4, clip=4, actions="latent", lr_warmup=1)
    ]


def train(
    out: Path, phases: list[Phase], device: torch.device | None = None, **config: object
) -> dict[str, torch.Tensor]:
    clips, model = moving_square(8), small_model()
    settings = TrainerConfig(log_every=1, save_seconds=0, logger="none", **config)
    Trainer(model, phases, clips, clips, out, seed=0, config=settings, device=device).run()
    return model.state_dict()


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """It keeps to the first device that a process trains on."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_training_is_the_same_again_and_resumed_on_every_device(
    real_device: torch.device, tmp_path: Path
) -> None:
    recipe = every_phase()[1:3]
    whole = train(tmp_path / "whole", recipe, real_device, keep_last=9)
    assert all(weight.device.type == real_device.type for weight in whole.values())
    again = train(tmp_path / "again", recipe, real_device, keep_last=9)
    last = recipe[-1].name
    for step in (2, 3):
        (tmp_path / "whole" / "checkpoints" / f"{last}-{step:08d}.pt").unlink()
    resumed = train(tmp_path / "whole", recipe, real_device, keep_last=9)
    for name, weight in whole.items():
        assert torch.equal(again[name], weight) and torch.equal(resumed[name], weight), name


def spoil_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("damage", [spoil_middle, cut])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    damage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = train(tmp_path, warm_up())
    history = (tmp_path / "history.jsonl").read_text()
    assert callable(damage)
    damage(tmp_path / "checkpoints" / "warm_up-00000006.pt")
    again = train(tmp_path, warm_up())
    assert "warm_up-00000006.pt is damaged" in capsys.readouterr().out
    assert all(torch.equal(again[name], weight) for name, weight in expected.items())
    assert (tmp_path / "history.jsonl").read_text() == history


def test_a_phase_with_crops_measures_the_same_when_resumed(tmp_path: Path) -> None:
    """Held-out latents are kept since an earlier phase, rounded to float16."""
    learns = ["idm", "quantizer", "conditioner"]
    common = {"batch_size": 4, "clip": 4, "actions": "latent", "lr_warmup": 1}
    cropped = FlowMatching("cropped", 2, learns, crop_scale=0.5, **common)
    recipe, settings = [*warm_up(1), cropped], {"evaluate_every": 1, "keep_last": 9}
    train(tmp_path, recipe, **settings)
    history = (tmp_path / "history.jsonl").read_text()
    for step in (2, 1):
        (tmp_path / "checkpoints" / f"cropped-{step:08d}.pt").unlink()
    train(tmp_path, recipe, **settings)
    assert (tmp_path / "history.jsonl").read_text() == history


def test_without_a_checkpoint_that_can_be_read_it_says_so(tmp_path: Path) -> None:
    train(tmp_path, warm_up(2), keep_last=1)
    for path in (tmp_path / "checkpoints").iterdir():
        cut(path)
    with pytest.raises(ColaWorldError, match="delete the folder"):
        train(tmp_path, warm_up(2))


def test_the_last_checkpoints_and_those_of_round_steps_are_kept(tmp_path: Path) -> None:
    train(tmp_path, warm_up(9), keep_last=2, keep_every=3)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"warm_up-{step:08d}.pt" for step in (3, 6, 8, 9)]


def test_checkpoints_of_other_phases_are_left_alone(tmp_path: Path) -> None:
    TrainingCheckpoints(tmp_path, ["other"]).save("other", 5, {})
    assert TrainingCheckpoints(tmp_path, ["warm_up"]).newest() is None
    assert (tmp_path / "other-00000005.pt").exists()


def test_a_checkpoint_of_another_model_is_an_error(tmp_path: Path) -> None:
    train(tmp_path, warm_up(1))
    clips, model = moving_square(8), small_model(action_dim=3)
    config = TrainerConfig(logger="none")
    with pytest.raises(ColaWorldError, match="of another model"):
        Trainer(model, warm_up(1), clips, clips, tmp_path, seed=0, config=config).run()
