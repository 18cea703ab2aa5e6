"""The table and the picture of benchmarks/rollout.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.terminal import terminal


def tell(found: dict[str, Any]) -> None:
    from rich.table import Table

    peak = found["machine"]["matmul_flop_per_second"]
    table = Table("sampler", "frames/s", "TFLOP", "of the matmul peak", title="Imagined candidates")
    for name, row in found["contestants"].items():
        share = f"{100 * row['flop_per_second'] / peak:.1f} %"
        table.add_row(name, f"{row['frames_per_second']:.1f}", f"{row['tflop']:.3f}", share)
    console = terminal()
    console.print(table)
    for name, ratio in found["ratios"].items():
        console.print(f"{name.replace('_', ' ')}: {ratio:.1f}x")


def draw(found: dict[str, Any], path: Path) -> None:
    """Left the roofline with every sampler on it, right the memory by the number of candidates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    peak = found["machine"]["matmul_flop_per_second"]
    bandwidth = found["machine"]["bytes_per_second"]
    figure, (roof, memory) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    points = {
        name: (row["tflop"] * 1e12 / (row["gigabytes_moved"] * 1e9), row["flop_per_second"])
        for name, row in found["contestants"].items()
    }
    low = min(x for x, _ in points.values()) / 3
    high = 3 * max(*(x for x, _ in points.values()), peak / bandwidth)
    roof.plot([low, peak / bandwidth, high], [low * bandwidth, peak, peak], color="0.4")
    for name, (x, y) in points.items():
        roof.scatter(x, y, label=f"{name}: {found['contestants'][name]['frames_per_second']:.0f}/s")
    roof.set(xscale="log", yscale="log", xlabel="FLOP a byte moved", ylabel="FLOP/s")
    roof.set_title("Samplers under the roof of this machine")
    roof.legend(fontsize=8)
    for context, curve in found["memory"].items():
        samples = [int(n) for n in curve]
        memory.plot(samples, list(curve.values()), "o-", label=f"{context} frames of context")
    memory.set(xlabel="candidates", ylabel="GB above the loaded model", ylim=(0, None))
    memory.set_title("Memory of a rollout")
    memory.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
