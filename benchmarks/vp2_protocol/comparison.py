"""Who is compared with whom, and by how much they differ: planners of one model, and models with
one planner, on the same problems under the same seeds."""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vp2_protocol.records import NO_PLANNER, MethodName

Row = dict[str, Any]
Episode = tuple[Any, ...]
"""(set of problems and rules, task, pair, seed)."""

SAME = ("goals", "steps", "judge", "warmup_steps", "idle_steps")
"""The settings that two rows must share for their pairs of one number to be the same problem."""


def method_of(row: Mapping[str, Any]) -> MethodName:
    return MethodName(row["model"], row.get("planner", NO_PLANNER))


def planners_differ(methods: Iterable[MethodName]) -> bool:
    return len({method.planner for method in methods} - {NO_PLANNER}) > 1


def titles(methods: Iterable[MethodName]) -> dict[MethodName, str]:
    """What tables call them: MODEL, or MODEL/PLANNER where planners are compared, too."""
    listed = dict.fromkeys(methods)
    differ = planners_differ(listed)
    return {
        method: "/".join(method) if differ and method.planner != NO_PLANNER else method.model
        for method in listed
    }


def rivals(methods: Iterable[MethodName]) -> list[tuple[MethodName, MethodName]]:
    """Who is compared with whom: the first planner of a model with its others; then the first model
    with every other under the same planner, or without one. What has no such rival is compared with
    the first of all."""
    listed = list(dict.fromkeys(methods))
    planners, models = [], []
    for i, other in enumerate(listed[1:], 1):
        own = [each for each in listed[:i] if each.model == other.model][:1]
        same = [
            each
            for each in listed
            if each.model == listed[0].model != other.model
            and (each.planner == other.planner or NO_PLANNER in (each.planner, other.planner))
        ]
        planners += [(each, other) for each in own]
        models += [(each, other) for each in (same if own or same else listed[:1])]
    return planners + models


def outcomes(rows: Sequence[Row], method: MethodName) -> dict[Episode, int]:
    """1 or 0 for every episode that the method played."""
    found: dict[Episode, int] = {}
    for row in rows:
        if method_of(row) == method:
            settings = row.get("settings", {})
            problems = tuple(settings.get(name) for name in SAME)
            for pair, outcome in enumerate(row.get("outcomes", "")):
                if outcome != "-":
                    found[problems, row["task"], pair, row["seed"]] = int(outcome)
    return found


def played_by_both(
    rows: Sequence[Row], one: MethodName, other: MethodName
) -> dict[Episode, list[int]]:
    """Success of the one minus that of the other by pair (an `Episode` without its seed), a number
    for each seed under which both played it."""
    first, second = outcomes(rows, one), outcomes(rows, other)
    by_pair: dict[Episode, list[int]] = {}
    for episode in first.keys() & second.keys():
        by_pair.setdefault(episode[:-1], []).append(first[episode] - second[episode])
    return by_pair


def bonett_price(differences: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Interval (low, high) of the mean of paired differences (n,) in [-1, 1] of successes.

    Source: D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data" (2012). One win and one loss are added to what was
    observed, so that it is no point where all pairs agree. Here a pair may also have a difference
    in between, its mean over several seeds.
    """
    observed = np.concatenate([differences, [1.0, -1.0]])
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(observed.std()) / sqrt(len(observed))
    centre = float(observed.mean())
    return max(centre - half, -1.0), min(centre + half, 1.0)


def paired_differences(rows: Sequence[Row]) -> list[Row]:
    """Success of the one minus that of the other of all `rivals`, over the episodes of both.

    A pair counts once, however many seeds played it, as these are no independent trials. Rows of
    before outcomes were kept are left out.
    """
    results = []
    for one, other in rivals(map(method_of, rows)):
        by_pair = played_by_both(rows, one, other)
        if not by_pair:
            continue
        differences = np.array([np.mean(each) for each in by_pair.values()])
        low, high = bonett_price(differences)
        results.append(
            {
                "models": [one.model, other.model],
                "planners": [one.planner, other.planner],
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
    named = titles(map(method_of, rows))
    told = []
    for each in paired_differences(rows):
        pair = zip(each["models"], each["planners"], strict=True)
        told.append(
            f"{' - '.join(named[MethodName(*method)] for method in pair)}: "
            f"{100 * each['difference']:+.1f} points of success "
            f"(95 % interval {100 * each['ci_low']:+.1f} to {100 * each['ci_high']:+.1f}; paired, "
            f"n = {each['pairs']} pairs, {each['episodes']} episodes of each)"
        )
    return told
