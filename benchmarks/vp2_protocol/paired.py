"""Comparison of two models on the same pairs and planner seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]


def rates(rows: Sequence[Row], model: str) -> dict[tuple[str, int], float]:
    """Success rate over the planner seeds of every (task, pair)."""
    found: dict[tuple[str, int], list[int]] = {}
    for row in rows:
        if row["model"] == model:
            for pair, outcome in enumerate(row.get("outcomes", "")):
                found.setdefault((row["task"], pair), []).append(int(outcome))
    return {key: sum(values) / len(values) for key, values in found.items()}


def paired_differences(rows: Sequence[Row]) -> list[Row]:
    """Success of the first model minus that of every other, over the pairs both played.

    The 95 % interval is a percentile bootstrap over pairs, since the seeds of one pair are no
    independent trials. Rows of before outcomes were kept are left out.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    results = []
    for other in models[1:]:
        first, second = rates(rows, models[0]), rates(rows, other)
        shared = sorted(first.keys() & second.keys())
        if not shared:
            continue
        differences = np.array([first[key] - second[key] for key in shared])
        low, high = np.quantile(_resampled_means(differences), [0.025, 0.975])
        results.append(
            {
                "models": [models[0], other],
                "difference": round(float(differences.mean()), 4),
                "ci_low": round(float(low), 4),
                "ci_high": round(float(high), 4),
                "pairs": len(shared),
            }
        )
    return results


def _resampled_means(values: NDArray[np.float64], resamples: int = 4000) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)
