"""What the numbers of several seeds say about a claim: pure functions, as docs/paper.md states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median, stdev

from cola_env.models.latent_action.codebook import CodebookHealth

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
COLLAPSED, HEALTHY, MIXED = "collapsed", "healthy", "mixed"

LEAST_UTILISATION, MOST_USAGE, LEAST_ENTROPY = 0.2, 0.5, 1.0
"""The paper's thresholds of collapse: share of the codes, share of the actions, nats."""

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1 to 9 degrees of freedom; the last serves beyond."""

HealthCurve = Mapping[int, CodebookHealth]
"""Of a codebook along training, by step."""


@dataclass(frozen=True)
class Verdict:
    """outcome: one of the three; reason: one sentence of numbers."""

    outcome: str
    reason: str


def collapsed(health: CodebookHealth) -> bool:
    """Whether at least two of the paper's three thresholds are crossed."""
    crossed = (
        health.utilisation < LEAST_UTILISATION,
        health.max_usage > MOST_USAGE,
        health.entropy < LEAST_ENTROPY,
    )
    return sum(crossed) >= 2


def last_half(curve: HealthCurve) -> list[CodebookHealth]:
    return list(curve.values())[len(curve) // 2 :]


def state(curve: HealthCurve) -> str:
    """Of a codebook over the last half of its training: collapsed in more than half of the
    measurements, healthy if collapsed in fewer than a tenth, else mixed."""
    share = fmean(collapsed(health) for health in last_half(curve))
    return COLLAPSED if share > 0.5 else HEALTHY if share < 0.1 else MIXED


def expect(wanted: str, curves: Sequence[HealthCurve]) -> Verdict:
    """The codebook was ``wanted`` (collapsed or healthy), a curve a seed.

    Reproduced when it was so in all seeds, not reproduced when it was the opposite in all.
    """
    opposite = HEALTHY if wanted == COLLAPSED else COLLAPSED
    states = [state(curve) for curve in curves]
    counts = ", ".join(
        f"{name} in {states.count(name)}" for name in (COLLAPSED, HEALTHY, MIXED) if name in states
    )
    late = [health for curve in curves for health in last_half(curve)]
    reason = (
        f"{counts} of {seeds(len(curves))}; over the last half utilisation "
        f"{median(h.utilisation for h in late):.0%}, max usage "
        f"{median(h.max_usage for h in late):.0%}, entropy "
        f"{median(h.entropy for h in late):.2f} nats (medians)."
    )
    if len(curves) < 2 or set(states) not in ({wanted}, {opposite}):
        return Verdict(INCONCLUSIVE, reason)
    return Verdict(REPRODUCED if states[0] == wanted else NOT_REPRODUCED, reason)


def positive(differences: Sequence[float], unit: str) -> Verdict:
    """The mean of paired differences, one a seed, is above 0, by its 95 % Student interval."""
    mean = fmean(differences)
    if len(differences) < 2:
        return Verdict(INCONCLUSIVE, f"{mean:+.3g} {unit} of one seed, which has no interval.")
    low, high = interval(differences)
    sample = seeds(len(differences))
    reason = f"{mean:+.3g} {unit} (95 % interval {low:+.3g} to {high:+.3g}, {sample})."
    if low > 0:
        return Verdict(REPRODUCED, reason)
    return Verdict(NOT_REPRODUCED if high < 0 else INCONCLUSIVE, reason)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % Student interval (low, high) of the mean of at least two values."""
    quantile = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    half = quantile * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def provided(condition: Verdict, verdict: Verdict, otherwise: str) -> Verdict:
    """``verdict`` where what it takes for granted was so; else inconclusive, for that reason."""
    if condition.outcome == REPRODUCED:
        return verdict
    return Verdict(INCONCLUSIVE, f"{otherwise} {condition.reason}")


def together(verdicts: Sequence[Verdict]) -> str:
    """Of an experiment with several claims: all reproduced, one not, or neither."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if outcomes == {REPRODUCED}:
        return REPRODUCED
    return NOT_REPRODUCED if NOT_REPRODUCED in outcomes else INCONCLUSIVE


def seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
