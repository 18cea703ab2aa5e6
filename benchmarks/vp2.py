"""Plans in a world model, acts in the real simulator: `cola vp2 [key=value ...]`.

The control benchmark VP2 (Tian et al., "A Control-Centric Benchmark for Video Prediction", ICLR
2023) on its seven RoboDesk tasks, or its protocol on five tasks of LIBERO (env=libero). With no
arguments it ends in a few minutes on two CPU cores; the whole table: `cola vp2 tasks=all
episodes=30 model=[cola,direct,simulator,random] out=runs/full`; planners are compared by
`planner=[cem,mppi,icem]`. A run that was killed goes on when it is started again. All settings and
their defaults: benchmarks/conf/vp2.yaml.
"""

import sys
from typing import TYPE_CHECKING

from cola_train.command import command
from cola_train.console import GOES_ON

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from benchmarks.vp2_protocol.records import EpisodeRecord
    from benchmarks.vp2_protocol.run import Run

# The heavy imports are inside, because every simulator process imports this file again.


@command("vp2", GOES_ON, lists=("planner",))
def main(config: "DictConfig") -> None:
    from benchmarks.vp2_protocol.run import Run

    benchmark = Run(config)
    try:
        play(benchmark)
    finally:
        report(benchmark)


def play(benchmark: "Run") -> None:
    """Play what is missing, with a progress bar and a line an episode."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    from benchmarks.vp2_protocol.comparison import titles
    from benchmarks.vp2_protocol.results import terminal

    named = titles(method.name for method in benchmark.methods.values())
    width = max(10, *map(len, named.values()))

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal(), speed_estimate_period=600) as bar:
        line = bar.add_task(
            "episodes", total=len(benchmark.planned), completed=len(benchmark.records())
        )

        def tell(record: "EpisodeRecord") -> None:
            verdict = Text("success", "green") if record.success else Text("failure", "red")
            title = named[record.method].ljust(width)
            bar.print(f"{title} {record.task:24s} {record.pair:3d}", verdict)
            bar.update(line, completed=len(benchmark.records()))

        benchmark.play(tell)


def report(benchmark: "Run") -> None:
    """Print the table and paired differences; write results.json, results.csv and index.html."""
    from benchmarks.vp2_protocol.comparison import comparisons, titles
    from benchmarks.vp2_protocol.page import write_page
    from benchmarks.vp2_protocol.results import (
        make_rows,
        shares,
        terminal,
        terminal_table,
        verdict,
        write_results,
    )

    records = benchmark.finished()
    if not records:
        return
    rows = make_rows(records, benchmark.folder.settings())
    console = terminal()
    console.print(terminal_table(rows))
    for told in (*comparisons(rows), verdict(rows[0]["settings"])):
        console.print(told, soft_wrap=True)
    for method, title in titles(record.method for record in records).items():
        told = shares(record.spent for record in records if record.method == method)
        console.print(f"Time of {title}: {told}.", soft_wrap=True)
    results, _ = write_results(benchmark.folder, rows)
    complete = len(benchmark.records()) == len(benchmark.planned)
    page = write_page(benchmark.folder, records, rows, complete)
    console.print(f"Results: {results}\nPage:    {page.resolve().as_uri()}", soft_wrap=True)
    console.print(
        f"Play in the dream yourself: {sys.executable} -m cola_train.play", soft_wrap=True
    )


if __name__ == "__main__":
    main()
