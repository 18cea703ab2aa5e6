"""The pictures: curves of several runs under several seeds, bars, and strips of video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from benchmarks.paper_experiments.study import HEALTH, Curve
from benchmarks.paper_experiments.verdicts import (
    LEAST_ENTROPY,
    LEAST_UTILISATION,
    MOST_USAGE,
)
from cola_env.inputs import to_bytes
from cola_train.show import FRAMES_A_SECOND, save_animation, sheet

LABELS = {"utilisation": "utilisation", "max_usage": "max usage", "entropy": "entropy (nats)"}
THRESHOLDS = (LEAST_UTILISATION, MOST_USAGE, LEAST_ENTROPY)
Curves = Mapping[str, Sequence[Curve]]
"""By the name of the run, a curve a seed."""


def plot_curves(
    path: Path,
    panels: Mapping[str, Curves],
    marks: Mapping[str, float],
    title: str,
    along: str = "step",
) -> None:
    """A panel a measure: a thin line a seed, a thick one for their mean; ``marks``: vertical lines
    at steps, by label; ``along``: what steps are."""
    figure, axes = _panels(len(panels))
    for axis, (label, curves) in zip(axes, panels.items(), strict=True):
        for i, (name, seeds) in enumerate(curves.items()):
            _lines(axis, name, seeds, f"C{i}")
        for text, step in marks.items():
            axis.axvline(step, color="gray", linestyle=":")
            axis.annotate(
                text, (step, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                textcoords="offset points", fontsize=8, color="gray",
            )  # fmt: skip
        axis.set_xlabel(along)
        axis.set_ylabel(label)
    _finish(figure, axes, title, path)


def plot_health(path: Path, panels: Mapping[str, Curves], title: str) -> None:
    """Like ``plot_curves``, with the thresholds of collapse."""
    figure, axes = _panels(len(HEALTH))
    for axis, name, threshold in zip(axes, HEALTH, THRESHOLDS, strict=True):
        for i, (run, seeds) in enumerate(panels[name].items()):
            _lines(axis, run, seeds, f"C{i}")
        axis.axhline(threshold, color="gray", linestyle="--")
        axis.set_xlabel("step of joint training")
        axis.set_ylabel(LABELS[name])
        axis.set_ylim(0, None if name == "entropy" else 1.02)
    _finish(figure, axes, title, path)


def plot_bars(
    path: Path, stages: Sequence[str], bars: Mapping[str, Mapping[str, Any]], title: str
) -> None:
    """A panel a measure of health: a group of bars a stage, a bar a run, a dot a seed.

    bars: run -> measure -> values (stages, seeds).
    """
    figure, axes = _panels(len(HEALTH))
    width = 0.8 / len(bars)
    for axis, name, threshold in zip(axes, HEALTH, THRESHOLDS, strict=True):
        for i, (run, measures) in enumerate(bars.items()):
            places = [stage + (i - (len(bars) - 1) / 2) * width for stage in range(len(stages))]
            axis.bar(places, [fmean(v) for v in measures[name]], width, label=run, alpha=0.7)
            for place, values in zip(places, measures[name], strict=True):
                axis.plot([place] * len(values), values, "k.", markersize=4)
        axis.axhline(threshold, color="gray", linestyle="--")
        axis.set_xticks(range(len(stages)), stages)
        axis.set_ylabel(LABELS[name])
    _finish(figure, axes, title, path)


def draw_strips(path: Path, source: Tensor, imagined: Tensor, scale: int = 2) -> None:
    """Videos (N, T, S, S, 3) in [0, 1] in pairs of rows, the source above what was imagined."""
    gap = torch.ones(*source.shape[:2], 4, *source.shape[3:])
    rows = torch.cat([source, imagined, gap], dim=2)
    grid = rearrange(rows, "n t h w c -> (n h) (t w) c")[: -gap.shape[2]]
    image = Image.fromarray(to_bytes(grid).numpy())
    size = image.width * scale, image.height * scale
    image.resize(size, Image.Resampling.NEAREST).save(path)


def play_pairs(path: Path, source: Tensor, imagined: Tensor) -> None:
    """The same videos as a GIF: a pair a column."""
    columns = [str(i + 1) for i in range(len(source))]
    frames = torch.stack([source, imagined]).unbind(2)
    sheets = [sheet(frame, ["source", "imagined"], columns, scale=2) for frame in frames]
    save_animation(path, sheets, FRAMES_A_SECOND)


def _panels(count: int) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=(max(7, 4 * count), 3.4), squeeze=False)
    return figure, list(axes[0])


def _lines(axis: Any, name: str, seeds: Sequence[Curve], color: str) -> None:
    for seed in seeds:
        axis.plot(seed.steps, seed.values, color=color, alpha=0.3, linewidth=0.8)
    common = sorted(set.intersection(*(set(seed.steps) for seed in seeds)))
    by_step = [dict(zip(seed.steps, seed.values, strict=True)) for seed in seeds]
    means = [fmean(values[step] for values in by_step) for step in common]
    axis.plot(common, means, color=color, linewidth=2, label=name)


def _finish(figure: Any, axes: Sequence[Any], title: str, path: Path) -> None:
    import matplotlib.pyplot as plt

    handles, labels = axes[0].get_legend_handles_labels()
    figure.suptitle(title)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=120)
    plt.close(figure)
