"""What success in a dream says of success in the real twin, over a set of policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.fidelity_measures import calibration_error, reliability
from benchmarks.policy_judging.records import SEEN, TWIN, PlayedEpisode
from benchmarks.vp2_protocol.comparison import Row, bonett_price
from benchmarks.vp2_protocol.results import ALL, rate_row
from cola_env.scoring.trust import TRUSTED

EACH = "each task"
"""The task of rows whose points are a policy on a task; of ALL they are policies on all tasks."""
FILTERS: dict[str, float | None] = {"none": None, "trust": TRUSTED}
"""Expected dB below which a frame's verdict does not count, by the name of the filter."""
RESAMPLES = 1000

Rates = NDArray[np.float64]
Measure = Callable[[Rates, Rates], Rates]


def filters_of(world: str) -> dict[str, float | None]:
    """Those that mean something there: what is real is all to be trusted."""
    return {"none": None} if world in (TWIN, SEEN) else FILTERS


def mean_maximum_rank_violation(real: Rates, dreamt: Rates) -> Rates:
    """MMRV (...) of the rates (..., P) of policies: 0 where the dream ranks them as the world does.

    Source: Li et al., "Evaluating Real-World Robot Manipulation Policies in Simulation" (SIMPLER,
    arXiv 2405.05941). A pair of policies that is ranked otherwise counts with the difference of
    their real rates; of each policy its worst pair; of those the mean.
    """
    dream_below = dreamt[..., :, None] < dreamt[..., None, :]
    real_below = real[..., :, None] < real[..., None, :]
    distance = np.abs(real[..., :, None] - real[..., None, :])
    violations: Rates = (distance * (dream_below != real_below)).max(-1).mean(-1)
    return violations


def pearson(real: Rates, dreamt: Rates) -> Rates:
    """The correlation (...) of rates (..., P); NaN where one side is all the same."""
    sides = [each - each.mean(-1, keepdims=True) for each in (real, dreamt)]
    flat = (np.ptp(real, -1) == 0) | (np.ptp(dreamt, -1) == 0)
    scale = np.sqrt((sides[0] ** 2).sum(-1) * (sides[1] ** 2).sum(-1))
    found: Rates = np.where(flat, np.nan, (sides[0] * sides[1]).sum(-1) / np.where(flat, 1, scale))
    return found


def spearman(real: Rates, dreamt: Rates) -> Rates:
    """`pearson` of the ranks."""
    return pearson(rankdata(real, axis=-1), rankdata(dreamt, axis=-1))


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
    counts = [part.real.shape[1] for part in parts]
    drawn = [rng.integers(0, count, (RESAMPLES, count)) for count in counts]
    columns = [np.vstack([np.arange(n), each]) for n, each in zip(counts, drawn, strict=True)]

    def rates(side: str) -> Rates:
        """(1 + RESAMPLES, points): what was measured, then the resamples of its problems."""
        picked = [getattr(p, side)[:, c] for p, c in zip(parts, columns, strict=True)]
        if pooled:
            whole: Rates = np.concatenate(picked, axis=2).mean(2).T
            return whole
        return np.concatenate([each.mean(2) for each in picked]).T

    real, dreamt = rates("real"), rates("dreamt")
    row: dict[str, Any] = {
        "policies": len({policy for part in parts for policy in part.policies}),
        "points": real.shape[1],
        "problems": sum(counts),
        "real_rate": _rounded(real[0].mean()),
        "dream_rate": _rounded(dreamt[0].mean()),
    }
    for name, measure in MEASURES.items():
        value, *again = measure(real, dreamt)
        known = np.array(again)[np.isfinite(again)]
        low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
        row[name], row[f"{name}_low"], row[f"{name}_high"] = map(_rounded, (value, low, high))
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


def _rounded(value: float) -> float | None:
    """As JSON has it: null for what is not defined."""
    return round(float(value), 4) if np.isfinite(value) else None


def agreement_rows(episodes: Sequence[PlayedEpisode], dreams: Sequence[str]) -> list[Row]:
    """A row a dream, filter and task; then those over tasks, of policies that played them all."""
    rows = []
    for dream in dreams:
        for name, trusted in filters_of(dream).items():
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
        rows += [
            rate_row(
                sum(episode.succeeds(trusted) for episode in group),
                len(group),
                policy=policy,
                world=world,
                task=task,
                filter=name,
            )
            for name, trusted in filters_of(world).items()
        ]
    return rows


def flattery_rows(episodes: Sequence[PlayedEpisode], dreams: Sequence[str]) -> list[Row]:
    """By how much each dream overrates each policy, paired over problems, most flattered first."""
    rows: list[Row] = []
    for dream in dreams:
        for name, trusted in filters_of(dream).items():
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
