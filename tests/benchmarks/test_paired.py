"""Several planner seeds and two models on the same pairs."""

import pytest

from benchmarks.vp2_protocol.intervals import wilson
from benchmarks.vp2_protocol.paired import paired_differences
from benchmarks.vp2_protocol.table import overall, pooled, rate_row


def row(model: str, outcomes: str, seed: int = 0, task: str = "push_red") -> dict:
    about = {"model": model, "task": task, "seed": seed, "outcomes": outcomes}
    return rate_row(outcomes.count("1"), len(outcomes), **about)


def test_a_pair_counts_once_however_many_seeds_played_it() -> None:
    rows = [row("a", "1100"), row("a", "1000", seed=1), row("a", "1100", seed=2)]
    (total,) = pooled(rows)
    assert (total["successes"], total["episodes"]) == (5, 12)
    low, high = wilson(5 / 3, 4)
    assert (total["ci_low"], total["ci_high"]) == (round(low, 4), round(high, 4))
    assert overall(rows)[0]["successes"] == 5


def test_paired_differences_see_what_unpaired_intervals_miss() -> None:
    better, worse = "1" * 12 + "0" * 18, "1" * 6 + "0" * 24
    rows = [row("a", better), row("b", worse), row("c", better)]
    against_b, against_c = paired_differences(rows)
    assert against_b["models"] == ["a", "b"] and against_b["pairs"] == 30
    assert against_b["difference"] == pytest.approx(0.2)
    assert 0 < against_b["ci_low"] < 0.2 < against_b["ci_high"]
    assert rows[0]["ci_low"] < rows[1]["ci_high"]
    assert against_c["difference"] == against_c["ci_low"] == against_c["ci_high"] == 0


def test_only_pairs_that_both_played_are_compared() -> None:
    rows = [row("a", "11"), row("a", "00", task="open_slide"), row("b", "01")]
    (result,) = paired_differences(rows)
    assert result["pairs"] == 2 and result["difference"] == 0.5
    old = [row("a", "11"), {k: v for k, v in row("b", "01").items() if k != "outcomes"}]
    assert paired_differences(old) == []
