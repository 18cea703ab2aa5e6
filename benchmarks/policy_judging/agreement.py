"""What success in a dream says of success in the real twin, over a set of policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.fidelity_measures import calibration_error, reliability
from benchmarks.policy_judging.records import TWIN, PlayedEpisode
from benchmarks.vp2_protocol.comparison import Row, bonett_price
from benchmarks.vp2_protocol.results import ALL, rate_row
from cola_env.scoring.trust import TRUSTED

EACH = "each task"
"""The task of rows whose points are a policy on a task; of ALL they are policies on all tasks."""
FILTERS: dict[str, float | None] = {"none": None, "trust": TRUSTED}
"""Expected dB below which a frame's verdict does not count, by the name of the filter."""
RESAMPLES = 1000

Rates = NDArray[np.float64]
Measure = Callable[[Rates, Rates], float | None]


def mean_maximum_rank_violation(real: Rates, dreamt: Rates) -> float:
    """MMRV of policies (P,): 0 where the dream ranks them as the world does.

    Source: Li et al., "Evaluating Real-World Robot Manipulation Policies in Simulation" (SIMPLER,
    arXiv 2405.05941). A pair of policies that is ranked otherwise counts with the difference of
    their real rates; of each policy its worst pair; of those the mean.
    """
    differs = (dreamt[:, None] < dreamt[None]) != (real[:, None] < real[None])
    violations = np.abs(real[:, None] - real[None]) * differs
    return float(violations.max(1).mean())


def pearson(real: Rates, dreamt: Rates) -> float | None:
    """None where a correlation has no meaning: all rates of one side are the same."""
    return float(np.corrcoef(real, dreamt)[0, 1]) if _vary(real, dreamt) else None


def spearman(real: Rates, dreamt: Rates) -> float | None:
    """Of the ranks; None as `pearson`."""
    return pearson(rankdata(real), rankdata(dreamt))


def _vary(*rates: Rates) -> bool:
    return all(len(each) > 1 and np.ptp(each) > 0 for each in rates)


MEASURES: dict[str, Measure] = {
    "pearson": pearson,
    "spearman": spearman,
    "mmrv": mean_maximum_rank_violation,
}


@dataclass(frozen=True)
class Outcomes:
    """The policies' successes on the same N problems of one task: bool (P, N) each, and the
    highest probability of success that their dreams were given, float (P, N)."""

    task: str
    policies: tuple[str, ...]
    real: NDArray[np.bool_]
    dreamt: NDArray[np.bool_]
    chances: NDArray[np.float64]

    def select(self, policies: Sequence[str]) -> Outcomes:
        """Those of some policies."""
        rows = [self.policies.index(policy) for policy in policies]
        return Outcomes(
            self.task, tuple(policies), self.real[rows], self.dreamt[rows], self.chances[rows]
        )


def outcomes(
    episodes: Sequence[PlayedEpisode], dream: str, trusted: float | None
) -> list[Outcomes]:
    """By task, what the twin and one dream have of it.

    On the problems that all its policies have played in both: of a judging that is under way, a
    policy that has not begun is left out, and so are the problems that others have not finished.
    """
    by_key = {(e.policy, e.task, e.pair, e.world): e for e in episodes}
    found = []
    for task in dict.fromkeys(e.task for e in episodes):
        pairs: dict[str, set[int]] = {}
        for policy, where, pair, world in by_key:
            if (where, world) == (task, dream) and (policy, task, pair, TWIN) in by_key:
                pairs.setdefault(policy, set()).add(pair)
        shared = sorted(set.intersection(*pairs.values())) if pairs else []
        if not shared:
            continue
        real = [[by_key[p, task, i, TWIN].success for i in shared] for p in pairs]
        imagined = [[by_key[p, task, i, dream] for i in shared] for p in pairs]
        found.append(
            Outcomes(
                task,
                tuple(pairs),
                np.array(real),
                np.array([[e.succeeds(trusted) for e in row] for row in imagined]),
                np.array([[e.chance(trusted) for e in row] for row in imagined]),
            )
        )
    return found


def agreement(parts: Sequence[Outcomes], pooled: bool, seed: int = 0) -> dict[str, Any]:
    """The measures over policies of some tasks, with 95 % bootstrap intervals over problems.

    pooled: a policy's rate is that over all tasks; else it is a point a task.
    """
    rng = np.random.default_rng(seed)

    def rates(columns: Sequence[NDArray[np.int64]]) -> tuple[Rates, Rates]:
        sides = []
        for name in ("real", "dreamt"):
            picked = [getattr(p, name)[:, c] for p, c in zip(parts, columns, strict=True)]
            if pooled:
                sides.append(np.concatenate(picked, axis=1).mean(1))
            else:
                sides.append(np.concatenate([each.mean(1) for each in picked]))
        return sides[0], sides[1]

    counts = [part.real.shape[1] for part in parts]
    measured = rates([np.arange(count) for count in counts])
    drawn = [rates([rng.integers(0, n, n) for n in counts]) for _ in range(RESAMPLES)]
    row: dict[str, Any] = {
        "policies": len(measured[0])
        if pooled
        else len({p for part in parts for p in part.policies}),
        "points": len(measured[0]),
        "problems": sum(counts),
        "real_rate": round(float(measured[0].mean()), 4),
        "dream_rate": round(float(measured[1].mean()), 4),
    }
    for name, measure in MEASURES.items():
        value = measure(*measured)
        again = [found for found in (measure(*each) for each in drawn) if found is not None]
        row[name] = None if value is None else round(value, 4)
        ends = np.quantile(again, (0.025, 0.975)) if value is not None else (None, None)
        for end, number in zip(("low", "high"), ends, strict=True):
            row[f"{name}_{end}"] = None if number is None else round(float(number), 4)
    bins = reliability(
        np.concatenate([part.chances.ravel() for part in parts]),
        np.concatenate([part.real.ravel() for part in parts]),
    )
    row["calibration_error"] = round(calibration_error(bins), 4)
    row["calibration"] = [
        {"probability": round(b.probability, 4), "rate": round(b.rate, 4), "count": b.count}
        for b in bins
    ]
    return row


def agreement_rows(episodes: Sequence[PlayedEpisode], dreams: Sequence[str]) -> list[Row]:
    """A row a dream, filter and task; then those over tasks, of policies that played them all."""
    rows = []
    for dream in dreams:
        for name, trusted in FILTERS.items():
            parts = outcomes(episodes, dream, trusted)
            about = {"dream": dream, "filter": name}
            rows += [
                {**about, "task": part.task, **agreement([part], pooled=True)} for part in parts
            ]
            if len(parts) > 1:
                rows.append({**about, "task": EACH, **agreement(parts, pooled=False)})
                common = [
                    policy
                    for policy in parts[0].policies
                    if all(policy in part.policies for part in parts)
                ]
                if common:
                    whole = [part.select(common) for part in parts]
                    rows.append({**about, "task": ALL, **agreement(whole, pooled=True)})
    return rows


def rate_rows(episodes: Sequence[PlayedEpisode]) -> list[Row]:
    """Success of every policy in every world, by task and over tasks, with Wilson intervals."""
    groups: dict[tuple[str, str, str], list[PlayedEpisode]] = {}
    for episode in episodes:
        for task in (episode.task, ALL):
            groups.setdefault((episode.policy, episode.world, task), []).append(episode)
    rows = []
    for (policy, world, task), group in groups.items():
        filters = {"none": None} if world == TWIN else FILTERS
        rows += [
            rate_row(
                sum(episode.succeeds(trusted) for episode in group),
                len(group),
                policy=policy,
                world=world,
                task=task,
                filter=name,
            )
            for name, trusted in filters.items()
        ]
    return rows


def flattery_rows(episodes: Sequence[PlayedEpisode], dreams: Sequence[str]) -> list[Row]:
    """By how much each dream overrates each policy, paired over problems, most flattered first."""
    rows: list[Row] = []
    for dream in dreams:
        for name, trusted in FILTERS.items():
            differences: dict[str, list[NDArray[np.float64]]] = {}
            for part in outcomes(episodes, dream, trusted):
                for row, policy in enumerate(part.policies):
                    difference = part.dreamt[row].astype(float) - part.real[row]
                    differences.setdefault(policy, []).append(difference)
            found = []
            for policy, parts in differences.items():
                whole = np.concatenate(parts)
                low, high = bonett_price(whole)
                found.append(
                    {
                        "dream": dream,
                        "filter": name,
                        "policy": policy,
                        "flattery": round(float(whole.mean()), 4),
                        "ci_low": round(low, 4),
                        "ci_high": round(high, 4),
                        "problems": len(whole),
                    }
                )
            rows += sorted(found, key=lambda row: -row["flattery"])
    return rows


def points(rows: Sequence[Mapping[str, Any]], dream: str, name: str) -> dict[str, list[Row]]:
    """The rates of a dream beside the twin's, by task: {"policy", "real", "dreamt"} each."""
    rates = {
        (row["task"], row["policy"], row["world"], row["filter"]): row["successes"]
        / row["episodes"]
        for row in rows
    }
    found: dict[str, list[Row]] = {}
    for (task, policy, world, kept), rate in rates.items():
        real = rates.get((task, policy, TWIN, "none"))
        if (world, kept) == (dream, name) and real is not None:
            found.setdefault(task, []).append({"policy": policy, "real": real, "dreamt": rate})
    return found
