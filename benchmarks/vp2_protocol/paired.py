"""Comparison of two models on the same pairs and planner seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.vp2_protocol.intervals import bonett_price

Row = dict[str, Any]
Episode = tuple[Any, ...]
"""(set of problems and rules, task, pair, seed)."""

SAME = ("goals", "steps", "judge", "warmup_steps", "idle_steps")
"""The settings that two rows must share for their pairs of one number to be the same problem."""


def outcomes(rows: Sequence[Row], model: str) -> dict[Episode, int]:
    """1 or 0 for every episode that the model played."""
    found: dict[Episode, int] = {}
    for row in rows:
        if row["model"] == model:
            settings = row.get("settings", {})
            problems = tuple(settings.get(name) for name in SAME)
            for pair, outcome in enumerate(row.get("outcomes", "")):
                if outcome != "-":
                    found[problems, row["task"], pair, row["seed"]] = int(outcome)
    return found


def paired_differences(rows: Sequence[Row]) -> list[Row]:
    """Success of the first model minus that of every other, over the episodes that both played.

    A pair counts once, however many seeds played it, as these are no independent trials. Rows of
    before outcomes were kept are left out.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    results = []
    for other in models[1:]:
        first, second = outcomes(rows, models[0]), outcomes(rows, other)
        by_pair: dict[Episode, list[int]] = {}
        for episode in first.keys() & second.keys():
            by_pair.setdefault(episode[:-1], []).append(first[episode] - second[episode])
        if not by_pair:
            continue
        differences = np.array([np.mean(each) for each in by_pair.values()])
        low, high = bonett_price(differences)
        results.append(
            {
                "models": [models[0], other],
                "difference": round(float(differences.mean()), 4),
                "ci_low": round(float(low), 4),
                "ci_high": round(float(high), 4),
                "pairs": len(by_pair),
                "episodes": sum(map(len, by_pair.values())),
            }
        )
    return results


def comparisons(rows: Sequence[Row]) -> list[str]:
    """`paired_differences` in words, one line each."""
    return [
        f"{' - '.join(each['models'])}: {100 * each['difference']:+.1f} points of success "
        f"(95 % interval {100 * each['ci_low']:+.1f} to {100 * each['ci_high']:+.1f}; paired, "
        f"n = {each['pairs']} pairs, {each['episodes']} episodes of each)"
        for each in paired_differences(rows)
    ]
