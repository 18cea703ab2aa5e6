"""What the numbers of several seeds say about a claim."""

import pytest

from benchmarks.paper_experiments.verdicts import (
    COLLAPSED,
    HEALTHY,
    INCONCLUSIVE,
    MIXED,
    NOT_REPRODUCED,
    REPRODUCED,
    Verdict,
    expect,
    interval,
    positive,
    provided,
    state,
    together,
)
from cola_env.models.latent_action.codebook_health import CodebookHealth
from tests.benchmarks.paper_cases import DEAD, LIVE, NARROW


def steps(health: list[CodebookHealth]) -> dict[int, CodebookHealth]:
    return dict(enumerate(health))


def test_a_codebook_is_judged_by_the_last_half_of_its_training() -> None:
    assert state(steps([DEAD] * 10 + [LIVE] * 10)) == HEALTHY
    assert state(steps([LIVE] * 10 + [DEAD] * 10)) == COLLAPSED
    assert state(steps([LIVE] * 14 + [DEAD] * 6)) == COLLAPSED
    assert state(steps([LIVE] * 16 + [DEAD] * 4)) == MIXED
    assert state(steps([NARROW] * 20)) == HEALTHY


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        ([DEAD, DEAD, DEAD], REPRODUCED),
        ([LIVE, LIVE, LIVE], NOT_REPRODUCED),
        ([DEAD, DEAD, LIVE], INCONCLUSIVE),
        ([DEAD], INCONCLUSIVE),
    ],
)
def test_all_seeds_must_agree_on_a_collapse(states: list[CodebookHealth], outcome: str) -> None:
    verdict = expect(COLLAPSED, [steps([each] * 8) for each in states])
    assert verdict.outcome == outcome
    assert verdict.reason.count(".") >= 1 and "of" in verdict.reason


def test_a_verdict_says_its_numbers() -> None:
    reason = expect(HEALTHY, [steps([each] * 4) for each in (LIVE, DEAD, LIVE)]).reason
    assert reason == (
        "collapsed in 1, healthy in 2 of 3 seeds; over the last half utilisation 80%, "
        "max usage 20%, entropy 2.50 nats (medians)."
    )
    assert positive([1.0, 2.0, 3.0], "dB").reason == (
        "+2 dB (95 % interval -0.484 to +4.48, 3 seeds)."
    )


def test_differences_are_judged_by_students_interval() -> None:
    low, high = interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2)
    assert (high - low) / 2 == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    low, high = interval([float(n) for n in range(21)])
    assert (high - low) / 2 == pytest.approx(2.086 * 38.5**0.5 / 21**0.5, rel=1e-3)
    assert positive([1.0, 1.1, 0.9], "dB").outcome == REPRODUCED
    assert positive([-1.0, -1.1, -0.9], "dB").outcome == NOT_REPRODUCED
    assert positive([1.0, 2.0, 3.0], "dB").outcome == INCONCLUSIVE
    assert positive([5.0], "dB").outcome == INCONCLUSIVE


def test_claims_come_together() -> None:
    yes, no, open_ = (Verdict(o, "") for o in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE))
    assert together([yes, yes]) == REPRODUCED
    assert together([yes, open_]) == INCONCLUSIVE
    assert together([yes, open_, no]) == NOT_REPRODUCED
    assert provided(yes, no, "why") is no
    assert provided(no, yes, "why").outcome == INCONCLUSIVE
