"""What was found, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]

BARS = {
    "frames a second": 20_000.0,
    "times faster than without a cache": 2.5,
    "share of peak": 0.45,
}
"""What is aimed at."""


def table(results: Mapping[str, Result], machine: Mapping[str, Any], tiny: bool) -> str:
    """Markdown: a line a part."""
    size = "tiny models, whose figures say nothing" if tiny else "the real models"
    told = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        f"On {told}; {size}.",
        "",
        "| part | seconds | found |",
        "|---|---:|---|",
    ]
    for name, result in results.items():
        found = f"failed: {result['error']}" if "error" in result else sentence(name, results)
        lines.append(f"| {name} | {result['seconds']:.0f} | {found.replace('|', '/')} |")
    return "\n".join(lines)


def sentence(name: str, results: Mapping[str, Result]) -> str:
    """A part's main figures; those with a bar say whether it is reached."""
    result = results[name]
    kind = name.removesuffix("_compiled")
    if name.startswith("tests"):
        return f"{result['passed']} passed, {result['skipped']} skipped"
    if kind == "peak":
        return f"{result['tflop_per_second']:.3g} TFLOP/s of a matrix product"
    if kind == "mini_rollouts":
        return judged(result["frames_per_second"], "frames a second")
    if kind == "mini_dreams":
        return f"{result['steps_per_second']:.4g} steps a second at most"
    if kind == "mini_training":
        return f"{result['clips_per_second']:.4g} clips a second at most"
    if kind == "paper_candidates":
        together, single = (
            judged(result[how]["times_faster"], "times faster than without a cache")
            for how in ("together", "frame_by_frame")
        )
        return f"{result['candidates']} candidates; together {together}; frame by frame {single}"
    if kind == "decision":
        last = result["decisions"][-1]
        busy = f"{100 * result['busy_share']:.0f} % busy"
        return f"{last['seconds']:.3g} s for {last['problems']} problems, {busy}"
    return of_batches(result, results.get("peak", {}))


def of_batches(result: Result, peak: Result) -> str:
    """Of a step at doubled batches, with its share of the measured peak."""
    first, last = result["batches"][0], result["batches"][-1]
    told = f"{first['seconds']:.3g} s at batch 1, {last['seconds']:.3g} s at {last['batch']}"
    if "peak_gpu_gib" in last:
        told += f" ({last['peak_gpu_gib']:.0f} GiB)"
    told += f", {result['tflop_per_second']:.3g} TFLOP/s"
    if "tflop_per_second" in peak:
        share = result["tflop_per_second"] / peak["tflop_per_second"]
        told += f", {judged(share, 'share of peak')}"
    return told


def judged(value: float, what: str) -> str:
    bar = BARS[what]
    return f"{value:.4g} {what} (aim {bar:g}: {'reached' if value >= bar else 'not reached'})"
