"""What the numbers of several seeds say about the paper's claims, by the rules of docs/paper.md,
and how an experiment's outcome is written: as Markdown beside its picture and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from scipy.stats import t

from benchmarks.harness import command_line
from cola_env.files import write_json, write_text
from cola_env.models.latent_action.codebook_health import CodebookHealth

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
COLLAPSED, HEALTHY, MIXED = "collapsed", "healthy", "mixed"

LEAST_UTILISATION, MOST_USAGE, LEAST_ENTROPY = 0.2, 0.5, 1.0
"""The paper's thresholds of collapse: share of the codes, share of the actions, nats."""

HealthCurve = Mapping[int, CodebookHealth]
"""Of a codebook along training, by step."""


@dataclass(frozen=True)
class Verdict:
    """outcome: one of the three; reason: one sentence of numbers."""

    outcome: str
    reason: str


def collapsed(health: CodebookHealth) -> bool:
    """Whether at least two of the paper's three thresholds are crossed."""
    crossed = (
        health.utilisation < LEAST_UTILISATION,
        health.max_usage > MOST_USAGE,
        health.entropy < LEAST_ENTROPY,
    )
    return sum(crossed) >= 2


def last_half(curve: HealthCurve) -> list[CodebookHealth]:
    return list(curve.values())[len(curve) // 2 :]


def state(curve: HealthCurve) -> str:
    """Of a codebook over the last half of its training: collapsed in more than half of the
    measurements, healthy if collapsed in fewer than a tenth, else mixed."""
    share = fmean(collapsed(health) for health in last_half(curve))
    return COLLAPSED if share > 0.5 else HEALTHY if share < 0.1 else MIXED


def expect(wanted: str, curves: Sequence[HealthCurve]) -> Verdict:
    """The codebook was ``wanted`` (collapsed or healthy), a curve a seed.

    Reproduced when it was so in all seeds, not reproduced when it was the opposite in all.
    """
    opposite = HEALTHY if wanted == COLLAPSED else COLLAPSED
    states = [state(curve) for curve in curves]
    counts = ", ".join(
        f"{name} in {states.count(name)}" for name in (COLLAPSED, HEALTHY, MIXED) if name in states
    )
    late = [health for curve in curves for health in last_half(curve)]
    reason = (
        f"{counts} of {seeds(len(curves))}; over the last half utilisation "
        f"{median(h.utilisation for h in late):.0%}, max usage "
        f"{median(h.max_usage for h in late):.0%}, entropy "
        f"{median(h.entropy for h in late):.2f} nats (medians)."
    )
    if len(curves) < 2 or set(states) not in ({wanted}, {opposite}):
        return Verdict(INCONCLUSIVE, reason)
    return Verdict(REPRODUCED if states[0] == wanted else NOT_REPRODUCED, reason)


def positive(differences: Sequence[float], unit: str) -> Verdict:
    """The mean of paired differences, one a seed, is above 0, by its 95 % Student interval."""
    mean = fmean(differences)
    if len(differences) < 2:
        return Verdict(INCONCLUSIVE, f"{mean:+.3g} {unit} of one seed, which has no interval.")
    low, high = interval(differences)
    sample = seeds(len(differences))
    reason = f"{mean:+.3g} {unit} (95 % interval {low:+.3g} to {high:+.3g}, {sample})."
    return above_zero(low, high, reason)


def above_zero(low: float, high: float, reason: str) -> Verdict:
    """Of an interval."""
    if low > 0:
        return Verdict(REPRODUCED, reason)
    return Verdict(NOT_REPRODUCED if high < 0 else INCONCLUSIVE, reason)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % Student interval (low, high) of the mean of at least two values."""
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def provided(condition: Verdict, verdict: Verdict, otherwise: str) -> Verdict:
    """``verdict`` where what it takes for granted was so; else inconclusive, for that reason."""
    if condition.outcome == REPRODUCED:
        return verdict
    return Verdict(INCONCLUSIVE, f"{otherwise} {condition.reason}")


def together(verdicts: Sequence[Verdict]) -> str:
    """Of an experiment with several claims: all reproduced, one not, or neither."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if outcomes == {REPRODUCED}:
        return REPRODUCED
    return NOT_REPRODUCED if NOT_REPRODUCED in outcomes else INCONCLUSIVE


def seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


@dataclass(frozen=True)
class Claim:
    """What the paper says, and what our numbers say about it."""

    text: str
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """An experiment's outcome.

    numbers: per seed, for the JSON file; head, rows: of the Markdown table of numbers;
    draw: writes the PNG file; play: the GIF file.
    """

    title: str
    claims: Sequence[Claim]
    numbers: dict[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    draw: Callable[[Path], None] | None = None
    play: Callable[[Path], None] | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def outcome(self) -> str:
        return together([claim.verdict for claim in self.claims])


def write_result(name: str, result: Result, setting: str, out: Path) -> None:
    """OUT/NAME.md, .json, .png and .gif; ``setting`` says at what size and on which data."""
    out.mkdir(parents=True, exist_ok=True)
    if result.draw is not None:
        result.draw(out / f"{name}.png")
    if result.play is not None:
        result.play(out / f"{name}.gif")
    write_text(out / f"{name}.md", markdown(name, result, setting))
    stored = {
        "title": result.title,
        "outcome": result.outcome,
        "claims": [asdict(claim) for claim in result.claims],
        "setting": setting,
        "command": command_line("benchmarks.paper"),
        "numbers": result.numbers,
    }
    write_json(out / f"{name}.json", stored)


def markdown(name: str, result: Result, setting: str) -> str:
    claims = [
        [claim.text, f"**{claim.verdict.outcome}**", claim.verdict.reason]
        for claim in result.claims
    ]
    parts = [
        f"# {result.title}: {result.outcome}",
        setting,
        table(["the paper says", "verdict", "our numbers"], claims),
        *([f"![{result.title}]({name}.png)"] if result.draw is not None else []),
        *([f"![{result.title}, moving]({name}.gif)"] if result.play is not None else []),
        table(result.head, result.rows),
        *result.notes,
        f"`{command_line('benchmarks.paper')}`",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(out: Path) -> str:
    """A line an experiment that has a result in ``out``."""
    found = [json.loads(path.read_text()) for path in sorted(out.glob("[eft]*_*.json"))]
    return table(["experiment", "outcome"], [[each["title"], each["outcome"]] for each in found])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean of the seeds and their range: '2.31 (2.10 to 2.52)'."""
    mean, *ends = (f"{x:.{digits}f}" for x in (fmean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({ends[0]} to {ends[1]})"
