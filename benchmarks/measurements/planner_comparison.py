"""Our planners and everybody else's: `python -m benchmarks.measurements.planner_comparison`.

The same problems and budgets for all, in one run: what the plans are worth, what planning costs
above the cost function, and what memory a budget holds. Rivals that are not installed (the extra
`rivals`) are left out. Writes JSON, a plot, and the tables of docs/planners.md. One torch thread.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.harness import processor
from benchmarks.measurements.planner_measures import memory, overhead, quality
from benchmarks.measurements.planner_methods import all_methods
from benchmarks.measurements.planner_problems import make_problems
from cola_env.files import write_text
from cola_train.command import command

BEGIN, END = "<!-- planners.py: begin -->", "<!-- planners.py: end -->"
RIVALS = "swm", "TorchRL", "pytorch_mppi"
GRADIENTS = "Gradient", "LBFGS", "CEM + LBFGS", "swm GD"


def versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "stable-worldmodel", "torchrl", "pytorch_mppi"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def measure(config: DictConfig) -> dict[str, Any]:
    torch.set_num_threads(1)
    methods = all_methods(lambda line: print(line, file=sys.stderr))
    problems = {
        kind: instances.to(config.device)
        for kind, instances in make_problems(config.problems).items()
    }
    results: dict[str, Any] = {
        "setting": {
            **{name: config[name] for name in ("problems", "seeds", "rounds", "device")},
            "machine": processor(),
            "versions": versions(),
        },
        "quality": quality(methods, problems, config.seeds),
        "overhead": overhead(config.device, config.rounds),
    }
    if config.memory:
        results["memory"] = memory()
    return results


def is_rival(name: str) -> bool:
    return name.startswith(RIVALS)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def complete(costs: list[float | None]) -> list[float] | None:
    values = [cost for cost in costs if cost is not None]
    return values if len(values) == len(costs) else None


def comparisons(results: dict[str, Any], gradients: bool) -> list[dict[str, Any]]:
    """For every kind of problem our best, the best rival, and the paired difference."""
    rows = []
    for kind, planners in results["quality"].items():
        costs = {
            name: values
            for name, plans in planners.items()
            if (values := complete(plans)) and (name in GRADIENTS) == gradients
        }
        best = {
            side: min(names, key=lambda name: statistics.fmean(costs[name]))
            for side in (False, True)
            if (names := [name for name in costs if is_rival(name) == side])
        }
        if len(best) < 2:
            continue
        difference, error = mean_and_error(
            [a - b for a, b in zip(costs[best[False]], costs[best[True]], strict=True)]
        )
        rows.append(
            {
                "kind": kind,
                "ours": best[False],
                "cost": statistics.fmean(costs[best[False]]),
                "rival": best[True],
                "rival_cost": statistics.fmean(costs[best[True]]),
                "difference": difference,
                "error": error,
            }
        )
    return rows


def tables(results: dict[str, Any]) -> str:
    """Markdown."""
    parts = _quality(results), _comparison(results), _overhead(results), _memory(results)
    return "\n\n".join(part for part in parts if part)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _quality(results: dict[str, Any]) -> str:
    kinds = list(results["quality"])
    names = list(dict.fromkeys(name for kind in kinds for name in results["quality"][kind]))

    def cell(kind: str, name: str) -> str:
        plans = results["quality"][kind].get(name)
        if plans is None:
            return ""
        values = complete(plans)
        if values is None:
            return f"NaN in {sum(cost is None for cost in plans)} of {len(plans)}"
        return "{:.1f} ± {:.1f}".format(*mean_and_error(values))

    setting = results["setting"]
    caption = (
        f"Cost of the returned plan, lower is better: mean and standard error over "
        f"{setting['problems']} problems x {setting['seeds']} seeds."
    )
    rows = [[name, *(cell(kind, name) for kind in kinds)] for name in names]
    return caption + "\n\n" + _table(["planner", *kinds], rows)


def _comparison(results: dict[str, Any]) -> str:
    rows = [
        [
            row["kind"],
            f"{row['ours']} {row['cost']:.1f}",
            f"{row['rival']} {row['rival_cost']:.1f}",
            f"{row['difference']:+.1f} ± {row['error']:.1f}",
        ]
        for gradients in (False, True)
        for row in comparisons(results, gradients)
    ]
    if not rows:
        return ""
    caption = (
        "Our best planner against the best rival on each problem, without and then with gradients "
        "(paired difference and its standard error; negative: ours is better)."
    )
    return caption + "\n\n" + _table(["problem", "ours", "best rival", "difference"], rows)


def _overhead(results: dict[str, Any]) -> str:
    measured = results["overhead"]
    names = list(dict.fromkeys(name for batch in measured for name in measured[batch]))

    def cells(batch: str, name: str) -> list[str]:
        times = measured[batch].get(name)
        if times is None:
            return ["", ""]
        return [f"{times['best']:.2f}", f"{times['median']:.2f}"]

    rows = [[name, *cells("1", name), *cells("8", name)] for name in names]
    caption = (
        f"Milliseconds of a plan above its cost function on one {results['setting']['device']} "
        "thread (512 samples, horizon 15, 5 actions, 5 iterations)."
    )
    head = ["planner", "1 problem, best", "median", "8 problems, best", "median"]
    return caption + "\n\n" + _table(head, rows)


def _memory(results: dict[str, Any]) -> str:
    measured = results.get("memory")
    if not measured:
        return ""
    rows = [
        [name, f"{run['gb']:.2f}", str(run["chunk"] or 512), f"{run['seconds']:.1f}"]
        for name, run in measured.items()
        if isinstance(run, dict)
    ]
    caption = (
        "Peak memory of a plan under a cost that takes 16 MB a candidate, 512 candidates; the two "
        f"plans differ by {measured['largest difference of the plans']:.1g} at most."
    )
    return caption + "\n\n" + _table(["setting", "GB", "candidates at once", "seconds"], rows)


def draw(results: dict[str, Any], path: Path) -> None:
    """The plot: costs in units of the best rival's, and overheads."""
    from matplotlib import pyplot

    kinds = list(results["quality"])
    figure, axes = pyplot.subplots(
        1, len(kinds) + 1, figsize=(4 * (len(kinds) + 1), 6.5), layout="constrained"
    )
    for axis, kind in zip(axes, kinds, strict=False):
        found = {
            name: mean_and_error(values)
            for name, plans in results["quality"][kind].items()
            if (values := complete(plans))
        }
        lowest, highest = (f(cost for cost, _ in found.values()) for f in (min, max))
        _bars(axis, found, f"{kind}: cost of the plan", log=highest > 10 * lowest)
    times = {name: (t["best"], 0.0) for name, t in results["overhead"]["1"].items()}
    _bars(axes[-1], times, "overhead, ms a plan", log=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _bars(axis: Any, found: dict[str, tuple[float, float]], title: str, log: bool = False) -> None:
    names = sorted(found, key=lambda name: found[name][0], reverse=True)
    axis.barh(
        names,
        [found[name][0] for name in names],
        xerr=[found[name][1] for name in names],
        color=["#b0b0b0" if is_rival(name) else "#2a7ab9" for name in names],
        error_kw={"elinewidth": 1},
    )
    axis.set_title(title, fontsize=11)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if log:
        axis.set_xscale("log")


def write_between_markers(page: Path, text: str) -> None:
    """Replace what stands between the two markers of the page.

    Raises ValueError when it does not have them.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


@command("planner_comparison")
def main(config: DictConfig) -> None:
    results = measure(config)
    write_text(Path(config.out), json.dumps(results, indent=1) + "\n")
    text = tables(results)
    print(text)
    draw(results, Path(config.image))
    page = Path(config.page)
    if page.exists():
        write_between_markers(page, text)


if __name__ == "__main__":
    main()
