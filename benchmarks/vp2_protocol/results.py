"""The results of a run: success rates and their intervals, whether VP2's published ones may stand
beside them, and the files and tables that tell them."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.vp2_protocol.comparison import (
    Row,
    method_of,
    paired_differences,
    planners_differ,
    titles,
)
from benchmarks.vp2_protocol.records import EpisodeRecord, MethodName, RunFolder, named
from cola_env.files import write_text
from cola_env.goals.goal_set import OWN
from cola_env.goals.vp2_goals import SOURCE
from cola_env.scoring.vp2_classifier import classifier_files

CONF = Path(__file__).parents[1] / "conf"
VP2 = "vp2"
FREE = ("defaults", "protocol", "tasks")
"""Keys of conf/protocol/vp2.yaml that a run may choose: any of the tasks may be published."""

ALL = "all"
"""The task of rows over all tasks."""

ROW_KEYS = (
    *("task", "model", "planner", "successes", "episodes", "seed", "ci_low", "ci_high"),
    *("problems", "comparable"),
)


def wilson(successes: float, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (low, high) of a binomial rate.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference"
    (1927). Unlike the normal interval it stays within [0, 1] and is no point at 0 of n. Fractions
    of a success come from episodes that were played under several seeds.
    Raises ValueError unless 0 <= successes <= episodes and episodes > 0.
    """
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(f"{successes} successes of {episodes} episodes is no rate.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / episodes
    scale = 1 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / scale
    half = z * sqrt(rate * (1 - rate) / episodes + (z / (2 * episodes)) ** 2) / scale
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == episodes else centre + half
    return low, high


def protocol_identity(config: DictConfig, goals_source: str) -> dict[str, Any]:
    """What a run's settings keep of its protocol; {} for our own protocol on our own problems."""
    identity: dict[str, Any] = {}
    if goals_source != OWN:
        identity["goals_source"] = goals_source
    if config.get("protocol") == VP2:
        identity["protocol"] = VP2
    return identity


def departures(config: DictConfig, planner: Mapping[str, Any] | None) -> list[str]:
    """Names of the settings in which a method departs from the published protocol.

    planner: its settings; None for a method that does not plan.
    """
    published = DictConfig(OmegaConf.load(CONF / "protocol" / "vp2.yaml"))
    names = [str(key) for key in published if key not in FREE]
    differing = [name for name in names if published[name] != config[name]]
    if planner is not None and OmegaConf.load(CONF / "planner" / "vp2_mppi.yaml") != planner:
        differing.append("planner")
    folder = config.classifier
    if not isinstance(folder, str) or not classifier_files(Path(folder).expanduser()):
        differing.append("classifier")
    return differing


def obstacles(settings: Mapping[str, Any]) -> list[str]:
    """Why results under these settings cannot stand beside VP2's published ones; none: they can.

    settings: those of a row of results.json.
    """
    found = []
    if settings.get("goals_source") != SOURCE:
        found.append("the problems are our own")
    if settings.get("protocol") != VP2:
        found.append("the protocol is our own")
    elif differing := settings["departures"]:
        found.append(f"these settings differ: {', '.join(differing)}")
    return found


def verdict(settings: Mapping[str, Any]) -> str:
    """The same as a sentence."""
    because = obstacles(settings)
    if not because:
        return "Comparable with VP2's published results: its problems and its whole protocol."
    return f"Not comparable with VP2's published results: {'; '.join(because)}."


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
    """One row a model, planner and task, in the order of the records.

    settings: as RunFolder.settings returns it.
    A row's "outcomes" has "1", "0" or "-" (not played) for every pair; "problems" says whose they
    are, "own" or "vp2"; "comparable" is whether VP2's published results may stand beside it.
    """
    groups: dict[tuple[MethodName, str], list[EpisodeRecord]] = {}
    for record in records:
        groups.setdefault((record.method, record.task), []).append(record)
    common = settings["common"]
    own = {named(label, each): each for label, each in settings["models"].items()}
    return [
        rate_row(
            sum(record.success for record in group),
            len(group),
            outcomes=_outcomes(group),
            task=task,
            model=method.model,
            planner=method.planner,
            seed=common["seed"],
            problems=common.get("goals_source", OWN),
            comparable=not obstacles({**common, **own[method]}),
            settings={**common, **own[method]},
        )
        for (method, task), group in groups.items()
    ]


def _outcomes(records: Iterable[EpisodeRecord]) -> str:
    known = {record.pair: str(int(record.success)) for record in records}
    return "".join(known.get(pair, "-") for pair in range(max(known) + 1))


def pooled(rows: Sequence[Row]) -> list[Row]:
    """One row a model, planner and task, over the planner seeds."""
    groups: dict[tuple[MethodName, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((method_of(row), row["task"]), []).append(row)
    return [_sum(group, task=task, **method._asdict()) for (method, task), group in groups.items()]


def overall(rows: Sequence[Row]) -> list[Row]:
    """One row a model and planner: its successes over all its tasks and planner seeds."""
    groups: dict[MethodName, list[Row]] = {}
    for row in rows:
        groups.setdefault(method_of(row), []).append(row)
    return [_sum(group, task=ALL, **method._asdict()) for method, group in groups.items()]


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


@dataclass(frozen=True)
class Grid:
    """A table of results: a line of cells for each name down, one for each name across."""

    corner: str
    across: Sequence[str]
    lines: Mapping[str, Sequence[Row | None]]


def grid(rows: Sequence[Row]) -> Grid:
    """Tasks down, and methods across; or, where planners are compared, methods down: they are many.
    The last task is "all"."""
    methods = titles(map(method_of, rows))
    tasks = [*dict.fromkeys(row["task"] for row in rows), ALL]
    cells = {(row["task"], method_of(row)): row for row in [*pooled(rows), *overall(rows)]}
    if planners_differ(methods):
        lines = {title: [cells.get((task, m)) for task in tasks] for m, title in methods.items()}
        return Grid("model/planner", tasks, lines)
    lines = {task: [cells.get((task, method)) for method in methods] for task in tasks}
    return Grid("task", list(methods.values()), lines)


def terminal_table(rows: Sequence[Row]) -> Table:
    """`grid` with the intervals."""
    shown = grid(rows)
    table = Table(
        title="Successes in the real simulator (95 % interval)", title_style="bold", box=SIMPLE_HEAD
    )
    table.add_column(shown.corner, no_wrap=True)
    for name in shown.across:
        table.add_column(name, justify="right", no_wrap=shown.corner == "task")
    for name, cells in shown.lines.items():
        if name == ALL:
            table.add_section()
        table.add_row(name, *("" if each is None else cell(each) for each in cells))
    return table


def results_json(rows: Sequence[Row]) -> str:
    """The results file: {"benchmark": "vp2_ENV", "rows", "overall", "paired"}, one row a line.

    "paired" compares models, and planners, on the same pairs and seeds.
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


def shares(spent: Iterable[Mapping[str, float]]) -> str:
    """ "imagination 80 %, rewards 15 %, ..." of all the times together, the longest first."""
    total: defaultdict[str, float] = defaultdict(float)
    for times in spent:
        for name, seconds in times.items():
            total[name] += seconds
    whole = sum(total.values())
    ranked = sorted(total.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in ranked if whole)


def terminal() -> Console:
    """Rich's console, which prints brackets and colons as they are: in names and paths they are no
    markup."""
    return Console(markup=False, emoji=False)
