"""The table, the picture and the page of benchmarks/policies.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from benchmarks.policy_judging.agreement import EACH, FILTERS, points
from benchmarks.policy_judging.judging import Judging
from benchmarks.policy_judging.records import SEEN, TWIN, PlayedEpisode
from benchmarks.vp2_protocol.comparison import Row
from benchmarks.vp2_protocol.page import STYLE, embedded
from benchmarks.vp2_protocol.records import Frame, write_video
from benchmarks.vp2_protocol.results import ALL
from cola_env.files import write_atomically, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

COLUMNS = {
    "policies": "policies",
    "real_rate": "twin",
    "dream_rate": "dream",
    "pearson": "Pearson",
    "spearman": "rank",
    "mmrv": "MMRV",
    "calibration_error": "calibration error",
}
FIRST = ("real_rate", "dream_rate", "pearson", "spearman", "mmrv")
"""What fits into a terminal; the page has all."""
SHOWN = 6
"""Episodes of each policy, in which a dream is wrong, that the page shows at most."""
TEMPLATE = Path(__file__).with_name("page.html")


def table(rows: Sequence[Row]) -> Table:
    """What dreams say of the twin, by task, without a filter and with it."""
    from rich.table import Table

    title = "Success in dreams and in the real twin, over policies"
    drawn = Table("dream", "task", *(COLUMNS[key] for key in FIRST), title=title)
    for row in rows:
        numbers = (_told(row[key]) for key in FIRST)
        drawn.add_row(_title(row["dream"], row["filter"]), row["task"], *numbers)
    return drawn


def _title(world: str, name: str) -> str:
    return world if name == "none" else f"{world}, trusted"


def _told(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def draw(results: Mapping[str, Any], dreams: Sequence[str], path: Path) -> None:
    """A panel a dream: the rates there against those in the twin, a point a policy and task; and
    the calibration of all."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = len(dreams) + 1
    figure, grid = plt.subplots(
        1, count, figsize=(4.4 * count, 4.2), layout="constrained", squeeze=False
    )
    for axis, dream in zip(grid[0], dreams, strict=False):
        _rates(axis, dream, results["rates"])
    _calibration(grid[0][-1], results["agreement"])

    def write(target: Path) -> None:
        figure.savefig(target, dpi=120, format="png")

    write_atomically(path, write)
    plt.close(figure)


def _rates(axis: Axes, dream: str, rows: Sequence[Row]) -> None:
    found = points(rows, dream, "none")
    whole = found.pop(ALL, [])
    for task, listed in found.items():
        axis.scatter([p["dreamt"] for p in listed], [p["real"] for p in listed], s=10, label=task)
    axis.scatter(
        [p["dreamt"] for p in whole],
        [p["real"] for p in whole],
        s=50,
        facecolors="none",
        edgecolors="black",
        label="all tasks",
    )
    axis.axline((0, 0), slope=1, color="0.4", linestyle=":")
    axis.set(xlabel=f"success in the dream of {dream}", ylabel="success in the twin")
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axis.legend(fontsize=6)


def _calibration(axis: Axes, rows: Sequence[Row]) -> None:
    axis.plot([0, 1], [0, 1], color="0.4", linestyle=":")
    for row in _over_tasks(rows):
        bins = row["calibration"]
        chances, rates = ([each[key] for each in bins] for key in ("probability", "rate"))
        axis.plot(chances, rates, "o-", label=f"{row['dream']}, filter {row['filter']}")
    axis.set(xlabel="imagined probability of success", ylabel="rate of real successes")
    axis.set_title("Calibration", fontsize=10)
    axis.legend(fontsize=8)


def _over_tasks(rows: Sequence[Row]) -> list[Row]:
    """The row over all tasks of each dream and filter, or that of its only one."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["dream"], row["filter"]
        if row["task"] in (ALL, EACH) or key not in found:
            found[key] = row
    return list(found.values())


def write_page(
    judging: Judging, episodes: Sequence[PlayedEpisode], results: Mapping[str, Any]
) -> Path:
    """OUT/index.html, which works offline: what the dreams are worth as judges, whom they flatter,
    and videos of the episodes that they got wrong."""
    out = judging.folder.path
    cards = [
        _card(judging, real, dreamt, _video(judging, real, dreamt))
        for real, dreamt in _wrong(episodes, list(judging.dreamers))
    ]
    state = "" if results["complete"] else "The judging is not finished: this is it so far. "
    page = Template(TEMPLATE.read_text()).substitute(
        style=STYLE.read_text(),
        headline=escape(state + _headline(results["agreement"])),
        head="".join(f"<th>{escape(name)}</th>" for name in COLUMNS.values()),
        agreement="".join(map(_agreement_line, results["agreement"])),
        picture=embedded((out / "policies.png").read_bytes(), "image/png"),
        rates=_rate_table(results["rates"], list(judging.dreamers)),
        flattery="".join(map(_flattery_line, results["flattery"])),
        cards="\n".join(cards) or "<p>No dream was wrong about any episode.</p>",
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def _headline(rows: Sequence[Row]) -> str:
    told = []
    for row in _over_tasks(rows):
        if row["filter"] == "none":
            correlation = "no correlation to tell" if row["pearson"] is None else _correlation(row)
            told.append(
                f"{row['dream']}: {correlation}, MMRV {row['mmrv']:.2f} "
                f"over {row['policies']} policies."
            )
    return " ".join(told)


def _correlation(row: Row) -> str:
    return (
        f"Pearson r {row['pearson']:.2f} "
        f"(95 % interval {row['pearson_low']:.2f} to {row['pearson_high']:.2f})"
    )


def _agreement_line(row: Row) -> str:
    total = ' class="total"' if row["task"] in (ALL, EACH) else ""
    title = "".join(f"<th>{escape(str(row[key]))}</th>" for key in ("dream", "filter", "task"))
    cells = []
    for key in COLUMNS:
        low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
        interval = "" if low is None else f"<br><small>{low:.2f} to {high:.2f}</small>"
        cells.append(f"<td>{_told(row[key])}{interval}</td>")
    return f"<tr{total}>{title}{''.join(cells)}</tr>"


def _rate_table(rows: Sequence[Row], dreams: Sequence[str]) -> str:
    """A line a policy over all tasks: the twin, what the classifier sees of it, then each dream
    without and with the filter."""
    columns = [(TWIN, "none"), (SEEN, "none")]
    columns += [(dream, name) for dream in dreams for name in FILTERS]
    found = {(r["policy"], r["world"], r["filter"]): r for r in rows if r["task"] == ALL}
    head = "".join(f"<th>{escape(_title(*column))}</th>" for column in columns)
    lines = []
    for policy in dict.fromkeys(row["policy"] for row in rows):
        cells = "".join(_rate_cell(found.get((policy, *column))) for column in columns)
        lines.append(f"<tr><th>{escape(policy)}</th>{cells}</tr>")
    return f"<thead><tr><th>policy</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"


def _rate_cell(row: Row | None) -> str:
    if row is None:
        return "<td></td>"
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    rate = 100 * row["successes"] / row["episodes"]
    return (
        f"<td>{rate:.0f} % <small>({low:.0f} to {high:.0f})</small><br>"
        f"<small>{row['successes']} of {row['episodes']}</small></td>"
    )


def _flattery_line(row: Row) -> str:
    title = "".join(f"<th>{escape(row[key])}</th>" for key in ("dream", "filter", "policy"))
    numbers = (100 * row[key] for key in ("flattery", "ci_low", "ci_high"))
    told = "{:+.1f} <small>({:+.1f} to {:+.1f})</small>".format(*numbers)
    return f"<tr>{title}<td>{told}</td><td>{row['problems']}</td></tr>"


def _wrong(
    episodes: Sequence[PlayedEpisode], dreams: Sequence[str]
) -> list[tuple[PlayedEpisode, PlayedEpisode]]:
    """(twin, dream) of some episodes that a dream took for a success and the twin did not, then
    of some that only the twin did; first pairs first, of all tasks."""
    twins = {(e.policy, e.task, e.pair): e for e in episodes if e.world == TWIN}
    found: list[tuple[PlayedEpisode, PlayedEpisode]] = []
    for flattered in (True, False):
        taken: dict[tuple[str, str], int] = {}
        for episode in sorted(episodes, key=lambda e: ([*dreams, TWIN].index(e.world), e.pair)):
            real = twins.get((episode.policy, episode.task, episode.pair))
            key = episode.world, episode.policy
            wrong = real is not None and (episode.success, real.success) == (
                flattered,
                not flattered,
            )
            if episode.world != TWIN and wrong and taken.get(key, 0) < SHOWN:
                assert real is not None
                taken[key] = taken.get(key, 0) + 1
                found.append((real, episode))
    return found


def _video(judging: Judging, real: PlayedEpisode, dreamt: PlayedEpisode) -> bytes:
    """Twin, dream and goal side by side, made once."""
    key = dreamt.policy, dreamt.world, dreamt.task, dreamt.pair
    path = judging.folder.file(*key, ".mp4")
    if not path.is_file():
        sides = [judging.folder.frames(each) for each in (real, dreamt)]
        length = max(map(len, sides))
        frames, imagined = (_held(side, length) for side in sides)
        goal = judging.pairs[real.task][real.pair].goal_frame
        write_video(path, frames, imagined, goal, real.success)
    return path.read_bytes()


def _held(frames: Sequence[Frame], length: int) -> list[Frame]:
    """The frames, the last one of them until there are `length`."""
    return [*frames, *[frames[-1]] * (length - len(frames))]


def _card(judging: Judging, real: PlayedEpisode, dreamt: PlayedEpisode, video: bytes) -> str:
    verdict = "failure" if dreamt.success else "success"
    told = "flattered" if dreamt.success else "underrated"
    trust = dreamt.expected[dreamt.steps - 1]
    return (
        f'<article class="{verdict}" data-dream="{escape(dreamt.world)}" '
        f'data-policy="{escape(dreamt.policy)}" data-task="{escape(dreamt.task)}">'
        f'<video src="{embedded(video, "video/mp4")}" muted loop playsinline controls '
        f'preload="metadata"></video>'
        f"<p><em>{told}</em> <b>{escape(dreamt.policy)}</b> in the dream of "
        f"{escape(dreamt.world)}<br><small>{escape(dreamt.task)} pair {dreamt.pair} · "
        f"twin {_outcome(real)}, dream {_outcome(dreamt)}, expected {trust:.0f} dB then"
        f"</small></p></article>"
    )


def _outcome(episode: PlayedEpisode) -> str:
    return f"success in step {episode.steps}" if episode.success else "no success"
