"""How many seeds a claim of the paper needs: `cola power`.

From the paired differences of the seeds that there are (docs/results/paper), the seeds after which
a two-sided paired t-test at 5 % finds the paper's difference, or half of it, with 80 % power.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import nct, t

from cola_env.errors import ColaWorldError
from cola_train.console import ending

ALPHA, POWER, MOST = 0.05, 0.8, 1000

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One paired difference, joint training's advantage.

    paper: the paper's difference in the same unit; None where it shows only curves.
    differences: from the numbers of the experiment's JSON, one a seed.
    """

    experiment: str
    name: str
    unit: str
    paper: float | None
    differences: Callable[[Numbers], list[float]]


def less(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def last(curves: Sequence[Mapping[str, float]]) -> list[float]:
    return [list(curve.values())[-1] for curve in curves]


def second_half(curves: Sequence[Mapping[str, float]]) -> list[float]:
    """What each curve gains from its middle measurement to its last."""
    values = [list(curve.values()) for curve in curves]
    return [each[-1] - each[len(each) // 2] for each in values]


def entropy_lost(numbers: Numbers) -> list[float]:
    two_stage, joint = (stages["entropy"] for stages in list(numbers.values())[1:])
    return less(less(two_stage[1], two_stage[2]), less(joint[1], joint[2]))


def entropy_left(numbers: Numbers) -> list[float]:
    two_stage, joint = (stages["entropy"] for stages in list(numbers.values())[1:])
    return less(joint[2], two_stage[2])


def between(numbers: Mapping[str, Sequence[float]]) -> list[float]:
    return less(numbers["two_stage"], numbers["joint"])


def of_table_3(row: str) -> Callable[[Numbers], list[float]]:
    return lambda numbers: less(numbers[row]["joint"], numbers[row]["two_stage"])


MEASURES = (
    Measure(
        "figure_4a",
        "probe loss, pure warm-up - joint",
        "L1",
        None,
        lambda n: less(last(n["pure_warm_up"]), last(n["joint"])),
    ),
    Measure(
        "figure_4b",
        "final PSNR, joint - frozen LAM",
        "dB",
        None,
        lambda n: less(last(n["joint"]), last(n["frozen_lam"])),
    ),
    Measure(
        "figure_4b",
        "PSNR gained late, joint - frozen LAM",
        "dB",
        None,
        lambda n: less(second_half(n["joint"]), second_half(n["frozen_lam"])),
    ),
    Measure(
        "figure_5", "entropy lost under the adapter, two-stage - joint", "nats", None, entropy_lost
    ),
    Measure("figure_5", "entropy under the adapter, joint - two-stage", "nats", None, entropy_left),
    Measure(
        "table_1",
        "probe loss, two-stage - joint (LIBERO)",
        "L1",
        0.1614 - 0.1623,
        between,
    ),
    Measure(
        "table_3", "PSNR by LAM, joint - two-stage", "dB", 24.29 - 24.21, of_table_3("PSNR, GT-LAM")
    ),
    Measure(
        "table_3",
        "SSIM by LAM, joint - two-stage",
        "x 100",
        87.04 - 86.99,
        of_table_3("SSIM, GT-LAM"),
    ),
    Measure(
        "table_3",
        "PSNR by real actions, joint - two-stage",
        "dB",
        21.37 - 20.03,
        of_table_3("PSNR, real action"),
    ),
    Measure(
        "table_3",
        "SSIM by real actions, joint - two-stage",
        "x 100",
        84.67 - 83.33,
        of_table_3("SSIM, real action"),
    ),
    Measure(
        "explanation_drift",
        "codes that regroup late, joint - frozen LAM",
        "of the codes",
        None,
        lambda n: less(
            *(n["late"][run]["regrouped_since_last"] for run in ("joint", "frozen_lam"))
        ),
    ),
    Measure(
        "explanation_drift",
        "1 - CKA late in joint training, since the start - since the last",
        "of 1 - CKA",
        None,
        lambda n: less(*(n["late"]["joint"][f"reshaped_since_{x}"] for x in ("start", "last"))),
    ),
    Measure(
        "explanation_wrong_codes",
        "PSNR lost to few wrong codes, two-stage - joint",
        "dB",
        None,
        lambda n: between(n["few"]["lost"]),
    ),
    Measure(
        "explanation_wrong_codes",
        "the same of the error of all wrong codes",
        "of the added error",
        None,
        lambda n: between(n["few"]["added"]),
    ),
)


def seeds_needed(difference: float, spread: float, power: float = POWER) -> int | None:
    """Seeds after which a paired t-test finds a mean ``difference`` of standard deviation
    ``spread`` between seeds with this power; None for more than MOST."""
    for count in (*range(2, 100), *range(100, MOST + 1, 10)):
        noncentrality = abs(difference) / spread * np.sqrt(count)
        critical = t.ppf(1 - ALPHA / 2, count - 1)
        if nct.sf(critical, count - 1, noncentrality) >= power:
            return count
    return None


def table(folder: Path) -> str:
    """Markdown, a line a measure whose experiment is in ``folder``."""
    lines = [
        "| | measure | ours, mean and spread over seeds | seeds | the paper's | seeds for it | "
        "for half of it | for ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for measure in MEASURES:
        file = folder / f"{measure.experiment}.json"
        if not file.exists():
            continue
        found = measure.differences(json.loads(file.read_text())["numbers"])
        mean, spread = fmean(found), stdev(found)
        paper = measure.paper
        halves = (None, None) if paper is None else (paper, paper / 2)
        needed = [
            "" if wanted is None else str(seeds_needed(wanted, spread) or f"> {MOST}")
            for wanted in (*halves, mean)
        ]
        told = "curves only" if paper is None else f"{paper:+.3g}"
        lines.append(
            f"| {measure.experiment.replace('_', ' ').capitalize()} | {measure.name} "
            f"| {mean:+.3g} ± {spread:.3g} {measure.unit} | {len(found)} | {told} "
            f"| {' | '.join(needed)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/results/paper"))
    folder = parser.parse_args().folder
    with ending():
        if not any(folder.glob("*.json")):
            raise ColaWorldError(f"{folder} holds no results of benchmarks.paper.")
        print(table(folder))


if __name__ == "__main__":
    main()
