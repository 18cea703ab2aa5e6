"""What an experiment came to, as Markdown beside its picture and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.harness import command_line
from benchmarks.paper_experiments.verdicts import Verdict, together
from cola_env.files import write_text


@dataclass(frozen=True)
class Claim:
    """What the paper says, and what our numbers say about it."""

    text: str
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """An experiment's outcome.

    numbers: per seed, for the JSON file; head, rows: of the Markdown table of numbers;
    draw: writes the PNG file.
    """

    title: str
    claims: Sequence[Claim]
    numbers: dict[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    draw: Callable[[Path], None] | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def outcome(self) -> str:
        return together([claim.verdict for claim in self.claims])


def write_result(name: str, result: Result, setting: str, out: Path) -> None:
    """OUT/NAME.md, .json and .png; ``setting`` says at what size and on which data."""
    out.mkdir(parents=True, exist_ok=True)
    if result.draw is not None:
        result.draw(out / f"{name}.png")
    write_text(out / f"{name}.md", markdown(name, result, setting))
    stored = {
        "title": result.title,
        "outcome": result.outcome,
        "claims": [asdict(claim) for claim in result.claims],
        "setting": setting,
        "command": command_line("benchmarks.paper"),
        "numbers": result.numbers,
    }
    write_text(out / f"{name}.json", json.dumps(stored, indent=1) + "\n")


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
    found = [json.loads(path.read_text()) for path in sorted(out.glob("[ft]*_*.json"))]
    return table(["experiment", "outcome"], [[each["title"], each["outcome"]] for each in found])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean of the seeds and their range: '2.31 (2.10 to 2.52)'."""
    mean, *ends = (f"{x:.{digits}f}" for x in (fmean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({ends[0]} to {ends[1]})"
