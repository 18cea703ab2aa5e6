"""Our planners and everybody else's: `python -m benchmarks.measurements.planner_comparison`.

The same problems and budgets for all, in one run: what the plans are worth, what planning costs
above the cost function, and what memory a budget holds. Rivals that are not installed (the extra
`rivals`) are left out. Writes JSON, a plot, and the tables of docs/planners.md. One torch thread.
"""

from __future__ import annotations

import json
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
from benchmarks.measurements.planner_report import draw, tables, write_between_markers
from cola_env.files import write_text
from cola_train.command import command


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
