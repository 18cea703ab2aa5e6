"""Codebook health while training, what counts as collapse, and the report on a finished model."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.latent_action.codebook_health import health_measures
from cola_train.collapse import CollapseConfig, diagnosis
from cola_train.learner import CodebookUsage
from cola_train.phases import Adaptation, FlowMatching, Phase
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.conftest import write_lerobot
from tests.train.small import moving_square, small_model

LEARNS = ["idm", "quantizer", "conditioner"]


def every_pair(codes: int = 32) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(codes), torch.arange(codes))


def phase(**settings: object) -> FlowMatching:
    return FlowMatching("warm_up", 5000, LEARNS, actions="latent", **settings)


def measures(codes: torch.Tensor, gap: float) -> dict[str, float]:
    return {"gap": gap} | health_measures(codes, 32, "lam_")


def test_the_health_of_each_token_is_told_beside_that_of_the_joint_codes() -> None:
    codes = every_pair()
    codes[:, 1] %= 4
    found = health_measures(codes, 32)
    assert found["token_0_utilisation"] == 1 and found["token_1_utilisation"] == 4 / 32
    assert found["token_0_entropy"] == pytest.approx(math.log(32))
    assert found["token_1_max_usage"] == 0.25
    assert found["entropy"] == pytest.approx(math.log(128))


def test_usage_counts_the_codes_of_all_steps_since_it_was_asked() -> None:
    usage, codes = CodebookUsage(), every_pair()
    for part in codes.split(100):
        usage.add(part, 32)
    usage.add(None, 32)
    assert usage.measures() == health_measures(codes, 32)
    assert usage.measures() == {}


CONSTANT = torch.zeros(500, 2, dtype=torch.long)
MOSTLY_ONE = torch.cat([every_pair(), torch.zeros(2000, 2, dtype=torch.long)])


@pytest.mark.parametrize(
    ("codes", "gap", "settings", "words"),
    [
        (CONSTANT, 2.0, {}, ["collapsed", "3% of a token", "restart_steps=", "fit_codes=true"]),
        (every_pair(4), 2.0, {"restart_steps": 9, "quantizer_weight": 1}, ["12%", "_weight=0.05"]),
        (MOSTLY_ONE, 2.0, {"motion_weight": 0}, ["one code stands for", "motion_weight=2"]),
        (every_pair(), 0.01, {}, ["ignores the latent actions", "phases.warm_up.steps"]),
    ],
)
def test_a_collapse_is_named_with_its_likely_cause_and_what_to_try(
    codes: torch.Tensor, gap: float, settings: dict[str, object], words: list[str]
) -> None:
    found = diagnosis(phase(**settings), 3000, measures(codes, gap), CollapseConfig())
    assert found is not None and all(word in found for word in words), found


def test_no_false_alarms() -> None:
    config, ill = CollapseConfig(), measures(CONSTANT, 0.0)
    assert diagnosis(phase(), 3000, measures(every_pair(), 2.0), config) is None
    assert diagnosis(phase(), 999, ill, config) is None, "too early"
    assert diagnosis(phase(continuous_steps=2500), 3000, ill, config) is None, "too early"
    assert diagnosis(phase(continuous_steps=6000), 5000, ill, config) is None, "not quantised"
    assert diagnosis(FlowMatching("pretrain", 1, ["stdit"]), 1, ill, config) is None
    assert diagnosis(Adaptation("adapter", 1, ["adapter"]), 1, ill, config) is None
    assert diagnosis(phase(), 3000, {"gap": 0.5}, config) is None, "continuous actions"


def dead_warm_up() -> list[Phase]:
    common = {"batch_size": 4, "clip": 4, "actions": "latent", "lr_warmup": 1}
    return [FlowMatching("warm_up", 4, LEARNS, **common), FlowMatching("rest", 1, LEARNS, **common)]


def run(out: Path, stop: bool) -> None:
    config = TrainerConfig(
        log_every=2, evaluate_every=2, logger="none", collapse=CollapseConfig(after=1, stop=stop)
    )
    clips = moving_square(8)
    Trainer(small_model(), dead_warm_up(), clips, clips, out, 0, config).run()


def test_training_warns_once_a_phase_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, stop=False)
    assert capsys.readouterr().out.count("Warning: warm_up, step 2: ") == 1
    logs = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    live = [line for line in logs if "token_1_entropy" in line and line["phase"] == "warm_up"]
    assert [line["step"] for line in live] == [2, 4]
    assert all("gap" in line for line in logs if "lam_entropy" in line)


def test_it_stops_if_asked_to_and_can_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ColaWorldError, match="warm_up, step 2: .*collapse"):
        run(tmp_path, stop=True)
    assert (tmp_path / "checkpoints" / "warm_up-00000002.pt").exists()
    run(tmp_path, stop=False)
    steps = [json.loads(line)["step"] for line in (tmp_path / "history.jsonl").open()]
    assert steps == [2, 2, 4, 4, 1]


def test_the_report_on_a_finished_model(tmp_path: Path) -> None:
    data = write_lerobot(tmp_path / "data", [5, 5, 5])
    small_model().save_pretrained(tmp_path / "model")
    settings = [f"run={tmp_path / 'model'}", f"data={data}", f"out={tmp_path / 'report.json'}"]
    command = [sys.executable, "-m", "cola_train.codebook", *settings, "clips=16"]
    done = subprocess.run([*command, "adapter=true"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "inferred, token 1 (of 32)" in done.stdout and "adapter's, joint" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert "collapsed" in report["verdict"] and report["verdict"] in done.stdout
    assert 0 < report["lam_token_0_utilisation"] <= 1
