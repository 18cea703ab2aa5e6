"""The seeds that a claim needs agree with the textbook, and the table reads the results."""

import json
from pathlib import Path

import pytest

from benchmarks.paper_experiments.power import MEASURES, seeds_needed, table

RESULTS = Path(__file__).parents[2] / "docs/results/paper"


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_of_a_paired_t_test_are_those_of_the_textbook(effect: float, seeds: int) -> None:
    """Cohen's d of 0.5, 0.8 and 1.0, two-sided 5 %, power 80 % (G*Power's paired t-test)."""
    assert seeds_needed(effect, 1.0) == seeds
    assert seeds_needed(-2 * effect, 2.0) == seeds
    assert seeds_needed(1e-3, 1.0) is None


def test_the_table_has_a_line_a_measure_of_the_committed_results() -> None:
    lines = table(RESULTS).splitlines()[2:]
    run = [each for each in MEASURES if (RESULTS / f"{each.experiment}.json").exists()]
    assert len(lines) == len(run) >= 10
    real = next(line for line in lines if "PSNR by real actions" in line)
    assert "| -0.141 ± 0.139 dB | 3 | +1.34 | 3 | 3 |" in real


def test_experiments_that_have_not_been_run_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "table_1.json").write_text(
        '{"numbers": {"two_stage": [0.4, 0.5, 0.45], "joint": [0.3, 0.35, 0.4]}}'
    )
    lines = table(tmp_path).splitlines()[2:]
    assert len(lines) == 1 and lines[0].startswith("| Table 1 |")


def test_the_explanations_have_lines_too(tmp_path: Path) -> None:
    seeds = [0.4, 0.5, 0.45]
    late = {
        "joint": {"regrouped_since_last": seeds},
        "frozen_lam": {"regrouped_since_last": [0.0] * 3},
    }
    late["joint"] |= {"reshaped_since_start": seeds, "reshaped_since_last": [0.1, 0.1, 0.2]}
    few = {"two_stage": [0.5, 0.4, 0.3], "joint": seeds}
    for name, numbers in (
        ("drift", {"late": late}),
        ("wrong_codes", {"few": {"lost": few, "added": few}}),
    ):
        file = tmp_path / f"explanation_{name}.json"
        file.write_text(json.dumps({"numbers": numbers}))
    lines = table(tmp_path).splitlines()[2:]
    assert "| +0.45 ± 0.05 of the codes | 3 |" in lines[0]
    assert "| -0.05 ± 0.132 dB | 3 |" in lines[2]
    assert len(lines) == 4
