"""Inputs by the thousand: `python -m tests.fuzz inputs=10000 [seed=0] [only=[planners]] [jobs=2]`

They are tried in rounds of 100, each in a process of its own with a seed of its own: `seed`,
`seed + 1`, ... A failure is printed with its input and with the command that repeats its round.
`out=FILE.json` writes the figures and a table, FILE.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.harness import processor
from cola_env.files import write_text
from cola_train.console import progress_bar
from tests.fuzz.rounds import Figures, tried

ROUND = 100


@dataclass
class Options:
    inputs: int = 10000
    seed: int = 0
    only: list[str] = field(default_factory=list)
    jobs: int = 1
    out: str | None = None


def rounds(options: Options, names: list[str]) -> list[tuple[str, int, int]]:
    """Boundary, seed and number of inputs of each, the boundaries in turn."""
    share, made = -(-options.inputs // len(names)), []
    for number in range(-(-share // ROUND)):
        count = min(ROUND, share - number * ROUND)
        made += [(name, options.seed + number, count) for name in names]
    return made


def run(options: Options, names: list[str]) -> dict[str, Figures]:
    found = {name: Figures() for name in names}
    todo = rounds(options, names)
    bar = progress_bar(None, "inputs", total=sum(count for *_, count in todo))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        futures = {
            pool.submit(tried, name, seed, count, Path(folder)): (name, count)
            for name, seed, count in todo
        }
        try:
            for future in as_completed(futures):
                name, count = futures[future]
                for failure in found[name].join(future.result()):
                    bar.write(failure.told(name))
                bar.update(count)
        except KeyboardInterrupt:  # the figures so far
            pool.shutdown(cancel_futures=True)
    bar.close()
    return found


def main() -> None:
    if "--help" in sys.argv:
        sys.exit(__doc__)
    from tests.fuzz.boundaries import BOUNDARIES

    try:
        given = OmegaConf.merge(OmegaConf.structured(Options), OmegaConf.from_cli())
    except OmegaConfBaseException as error:
        sys.exit(f"error: {str(error).splitlines()[0]}\n{__doc__}")
    options: Options = OmegaConf.to_object(given)
    names = options.only or [*BOUNDARIES]
    if unknown := {*names} - {*BOUNDARIES}:
        sys.exit(f"error: {unknown} are no boundaries: choose from {', '.join(BOUNDARIES)}.")
    begun = time.monotonic()
    found = run(options, names)
    print(table(found))
    if options.out:
        results = {
            "command": " ".join(["python -m tests.fuzz", *sys.argv[1:]]),
            "processor": processor(),
            "torch": torch.__version__,
            "minutes": round((time.monotonic() - begun) / 60, 1),
            "inputs": sum(figures.inputs for figures in found.values()),
            "failed": sum(figures.failed for figures in found.values()),
            "boundaries": {name: asdict(figures) for name, figures in found.items()},
        }
        write_text(Path(options.out), json.dumps(results, indent=1) + "\n")
        heading = (
            f"`{results['command']}` on {results['processor']}, {results['minutes']} minutes.\n"
        )
        write_text(Path(options.out).with_suffix(".md"), f"{heading}\n{table(found)}\n")
    if any(figures.failed for figures in found.values()):
        sys.exit(1)


def table(found: dict[str, Figures]) -> str:
    rows = [
        f"| {name} | {of.inputs} | {of.taken} | {of.inputs - of.taken - of.failed} | {of.failed} | "
        f"{len(of.failures)} | {of.slowest} | {of.peak_mb} |"
        for name, of in found.items()
    ]
    return "\n".join(
        [
            "| boundary | inputs | taken | refused | failed | distinct failures | slowest, s | "
            "peak, MB |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
