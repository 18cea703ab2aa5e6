"""The table, the picture and the page of benchmarks/fidelity.py."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.fidelity_measures import CandidatePlans, PlanScores, calibration, error_growth
from benchmarks.vp2_protocol.page import STYLE, embedded
from cola_env.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

COLUMNS = {
    "rank": "rank correlation",
    "regret": "regret",
    "overrated": "overrated",
    "calibration": "calibration error",
    "auc": "AUC",
    "auc_real": "AUC, real",
    "chosen": "chosen succeeds",
    "chosen_real": "chosen, real",
    "psnr_1": "PSNR, first",
    "psnr_last": "PSNR, last",
}
FIRST = ("rank", "regret", "auc", "chosen", "psnr_1")
WORST = 12
"""Problems of each model that the page shows."""
Found = Mapping[str, Sequence[PlanScores]]
"""By model, its scores of every problem."""
TEMPLATE = Path(__file__).with_name("fidelity_page.html")


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What fits into a terminal; the page has all."""
    from rich.table import Table

    drawn = Table("model", "task", *FIRST, title="Fidelity of planning scores")
    for row in rows:
        drawn.add_row(row["model"], row["task"], *(f"{row[key]:.2f}" for key in FIRST))
    return drawn


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in COLUMNS if all(key in row for row in rows)]


def draw(found: Found, path: Path) -> None:
    """A panel a model with every candidate's imagined and real score; calibration; error growth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = len(found) + 2
    columns = 2 if count == 4 else min(3, count)
    rows = math.ceil(count / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(4.4 * columns, 4 * rows), layout="constrained", squeeze=False
    )
    axes = list(grid.flat)
    for axis, (model, scored) in zip(axes, found.items(), strict=False):
        _scores(axis, model, scored)
    _calibration(axes[len(found)], found)
    _errors(axes[len(found) + 1], found)
    for axis in axes[count:]:
        axis.set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _scores(axis: Axes, model: str, scored: Sequence[PlanScores]) -> None:
    """Scores by the problem's own scale: 0 is its mean candidate's real score, 1 its best one's."""
    for f in scored:
        x, y = ((s - f.real.mean()) / f.spread for s in (f.imagined, f.real))
        colors = ["C2" if success else "0.6" for success in f.successes]
        axis.scatter(x, y, s=6, c=colors, alpha=0.5, linewidths=0)
        axis.scatter(x[f.choice], y[f.choice], s=22, facecolors="none", edgecolors="C3")
    axis.axline((0, 0), slope=1, color="0.4", linestyle=":")
    axis.set(xlabel="imagined score", ylabel="real score", xlim=(-2.5, 2), ylim=(-2.5, 1.2))
    axis.set_title(f"{model}: its choices (red), successes (green)", fontsize=10)


def _calibration(axis: Axes, found: Found) -> None:
    axis.plot([0, 1], [0, 1], color="0.4", linestyle=":")
    for model, scored in found.items():
        bins = calibration(scored)
        if bins:
            axis.plot([b.probability for b in bins], [b.rate for b in bins], "o-", label=model)
    axis.set(xlabel="imagined probability of success", ylabel="rate of real successes")
    axis.set_title("Calibration", fontsize=10)
    axis.legend(fontsize=8)


def _errors(axis: Axes, found: Found) -> None:
    for model, scored in found.items():
        decibels = error_growth(scored)
        axis.plot(range(1, len(decibels) + 1), decibels, "o-", label=model)
    axis.set(xlabel="imagined step", ylabel="PSNR on moving pixels (dB)")
    axis.set_title("Growth of the error", fontsize=10)
    axis.legend(fontsize=8)


def write_page(
    out: Path, rows: Sequence[Mapping[str, Any]], problems: Sequence[CandidatePlans], found: Found
) -> Path:
    """OUT/index.html, which works offline: the table, OUT/fidelity.png, and each model's worst
    choices, what came of them above what the model expected."""
    cards = []
    for model, scored in found.items():
        order = sorted(range(len(problems)), key=lambda i: -scored[i].regret)[:WORST]
        cards += [_card(model, problems[i], scored[i]) for i in order]
    shown = _columns(rows)
    page = Template(TEMPLATE.read_text()).substitute(
        style=STYLE.read_text(),
        head="".join(f"<th>{escape(COLUMNS[key])}</th>" for key in shown),
        body="".join(_row(row, shown) for row in rows),
        picture=embedded((out / "fidelity.png").read_bytes(), "image/png"),
        cards="\n".join(cards),
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def _row(row: Mapping[str, Any], shown: Sequence[str]) -> str:
    cells = "".join(f"<td>{row[key]:.2f}</td>" for key in shown)
    total = ' class="total"' if row["task"] == "all" else ""
    title = f"<th>{escape(row['model'])}</th><th>{escape(row['task'])}</th>"
    return f"<tr{total}>{title}<td>{row['problems']}</td>{cells}</tr>"


def _card(model: str, problem: CandidatePlans, scores: PlanScores) -> str:
    verdict = "success" if scores.successes[scores.choice] else "failure"
    strip = embedded(_strip(problem, scores), "image/png")
    return (
        f'<article class="{verdict}"><img src="{strip}" alt="">'
        f"<p><em>{verdict}</em> <b>{escape(problem.task)}</b> {escape(model)}<br>"
        f"<small>regret {scores.regret:.2f}, overrated {scores.overrated:.2f}; "
        f"{int(problem.successes.sum())} of {len(problem.successes)} candidates succeed"
        f"</small></p></article>"
    )


def _strip(problem: CandidatePlans, scores: PlanScores) -> bytes:
    """PNG: the last context frame and what the choice led to; below, what was expected; the goal
    at the right."""
    last = problem.context[-1]
    real = np.concatenate([last, *problem.frames[scores.choice], problem.goal], axis=1)
    dreamt = np.concatenate([last, *scores.dream, np.zeros_like(last)], axis=1)
    file = io.BytesIO()
    Image.fromarray(np.concatenate([real, dreamt])).save(file, "PNG")
    return file.getvalue()
