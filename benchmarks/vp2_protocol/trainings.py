"""Two models of several trainings each on the same problems: what holds for other trainings and
other problems, and not only for these."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from benchmarks.vp2_protocol.comparison import (
    Row,
    bonett_price,
    method_of,
    played_by_both,
    rivals,
)


def by_training(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each training of the models: those of the seeds under which all had the same
    weights."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for seed in dict.fromkeys(row["seed"] for row in rows):
        group = [row for row in rows if row["seed"] == seed]
        trained = {(row["model"], row.get("settings", {}).get("weights")) for row in group}
        groups.setdefault(tuple(sorted(trained, key=str)), []).extend(group)
    return list(groups.values())


def over_trainings(trainings: Sequence[Sequence[Row]]) -> Row | None:
    """Success of the first model minus that of the second over trainings of both, on the pairs that
    all of them played; None without any. A single training has the interval over its pairs.

    trainings: the rows of each, of two models, as `by_training` finds them.
    """
    played = [
        {pair: float(np.mean(each)) for pair, each in played_by_both(rows, one, other).items()}
        for rows in trainings
        for one, other in rivals(map(method_of, rows))
    ]
    played = [each for each in played if each]
    common = [pair for pair in played[0] if all(pair in each for each in played)] if played else []
    if not common:
        return None
    differences = np.array([[each[pair] for pair in common] for each in played])
    single = len(played) == 1
    low, high = bonett_price(differences[0]) if single else crossed_interval(differences)
    return {
        "difference": round(float(differences.mean()), 4),
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
        "trainings": len(played),
        "pairs": len(common),
    }


def crossed_interval(
    differences: NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) of the mean difference over other trainings and other problems.

    Trainings and problems are crossed random effects. The variance of the mean is that which
    drawing both anew gives, trainings from trainings and problems from problems: of the trainings'
    means over their number, and of the problems' over theirs (A. B. Owen, "The pigeonhole
    bootstrap", 2007). Few trainings vary by chance, so that the quantile is Student's, of
    Satterthwaite's degrees of freedom. As in `bonett_price`, a win and a loss are added.

    Args:
        differences: (trainings, problems) in [-1, 1], at least two trainings.
    """
    count = len(differences)
    observed = np.hstack([differences, np.ones((count, 1)), -np.ones((count, 1))])
    parts = [
        (means.var(ddof=1) / len(means), len(means) - 1)
        for means in (observed.mean(1), observed.mean(0))
    ]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(t.ppf(0.5 + confidence / 2, freedom)) * sqrt(variance)
    centre = float(observed.mean())
    return max(centre - half, -1.0), min(centre + half, 1.0)
