"""benchmarks/rollout.py: what it counts, and that its samplers imagine the same."""

from subprocess import CompletedProcess

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks import rollout, rollout_costs
from benchmarks.rollout_report import draw
from tests.models.small import small_model
from tests.pictures import line_colours


@pytest.fixture
def config(request: pytest.FixtureRequest):
    path = request.config.rootpath / "benchmarks" / "conf" / "rollout.yaml"
    small = {"samples": 2, "horizon": 2, "steps": 2, "repeats": 1, "simulator": False}
    return OmegaConf.merge(OmegaConf.load(path), small)


def test_operations_and_bytes_of_a_product() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    costs = rollout_costs.count_costs(lambda: a @ b)
    assert costs.flops == 2 * 3 * 4 * 5
    assert costs.moved_bytes == 4 * (3 * 4 + 4 * 5 + 3 * 5)
    assert rollout_costs.count_costs(lambda: a.T).moved_bytes == 0


@pytest.mark.parametrize("residual", [True, False])
def test_the_samplers_imagine_the_same_with_ever_fewer_operations(config, residual: bool) -> None:
    stdit = {"hidden_size": 32, "depth": 2, "num_heads": 2, "residual": residual}
    model = small_model(stdit_config=stdit, adapter_config={"frame": residual})
    found = rollout.contestants(model, config)
    frames = {name: imagine() for name, imagine in found.items()}
    assert ("cached, together" in frames) is not residual
    equal = "cached" if residual else "cached, together"
    torch.testing.assert_close(frames[equal], frames["plain"], rtol=0, atol=0.03)
    flops = [rollout_costs.count_costs(found[name]).flops for name in ("plain", equal, "fast")]
    assert flops[0] > flops[1] > flops[2]


def test_results_become_a_picture(config, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "build", lambda config: small_model())
    found = rollout.timings(config) | {"memory": {"1": {"1": 0.1, "64": 0.2}, "7": {}}}
    ratios = found["ratios"]
    factors = ratios["caching_at_equal_steps"] * ratios["fewer_evaluations"]
    assert ratios["fast_over_plain"] == pytest.approx(factors) and factors > 0
    assert 0 < found["contestants"]["fast"]["flop_per_second"]
    draw(found, tmp_path / "rollout.png")
    assert len(line_colours(tmp_path / "rollout.png")) >= 2


def test_memory_is_measured_in_a_process_of_its_own(config) -> None:
    config = OmegaConf.merge(config, {"memory_samples": [1], "horizon": 2})
    found = rollout_costs.peak_memory(config)
    assert found.keys() == {"1", "7"} and all(0 <= row["1"] < 2 for row in found.values())


def test_a_curve_ends_where_memory_does(config, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    def run(command: list[str], **_: object) -> CompletedProcess[str]:
        enough = int(command[-2]) <= 64
        return CompletedProcess(command, 0 if enough else 1, stdout="0.5" if enough else "")

    monkeypatch.setattr(rollout_costs.subprocess, "run", run)
    found = rollout_costs.peak_memory(config)
    assert found == {context: {"1": 0.5, "64": 0.5} for context in ("1", "7")}
    assert "256 candidates failed" in capfd.readouterr().out
