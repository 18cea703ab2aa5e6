"""What several trainings say about others, on the same problems."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.vp2_protocol.comparison import bonett_price, paired_differences
from benchmarks.vp2_protocol.trainings import by_training, crossed_interval, over_trainings
from tests.benchmarks.result_rows import row


def played(
    rng: np.random.Generator, trainings: int, problems: int, skill: float, kinds: float
) -> NDArray[np.float64]:
    """Success of the better model minus that of the other, (trainings, problems). Trainings differ
    in skill and problems in difficulty, for both models and for one alone, by these deviations of
    the logits."""
    difficulty, apart = rng.normal(0, kinds, (2, 1, problems))
    skills = rng.normal(0, skill, (2, trainings, 1))
    logits = np.stack([skills[0] + difficulty + 0.6 + apart, skills[1] + difficulty]) - 1
    better, other = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return better.astype(float) - other


CASES = [(3, 0.0, 1.0), (3, 0.3, 1.0), (3, 1.0, 0.5), (10, 0.3, 1.0), (10, 0.1, 1.5)]


@pytest.mark.parametrize(("trainings", "skill", "kinds"), CASES)
def test_the_interval_holds_what_many_trainings_and_problems_would_give(
    trainings: int, skill: float, kinds: float
) -> None:
    rng = np.random.default_rng(0)
    truth = played(rng, 2000, 2000, skill, kinds).mean()
    found = [crossed_interval(played(rng, trainings, 60, skill, kinds)) for _ in range(400)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert covered > 0.92, f"{covered:.1%} of intervals of 95 %"


def test_neither_trainings_nor_problems_alone_tell_as_much() -> None:
    """An interval over problems is wrong where trainings differ, one over trainings where problems
    do: they hold the truth less often, or this one is wider than the first."""
    rng = np.random.default_rng(1)
    truth = played(rng, 2000, 2000, 1.0, 0.5).mean()
    drawn = [played(rng, 3, 60, 1.0, 0.5) for _ in range(200)]
    problems_alone = [bonett_price(each.mean(0)) for each in drawn]
    both = [crossed_interval(each) for each in drawn]
    held = [
        np.mean([low <= truth <= high for low, high in each]) for each in (problems_alone, both)
    ]
    assert held[0] < 0.75 < 0.9 < held[1]


def test_the_variance_is_that_of_drawing_both_anew() -> None:
    rng = np.random.default_rng(2)
    given = played(rng, 12, 60, 0.7, 1.0)
    rows, columns = (rng.integers(0, n, (4000, n - 1)) for n in given.shape)
    means = [given[np.ix_(i, j)].mean() for i, j in zip(rows, columns, strict=True)]
    low, high = crossed_interval(given)
    assert (high - low) / 2 / np.std(means) == pytest.approx(2.0, rel=0.15)


def test_more_trainings_or_problems_tell_more() -> None:
    rng = np.random.default_rng(3)

    def width(trainings: int, problems: int) -> float:
        found = [crossed_interval(played(rng, trainings, problems, 0.5, 1.0)) for _ in range(50)]
        return float(np.mean([high - low for low, high in found]))

    assert width(3, 30) > width(3, 120) > width(10, 120)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_what_agrees_everywhere_is_no_point(value: float) -> None:
    low, high = crossed_interval(np.full((3, 30), value))
    assert -1 <= low <= value <= high <= 1
    assert high - low > 0.05


def trained(model: str, outcomes: str, seed: int, training: int) -> dict[str, object]:
    return row(model, outcomes, seed=seed, weights=f"{model} {training}")


def test_trainings_are_told_by_their_weights_and_planner_seeds_count_once() -> None:
    rows = [
        trained(model, outcomes, seed, training)
        for training, seed in ((0, 0), (0, 1), (1, 2))
        for model, outcomes in (("joint", "1110"), ("two_stage", "1000"))
    ]
    groups = by_training(rows)
    assert [len(group) for group in groups] == [4, 2]
    found = over_trainings(groups)
    assert found is not None
    assert (found["trainings"], found["pairs"], found["difference"]) == (2, 4, 0.5)
    assert found["ci_low"] < 0.5 < found["ci_high"]


def test_only_pairs_that_all_trainings_played_are_compared() -> None:
    rows = [trained("joint", "11-", 0, 0), trained("two_stage", "001", 0, 0)]
    single = over_trainings(by_training(rows))
    (paired,) = paired_differences(rows)
    assert single is not None and single["trainings"] == 1
    assert all(single[key] == paired[key] for key in ("difference", "ci_low", "ci_high", "pairs"))
    rows += [trained("joint", "-11", 1, 1), trained("two_stage", "-00", 1, 1)]
    both = over_trainings(by_training(rows))
    assert both is not None and (both["trainings"], both["pairs"]) == (2, 1)
    assert over_trainings(by_training(rows[:1])) is None
    assert over_trainings(by_training([*rows[:1], trained("two_stage", "--1", 0, 0)])) is None
