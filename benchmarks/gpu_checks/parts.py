"""The parts of the check, in order of worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks import decision, mini, paper
from benchmarks.gpu_checks.sizes import FULL, TINY, Sizes
from benchmarks.gpu_checks.suite import CHECKOUT, run_tests
from benchmarks.harness import matmul_peak
from benchmarks.model_steps import Budget
from cola_env.errors import ColaWorldError

Result = dict[str, Any]

MARGIN = 0.7
"""Share of a part's time that it may plan to measure for: the rest is for loading and mistakes."""


@dataclass(frozen=True)
class GpuCheckConfig:
    """Those of conf/gpu_check.yaml. Raises ColaWorldError for an unknown part."""

    device: str
    tiny: bool
    parts: list[str] | None
    part_seconds: float
    tests: str | None
    out: str

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.parts or []) - PARTS.keys()):
            raise ColaWorldError(
                f"There is no part {', '.join(unknown)}: choose some of {', '.join(PARTS)}."
            )
        if not self.part_seconds > 0:
            raise ColaWorldError(f"part_seconds={self.part_seconds} must be more than 0.")

    @property
    def chosen(self) -> list[str]:
        return list(PARTS) if self.parts is None else self.parts

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def sizes(self) -> Sizes:
        return TINY if self.tiny else FULL


Part = Callable[[GpuCheckConfig, torch.device], Result]


def tests(places: tuple[str, ...], marks: str, name: str) -> Part:
    def run(settings: GpuCheckConfig, device: torch.device) -> Result:
        folder = CHECKOUT / "tests" if settings.tests is None else Path(settings.tests).resolve()
        log = settings.folder / f"{name}.log"
        return run_tests(folder, places, marks, log, 0.95 * settings.part_seconds)

    return run


def measured(measure: Callable[[Sizes, torch.device, Budget], Result]) -> Part:
    def run(settings: GpuCheckConfig, device: torch.device) -> Result:
        return measure(settings.sizes, device, Budget(MARGIN * settings.part_seconds))

    return run


def peak(settings: GpuCheckConfig, device: torch.device) -> Result:
    """Of a matrix product, which the others' are shares of."""
    found = matmul_peak(device, settings.sizes.matmul) / 1e12
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return {"tflop_per_second": found, "memory_gib": memory / 2**30}


def decided(settings: GpuCheckConfig, device: torch.device) -> Result:
    budget = Budget(MARGIN * settings.part_seconds)
    trace = settings.folder / "decision_trace.json.gz"
    return decision.decisions(settings.sizes, device, budget, trace)


QUICK = "gpu and not compiles"
PARTS: dict[str, Part] = {
    "tests_models": tests(("models",), QUICK, "tests_models"),
    "tests_dreams": tests(("env",), QUICK, "tests_dreams"),
    "tests_planning": tests(("planners", "benchmarks/test_agents.py"), QUICK, "tests_planning"),
    "tests_training": tests(("train",), QUICK, "tests_training"),
    "peak": peak,
    "mini_rollouts": measured(mini.rollouts),
    "mini_dreams": measured(mini.dreams),
    "mini_training": measured(mini.training),
    "paper_training": measured(paper.training),
    "paper_prediction": measured(paper.prediction),
    "paper_candidates": measured(paper.candidates),
    "decision": decided,
    "tests_compiled": tests(("models",), "gpu and compiles", "tests_compiled"),
    "mini_rollouts_compiled": measured(partial(mini.rollouts, compiled=True)),
    "mini_training_compiled": measured(partial(mini.training, compiled=True)),
}
