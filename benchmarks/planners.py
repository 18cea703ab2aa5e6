"""Our planners and everybody else's: python benchmarks/planners.py [--problems 40] [--seeds 3] ...

The same problems and budgets for all, in one run: what the plans are worth, what planning costs
above the cost function, and what memory a budget holds. Rivals that are not installed (the extra
`rivals`) are left out. Writes JSON, a plot, and the tables of docs/planners.md. One torch thread.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402
from benchmarks.planner_contestants import Contestant, contestants  # noqa: E402
from benchmarks.planner_measures import overhead, quality  # noqa: E402
from benchmarks.planner_memory import memory  # noqa: E402
from benchmarks.planner_problems import make_problems  # noqa: E402
from benchmarks.planner_report import draw, tables, write_between_markers  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=40, help="instances of each kind")
    parser.add_argument("--seeds", type=int, default=3, help="plans for each instance")
    parser.add_argument(
        "--rounds", type=int, default=40, help="timings of each planner, interleaved"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--no-memory", action="store_true", help="leave out the run that takes 8 GB"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/planners.json")
    parser.add_argument("--image", type=Path, default=ROOT / "docs/images/planners.png")
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs/planners.md", help="gets the tables, if it exists"
    )
    return parser.parse_args()


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "stable-worldmodel", "torchrl", "pytorch_mppi"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    taking_part: list[Contestant] = contestants(lambda line: print(line, file=sys.stderr))
    problems = {
        kind: instances.to(options.device)
        for kind, instances in make_problems(options.problems).items()
    }
    results: dict[str, Any] = {
        "setting": {
            "problems": options.problems,
            "seeds": options.seeds,
            "rounds": options.rounds,
            "device": options.device,
            "machine": processor(),
            "versions": versions(),
        },
        "quality": quality(taking_part, problems, options.seeds),
        "overhead": overhead(options.device, options.rounds),
    }
    if not options.no_memory:
        results["memory"] = memory()
    return results


if __name__ == "__main__":
    options = arguments()
    results = run(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = tables(results)
    print(text)
    draw(results, options.image)
    if options.page.exists():
        write_between_markers(options.page, text)
