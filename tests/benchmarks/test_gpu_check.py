"""The check of a GPU, with tiny models on the CPU: it keeps what ends, goes on, tells failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_checks import alone
from benchmarks.gpu_checks.mini import frames
from benchmarks.gpu_checks.paper import whole_clips
from benchmarks.gpu_checks.parts import PARTS, GpuCheckConfig
from benchmarks.gpu_checks.report import table
from benchmarks.gpu_checks.sizes import TINY, random_model
from benchmarks.gpu_checks.suite import TestsFailed, run_tests
from benchmarks.model_steps import Budget, doubled_batches, each_measured
from cola_env.errors import ColaWorldError

CPU = torch.device("cpu")
MEASURED = [name for name in PARTS if not name.startswith("tests") and "compiled" not in name]
GPU_TEST = """
import pytest

@pytest.mark.gpu
def test_that_passes(): ...

@pytest.mark.gpu
@pytest.mark.skip(reason="no need")
def test_that_is_skipped(): ...

def test_of_the_cpu(): assert False
"""


def settings(out: Path, **changes: object) -> GpuCheckConfig:
    given = {"device": "cpu", "tiny": True, "parts": None, "part_seconds": 100.0, "tests": None}
    return GpuCheckConfig(**given | {"out": str(out)} | changes)  # type: ignore[arg-type]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts run in this process, which is quicker; their names."""
    ran = []

    class Sender:
        sent: dict

        def send(self, result: dict) -> None:
            self.sent = result

    def run(name: str, settings: GpuCheckConfig, device: torch.device) -> dict:
        ran.append(name)
        sender = Sender()
        alone.run_part(name, settings, str(device), sender)  # type: ignore[arg-type]
        return {"seconds": 1.0, **sender.sent}

    monkeypatch.setattr(gpu_check, "run_alone", run)
    return ran


def test_every_measurement_runs_on_the_cpu_is_kept_and_not_run_again(
    tmp_path: Path, at_once: list[str]
) -> None:
    given = settings(tmp_path, parts=MEASURED)
    found = dict(gpu_check.check(given))
    assert {name: result.get("error") for name, result in found.items()} == dict.fromkeys(MEASURED)
    assert at_once == MEASURED
    assert len(found["mini_rollouts"]["rollouts"]) == len(TINY.steps) * len(TINY.candidates)
    assert [row["worlds"] for row in found["mini_dreams"]["dreams"]] == list(TINY.worlds)
    assert found["paper_candidates"]["frame_by_frame"]["times_faster"] > 0
    assert found["paper_training"]["batches"][0]["tflop"] > 0
    assert (tmp_path / "decision_trace.json.gz").stat().st_size > 1000
    told = gpu_check.report(given)
    assert (tmp_path / "report.md").read_text() == told + "\n"
    assert all(f"| {name} |" in told for name in MEASURED) and "(aim 20000: not" in told
    assert json.loads((tmp_path / "report.json").read_text())["parts"].keys() == set(MEASURED)
    assert dict(gpu_check.check(given)) == found and at_once == MEASURED
    (tmp_path / "peak.json").unlink()
    assert list(dict(gpu_check.check(given))) == MEASURED and at_once == [*MEASURED, "peak"]


def test_a_part_that_fails_is_told_and_run_again_and_the_next_goes_on(
    tmp_path: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: GpuCheckConfig, device: torch.device) -> dict:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nAnd more.")

    monkeypatch.setitem(PARTS, "mini_dreams", broken)
    given = settings(tmp_path, parts=["mini_dreams", "peak"])
    found = dict(gpu_check.check(given))
    assert "illegal memory access" in found["mini_dreams"]["error"]
    assert "error" not in found["peak"]
    assert "| mini_dreams | 1 | failed: RuntimeError: CUDA error" in gpu_check.report(given)
    list(gpu_check.check(given))
    assert at_once == ["mini_dreams", "peak", "mini_dreams"]


def test_a_part_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = alone.run_alone("peak", settings(tmp_path), CPU)
    assert result["tflop_per_second"] > 0 and result["seconds"] > 0
    monkeypatch.setattr(alone, "GRACE", 0)
    result = alone.run_alone("peak", settings(tmp_path, part_seconds=0.001), CPU)
    assert "was stopped after" in result["error"]


def test_what_is_of_another_machine_or_size_is_measured_again(
    tmp_path: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path, parts=["peak"])
    list(gpu_check.check(given))
    monkeypatch.setattr(gpu_check, "machine", lambda device: {"device": "another"})
    list(gpu_check.check(given))
    assert at_once == ["peak"] * 2
    list(gpu_check.check(given))
    assert at_once == ["peak"] * 2


def test_tests_are_counted_and_those_that_fail_are_told(tmp_path: Path) -> None:
    folder, log = tmp_path / "tests", tmp_path / "out" / "log.txt"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "test_gpu.py").write_text(GPU_TEST)
    found = run_tests(folder, ("models", "env"), "gpu", log, 100)
    assert found == {"passed": 1, "skipped": 1, "failures": {}}
    failing = GPU_TEST.replace("passes(): ...", "passes():\n    raise ValueError('not near')")
    (folder / "models" / "test_gpu.py").write_text(failing)
    with pytest.raises(TestsFailed, match="1 tests failed, 0 passed.*ValueError: not near"):
        run_tests(folder, ("models",), "gpu", log, 100)
    with pytest.raises(ColaWorldError, match="There are no tests in .*: run the check in a che"):
        run_tests(folder, ("env",), "gpu", log, 100)


def test_unknown_parts_and_times_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match="There is no part dance: choose some of tests_models"):
        settings(tmp_path, parts=["dance"])
    with pytest.raises(ColaWorldError, match="part_seconds=0 must be more than 0"):
        settings(tmp_path, part_seconds=0)


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("together", [True, False])
def test_candidates_without_a_cache_are_those_with_one(together: bool) -> None:
    model = random_model(TINY.paper, CPU)
    torch.nn.init.normal_(model.stdit.final_layer.linear.weight, std=0.1)
    torch.nn.init.normal_(model.conditioner.to_modulation[-1].weight, std=0.1)
    pictures, plans = frames(model, 1, 2), torch.rand(3, 4, 5) * 2 - 1
    found = whole_clips(model, pictures, plans, together)
    expected = model.rollout(
        model.begin(pictures),
        plans[None],
        seed=0,
        num_inference_steps=1,
        together=together,
        decoded=False,
    )[0]
    assert (found[0] - found[1]).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_measuring_ends_when_memory_or_time_does() -> None:
    def full(count: int) -> None:
        if count > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert list(each_measured([1, 2, 4, 8, 16], full, CPU, Budget())) == [1, 2, 4]
    assert list(each_measured([1, 2], full, CPU, Budget(0))) == [1]
    assert [row["batch"] for row in doubled_batches(full, CPU, 1.0)] == [1]
    assert doubled_batches(lambda batch: full(9), CPU, 1.0) == []


def test_figures_are_judged_by_what_is_aimed_at() -> None:
    row = {"batch": 1, "seconds": 2.0, "tflop": 400.0, "tflop_per_second": 200.0}
    results = {
        "peak": {"seconds": 1, "tflop_per_second": 400.0},
        "paper_training": {"seconds": 9, "tflop_per_second": 200.0, "batches": [row]},
        "mini_rollouts": {"seconds": 5, "frames_per_second": 100.0},
    }
    told = table(results, {"device": "a card"}, tiny=False)
    assert "On device a card; the real models." in told
    assert "200 TFLOP/s, 0.5 share of peak (aim 0.45: reached)" in told
    assert "100 frames a second (aim 20000: not reached)" in told
