"""The results of a run: success rates and their intervals, paired differences of models, whether
VP2's published ones may stand beside them, and the files and tables that tell them."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.vp2_protocol.records import EpisodeRecord, RunFolder
from cola_env.files import write_text
from cola_env.goals.goal_set import OWN
from cola_env.goals.vp2_goals import SOURCE
from cola_env.scoring.vp2_classifier import classifier_files

CONF = Path(__file__).parents[1] / "conf"
VP2 = "vp2"
FREE = ("defaults", "protocol", "tasks")
"""Keys of conf/protocol/vp2.yaml that a run may choose: any of the tasks may be published."""

ROW_KEYS = (
    *("task", "model", "planner", "successes", "episodes", "seed", "ci_low", "ci_high"),
    *("problems", "comparable"),
)

Row = dict[str, Any]
Episode = tuple[Any, ...]
"""(set of problems and rules, task, pair, seed)."""

SAME = ("goals", "steps", "judge", "warmup_steps", "idle_steps")
"""The settings that two rows must share for their pairs of one number to be the same problem."""


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


def bonett_price(differences: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Interval (low, high) of the mean of paired differences (n,) in [-1, 1] of successes.

    Source: D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data" (2012). One win and one loss are added to what was
    observed, so that it is no point where all pairs agree. Here a pair may also have a difference
    in between, its mean over several seeds.
    """
    observed = np.concatenate([differences, [1.0, -1.0]])
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(observed.std()) / sqrt(len(observed))
    centre = float(observed.mean())
    return max(centre - half, -1.0), min(centre + half, 1.0)


def outcomes(rows: Sequence[Row], model: str) -> dict[Episode, int]:
    """1 or 0 for every episode that the model played."""
    found: dict[Episode, int] = {}
    for row in rows:
        if row["model"] == model:
            settings = row.get("settings", {})
            problems = tuple(settings.get(name) for name in SAME)
            for pair, outcome in enumerate(row.get("outcomes", "")):
                if outcome != "-":
                    found[problems, row["task"], pair, row["seed"]] = int(outcome)
    return found


def paired_differences(rows: Sequence[Row]) -> list[Row]:
    """Success of the first model minus that of every other, over the episodes that both played.

    A pair counts once, however many seeds played it, as these are no independent trials. Rows of
    before outcomes were kept are left out.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    results = []
    for other in models[1:]:
        first, second = outcomes(rows, models[0]), outcomes(rows, other)
        by_pair: dict[Episode, list[int]] = {}
        for episode in first.keys() & second.keys():
            by_pair.setdefault(episode[:-1], []).append(first[episode] - second[episode])
        if not by_pair:
            continue
        differences = np.array([np.mean(each) for each in by_pair.values()])
        low, high = bonett_price(differences)
        results.append(
            {
                "models": [models[0], other],
                "difference": round(float(differences.mean()), 4),
                "ci_low": round(float(low), 4),
                "ci_high": round(float(high), 4),
                "pairs": len(by_pair),
                "episodes": sum(map(len, by_pair.values())),
            }
        )
    return results


def comparisons(rows: Sequence[Row]) -> list[str]:
    """`paired_differences` in words, one line each."""
    return [
        f"{' - '.join(each['models'])}: {100 * each['difference']:+.1f} points of success "
        f"(95 % interval {100 * each['ci_low']:+.1f} to {100 * each['ci_high']:+.1f}; paired, "
        f"n = {each['pairs']} pairs, {each['episodes']} episodes of each)"
        for each in paired_differences(rows)
    ]


def protocol_identity(config: DictConfig, goals_source: str) -> dict[str, Any]:
    """What a run's settings keep of its protocol; {} for our own protocol on our own problems."""
    identity: dict[str, Any] = {}
    if goals_source != OWN:
        identity["goals_source"] = goals_source
    if config.get("protocol") == VP2:
        identity |= {"protocol": VP2, "departures": departures(config)}
    return identity


def departures(config: DictConfig) -> list[str]:
    """Names of the settings in which a run departs from the published protocol."""
    published = DictConfig(OmegaConf.load(CONF / "protocol" / "vp2.yaml"))
    published.planner = OmegaConf.load(CONF / "planner" / "vp2_mppi.yaml")
    names = [str(key) for key in published if key not in FREE]
    differing = [name for name in names if published[name] != config[name]]
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
