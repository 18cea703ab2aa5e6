"""Where logs go: history.jsonl always, and TensorBoard, Weights & Biases or nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cola_env.errors import ColaWorldError
from cola_train.phases import Reconstruction
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.small import moving_square, small_model

WANDB = """
import json, pathlib
calls = pathlib.Path(__file__).with_name("calls.jsonl")
def note(**call):
    with calls.open("a") as file: file.write(json.dumps(call) + "\\n")
class Run:
    def log(self, values, step=None, **kwargs): note(step=step, **values)
    def finish(self): note(finished=True)
def init(**settings):
    note(**settings)
    return Run()
"""


def run(out: Path, logger: str) -> None:
    clips = moving_square(4)
    phases = [
        Reconstruction(name, 2, ["autoencoder"], batch_size=2, lr_warmup=1)
        for name in ("first", "second")
    ]
    config = TrainerConfig(log_every=1, logger=logger)
    Trainer(small_model(), phases, clips, clips, out, seed=0, config=config).run()


def test_tensorboard_has_every_phase_on_one_axis_of_steps(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("first/loss")] == [1, 2]
    assert [event.step for event in events.Scalars("second/loss")] == [3, 4]
    logged = [json.loads(line) for line in (tmp_path / "history.jsonl").open()]
    assert events.Scalars("second/loss")[1].value == pytest.approx(
        [line["loss"] for line in logged if "loss" in line][-1]
    )


def test_without_a_logger_there_is_the_history_alone(tmp_path: Path) -> None:
    run(tmp_path, "none")
    assert not (tmp_path / "tensorboard").exists()
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 6


def test_weights_and_biases_by_config(tmp_path: Path) -> None:
    """With a stand-in for the package, which notes what it is told."""
    package, about = tmp_path / "wandb", tmp_path / "wandb-1.0.dist-info"
    for folder in (package, about):
        folder.mkdir()
    (package / "__init__.py").write_text(WANDB)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 1.0\n")
    program = (
        f"import sys; sys.path.append({str(tmp_path)!r}); from pathlib import Path; "
        f"from tests.train.test_loggers import run; run(Path({str(tmp_path / 'mine')!r}), 'wandb')"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=300)
    calls = (package / "calls.jsonl").read_text().splitlines()
    begin, *logs, end = map(json.loads, calls)
    assert begin["project"] == "colaworld" and begin["name"] == "mine" and begin["id"]
    assert [log["step"] for log in logs if "second/loss" in log] == [3, 4]
    assert end == {"finished": True}


def test_a_missing_or_unknown_logger_is_an_error_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cola_train.run_folder.find_spec", lambda name: None)
    with pytest.raises(ColaWorldError, match="pip install wandb"):
        run(tmp_path, "wandb")
    with pytest.raises(ColaWorldError, match="tensorboard, wandb or none"):
        run(tmp_path, "mlflow")
