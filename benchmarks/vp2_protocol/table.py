"""Success rates of a run: rows for the terminal, for JSON and CSV, and for the page."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.vp2_protocol.intervals import wilson
from benchmarks.vp2_protocol.paired import paired_differences
from benchmarks.vp2_protocol.published import obstacles
from benchmarks.vp2_protocol.records import EpisodeRecord, RunFolder
from cola_env.files import write_text
from cola_env.goals import OWN

ROW_KEYS = (
    *("task", "model", "planner", "successes", "episodes", "seed", "ci_low", "ci_high"),
    *("problems", "comparable"),
)

Row = dict[str, Any]


def rate_row(successes: int, episodes: int, pairs: int | None = None, **about: Any) -> Row:
    """One row: a success count, what it is about, and its 95 % Wilson interval.

    ``pairs`` is how many pairs the episodes are of, if not one each: under several planner seeds a
    pair counts once in the interval.
    """
    pairs = pairs or episodes
    low, high = wilson(successes * pairs / episodes, pairs)
    return {
        **about,
        "successes": successes,
        "episodes": episodes,
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
    }


def make_rows(records: Iterable[EpisodeRecord], settings: Mapping[str, Any]) -> list[Row]:
    """One row a model and task, in the order of the records.

    settings: as RunFolder.settings returns it.
    A row's "outcomes" has "1", "0" or "-" (not played) for every pair; "problems" says whose they
    are, "own" or "vp2"; "comparable" is whether VP2's published results may stand beside it.
    """
    groups: dict[tuple[str, str], list[EpisodeRecord]] = {}
    for record in records:
        groups.setdefault((record.model, record.task), []).append(record)
    return [
        rate_row(
            sum(record.success for record in group),
            len(group),
            outcomes=_outcomes(group),
            task=task,
            model=model,
            planner=settings["models"][model]["planner"],
            seed=settings["common"]["seed"],
            problems=settings["common"].get("goals_source", OWN),
            comparable=not obstacles(settings["common"]),
            settings={**settings["common"], **settings["models"][model]},
        )
        for (model, task), group in groups.items()
    ]


def _outcomes(records: Iterable[EpisodeRecord]) -> str:
    known = {record.pair: str(int(record.success)) for record in records}
    return "".join(known.get(pair, "-") for pair in range(max(known) + 1))


def pooled(rows: Sequence[Row]) -> list[Row]:
    """One row a model and task, over the planner seeds."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["task"]), []).append(row)
    return [_sum(group, task=task, model=model) for (model, task), group in groups.items()]


def overall(rows: Sequence[Row]) -> list[Row]:
    """One row a model: its successes over all its tasks and planner seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["model"], []).append(row)
    return [_sum(group, task="all", model=model) for model, group in groups.items()]


def _sum(rows: Sequence[Row], **about: Any) -> Row:
    successes, episodes = (sum(row[key] for row in rows) for key in ("successes", "episodes"))
    played = {
        (row["task"], pair)
        for row in rows
        for pair, outcome in enumerate(row.get("outcomes", "0" * row["episodes"]))
        if outcome != "-"
    }
    return rate_row(successes, episodes, len(played), **about)


def cell(row: Row) -> str:
    """A rate as text: '7/30 (12-41 %)'."""
    interval = f"({100 * row['ci_low']:.0f}-{100 * row['ci_high']:.0f} %)"
    return f"{row['successes']}/{row['episodes']} {interval}"


def terminal_table(rows: Sequence[Row]) -> Table:
    """Tasks down, models across, with the intervals."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells = {(row["task"], row["model"]): cell(row) for row in [*pooled(rows), *overall(rows)]}
    table = Table(
        title="Successes in the real simulator (95 % interval)", title_style="bold", box=SIMPLE_HEAD
    )
    table.add_column("task", no_wrap=True)
    for model in models:
        table.add_column(model, justify="right", no_wrap=True)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for task in [*tasks, "all"]:
        if task == "all":
            table.add_section()
        table.add_row(task, *(cells.get((task, model), "") for model in models))
    return table


def results_json(rows: Sequence[Row]) -> str:
    """The results file: {"benchmark": "vp2_ENV", "rows", "overall", "paired"}, one row a line.

    "paired" compares the first model with each of the others on the same pairs and seeds.
    """
    sections = {"rows": rows, "overall": overall(rows), "paired": paired_differences(rows)}
    env = rows[0]["settings"].get("env", "robodesk")
    parts = [f' "benchmark": "vp2_{env}"']
    for name, listed in sections.items():
        lines = ",\n".join("  " + json.dumps(row) for row in listed)
        parts.append(f' "{name}": [\n{lines}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write_results(folder: RunFolder, rows: Sequence[Row]) -> tuple[Path, Path]:
    """Write results.json and results.csv (settings left out) into the run's folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ROW_KEYS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    json_path, csv_path = folder.path / "results.json", folder.path / "results.csv"
    write_text(json_path, results_json(rows))
    write_text(csv_path, text.getvalue())
    return json_path, csv_path
