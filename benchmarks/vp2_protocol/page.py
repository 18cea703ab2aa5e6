"""One HTML page of a run that works offline: the headline, the table, the intervals, planning
fidelity where it was measured, what the words mean, and a video an episode, successes first: what
happened, what was imagined, and the goal, side by side."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from benchmarks.vp2_protocol.comparison import Row, comparisons, method_of, titles
from benchmarks.vp2_protocol.legend import legend
from benchmarks.vp2_protocol.records import NO_PLANNER, EpisodeRecord, RunFolder
from benchmarks.vp2_protocol.results import ALL, grid, overall, verdict
from cola_env.files import write_text

EMBED_LIMIT = 40_000_000
"""Bytes of video that are put into the page itself; above that it links to the files beside it."""

FIDELITY = "fidelity"
"""Folder in that of the run where `python -m benchmarks.fidelity out=RUN/fidelity` leaves its own
page and picture."""

TEMPLATE = Path(__file__).with_name("page.html")
STYLE = Path(__file__).with_name("page.css")


def write_page(
    folder: RunFolder, records: Sequence[EpisodeRecord], rows: Sequence[Row], complete: bool
) -> Path:
    """Write index.html into the run's folder and return its path."""
    labels, named = folder.labels(), titles(map(method_of, rows))
    paths = [folder.episode(labels[r.method], r.task, r.pair, ".mp4") for r in records]
    embed = sum(path.stat().st_size for path in paths if path.is_file()) <= EMBED_LIMIT
    tasks, methods = list(dict.fromkeys(r.task for r in records)), list(named)
    shown = sorted(
        zip(records, paths, strict=True),
        key=lambda each: (methods.index(each[0].method), each[0].pair, tasks.index(each[0].task)),
    )
    successes, failures = (
        [
            _card(record, named[record.method], _source(path, folder.path, embed))
            for record, path in shown
            if record.success == wanted
        ]
        for wanted in (True, False)
    )
    state = "" if complete else " The run is not finished: these are the episodes so far."
    page = Template(TEMPLATE.read_text()).substitute(
        style=STYLE.read_text(),
        headline=_headline(rows),
        summary=escape(_summary(rows[0]["settings"]) + state),
        table=_table(rows),
        paired=_paired(rows),
        fidelity=_fidelity(folder.path),
        legend=_definitions(legend(rows)),
        settings=_settings(rows),
        models=_options(named.values()),
        tasks=_options(tasks),
        successes="\n".join(successes) or "<p>No episode succeeded.</p>",
        failures="\n".join(failures) or "<p>No episode failed.</p>",
        won=len(successes),
        lost=len(failures),
        count=len(records),
    )
    path = folder.path / "index.html"
    write_text(path, page)
    return path


def _headline(rows: Sequence[Row]) -> str:
    """How the first model with the first planner did."""
    first, *others = overall(rows)
    share, low, high = (
        100 * number
        for number in (first["successes"] / first["episodes"], first["ci_low"], first["ci_high"])
    )
    whose = "" if first["planner"] == NO_PLANNER else f" with the planner {first['planner']}"
    told = (
        f"<b>{escape(first['model'] + whose)}</b> solved {first['successes']} of "
        f"{first['episodes']} ({share:.0f} %, 95 % interval {low:.0f} to {high:.0f} %)."
    )
    return told + (" It is the headline, being named first." if others else "")


def _summary(common: dict[str, object]) -> str:
    apart = common["replan_every"]
    every = "every step" if apart == 1 else f"every {apart} steps"
    return (
        f"Each episode starts the real simulator in a recorded state and shows the model a goal "
        f"image; it succeeds when the simulator says so within {common['steps']} steps. "
        f"{common['episodes']} episodes a task, seed {common['seed']}, a new plan {every}, "
        f"reward {common['reward']}, "
        f"rendering profile {common['rendering']}. {verdict(common)}"
    )


def _table(rows: Sequence[Row]) -> str:
    shown = grid(rows)
    head = "".join(f"<th>{escape(_spelt(name))}</th>" for name in shown.across)
    body = []
    for name, cells in shown.lines.items():
        tds = "".join(map(_cell, cells))
        total = "total" if name == ALL else ""
        body.append(f'<tr class="{total}"><th>{escape(_spelt(name))}</th>{tds}')
    return f"<thead><tr><th>{shown.corner}</th>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _spelt(name: str) -> str:
    return "all tasks" if name == ALL else name


def _cell(row: Row | None) -> str:
    if row is None:
        return "<td></td>"
    rate = 100 * row["successes"] / row["episodes"]
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    return (
        f"<td><b>{rate:.0f}&thinsp;%</b> <span>{row['successes']} of {row['episodes']}</span>"
        f'<div class="bar" title="95 % interval {low:.0f} to {high:.0f} %">'
        f'<i style="width:{rate:.1f}%"></i>'
        f'<u style="left:{low:.1f}%;width:{high - low:.1f}%"></u></div>'
        f"<small>{low:.0f} to {high:.0f}</small></td>"
    )


def _paired(rows: Sequence[Row]) -> str:
    items = "".join(f"<li>{escape(told)}</li>" for told in comparisons(rows))
    return f"<h2>Differences of success, paired</h2><ul>{items}</ul>" if items else ""


def _fidelity(run: Path) -> str:
    picture = run / FIDELITY / "fidelity.png"
    if not picture.is_file():
        return ""
    return (
        "<h2>Do the models rank plans as the world does?</h2>"
        '<p class="lead">The same candidate plans in the models and in the real simulator: '
        f'<a href="{FIDELITY}/index.html">by task, and the worst choices</a>.</p>'
        f'<img class="picture" src="{embedded(picture.read_bytes(), "image/png")}" alt="Imagined '
        'against real scores of every model, calibration, and error by imagined step">'
    )


def _settings(rows: Sequence[Row]) -> str:
    found = {method_of(row): row["settings"] for row in rows}
    return "".join(
        f"<section><h3>{escape(title)}</h3>{_definitions(found[method].items())}</section>"
        for method, title in titles(found).items()
    )


def _definitions(items: Iterable[tuple[str, object]]) -> str:
    told = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(value))}</dd>" for k, value in items)
    return f"<dl>{told}</dl>"


def _options(values: Iterable[str]) -> str:
    names = dict.fromkeys(values)
    return "".join(f"<option>{escape(name)}</option>" for name in names)


def _source(path: Path, root: Path, embed: bool) -> str:
    if not path.is_file():
        return ""
    if embed:
        return embedded(path.read_bytes(), "video/mp4")
    return escape(path.relative_to(root).as_posix())


def embedded(data: bytes, kind: str) -> str:
    """A file's content as the address of an image or video."""
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def _card(record: EpisodeRecord, title: str, source: str) -> str:
    verdict = "success" if record.success else "failure"
    thought = ""
    if record.imagined_psnr is not None:
        thought = f" · imagined {record.imagined_psnr:.1f} dB · {record.seconds:.1f} s of thinking"
    return (
        f'<article class="{verdict}" data-model="{escape(title)}" '
        f'data-task="{escape(record.task)}" data-verdict="{verdict}">'
        f'<video src="{source}" muted loop playsinline controls preload="metadata"></video>'
        f"<p><em>{verdict}</em> <b>{escape(record.task)}</b> pair {record.pair}<br>"
        f"<small>{escape(title)} · {record.steps} steps{thought}"
        f"</small></p></article>"
    )
