"""Several planner seeds and two models on the same pairs."""

import pytest

from benchmarks.vp2_protocol.comparison import comparisons, paired_differences
from benchmarks.vp2_protocol.results import overall, pooled, wilson
from tests.benchmarks.result_rows import row


def test_a_pair_counts_once_however_many_seeds_played_it() -> None:
    rows = [row("a", "1100"), row("a", "1000", seed=1), row("a", "1100", seed=2)]
    (total,) = pooled(rows)
    assert (total["successes"], total["episodes"]) == (5, 12)
    low, high = wilson(5 / 3, 4)
    assert (total["ci_low"], total["ci_high"]) == (round(low, 4), round(high, 4))
    assert overall(rows)[0]["successes"] == 5


def test_seeds_need_not_have_played_the_same() -> None:
    rows = [row("a", "111"), row("a", "11-", seed=1), row("a", "10", task="open_slide")]
    first, _ = pooled(rows)
    low, high = wilson(3, 3)
    assert (first["ci_low"], first["ci_high"]) == (round(low, 4), round(high, 4))
    (total,) = overall(rows)
    low, high = wilson(5 * 6 / 7, 5)
    assert (total["ci_low"], total["ci_high"]) == (round(low, 4), round(high, 4))


def test_paired_differences_see_what_unpaired_intervals_miss() -> None:
    better, worse = "1" * 12 + "0" * 18, "1" * 6 + "0" * 24
    rows = [row("a", better), row("b", worse), row("c", better)]
    against_b, against_c = paired_differences(rows)
    assert against_b["models"] == ["a", "b"] and against_b["pairs"] == 30
    assert against_b["difference"] == pytest.approx(0.2)
    assert 0 < against_b["ci_low"] < 0.2 < against_b["ci_high"]
    assert rows[0]["ci_low"] < rows[1]["ci_high"]
    assert against_c["difference"] == 0 > against_c["ci_low"] == -against_c["ci_high"] > -0.15


@pytest.mark.parametrize(("first", "second"), [("1", "0"), ("1111", "0000"), ("0000", "0000")])
def test_few_pairs_that_agree_leave_doubt(first: str, second: str) -> None:
    (found,) = paired_differences([row("a", first), row("b", second)])
    assert found["ci_low"] < found["difference"]
    assert found["ci_high"] - found["ci_low"] > 0.5


def test_only_pairs_that_both_played_are_compared() -> None:
    rows = [row("a", "11"), row("a", "00", task="open_slide"), row("b", "01")]
    (result,) = paired_differences(rows)
    assert result["pairs"] == 2 and result["difference"] == 0.5
    old = [row("a", "11"), {k: v for k, v in row("b", "01").items() if k != "outcomes"}]
    assert paired_differences(old) == []


def test_only_the_same_problems_under_the_same_seed_are_pairs() -> None:
    first = row("a", "1111", goals="x", steps=15)
    assert paired_differences([first, row("b", "0000", goals="y", steps=15)]) == []
    assert paired_differences([first, row("b", "0000", goals="x", steps=20)]) == []
    assert paired_differences([first, row("b", "0000", seed=1, goals="x", steps=15)]) == []
    seeds = [row("a", "1-10"), row("a", "00", seed=1), row("b", "0100"), row("b", "1-", seed=1)]
    (result,) = paired_differences(seeds)
    assert (result["pairs"], result["episodes"]) == (3, 4)
    assert result["difference"] == pytest.approx((0 + 1 + 0) / 3, abs=1e-4)


def test_the_comparison_is_told_with_its_interval_and_its_n() -> None:
    rows = [row("a", "1" * 12 + "0" * 18), row("b", "1" * 6 + "0" * 24)]
    (told,) = comparisons(rows)
    assert told.startswith("a - b: +20.0 points of success (95 % interval +")
    assert told.endswith("n = 30 pairs, 30 episodes of each)")
