"""Checks and measures everything on a GPU: `cola gpu-check [device=cuda] [tiny=true] [out=FOLDER]`.

A list of parts, in order of worth, each in a process of its own and under two minutes: the tests
that need a GPU, the mini model's speeds, the paper's model, a decision's timeline. Every part is
kept in OUT as it ends, one that fails with its error, and the same command goes on where it was
stopped: what is there already, from this machine, is not run again. OUT/report.md is the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from benchmarks.gpu_checks.alone import run_alone
from benchmarks.gpu_checks.parts import PARTS, GpuCheckConfig
from benchmarks.gpu_checks.report import table
from benchmarks.harness import command_line, machine, plain
from cola_env.files import write_text
from cola_env.models.loading import pick_device
from cola_train.command import command
from cola_train.console import GOES_ON

Result = dict[str, Any]


def check(settings: GpuCheckConfig) -> Iterator[tuple[str, Result]]:
    """The chosen parts and what they found, in order; those that are kept are not run again, unless
    they failed, or were found on another machine or at another size."""
    device = pick_device(settings.device)
    about: Result = {"tiny": settings.tiny, "machine": machine(device)}
    for name in settings.chosen:
        file = settings.folder / f"{name}.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        if "error" in known or {key: known.get(key) for key in about} != about:
            known = run_alone(name, settings, device) | about
            write_text(file, json.dumps(known, indent=1) + "\n")
        yield name, known


def report(settings: GpuCheckConfig) -> str:
    """The table of all parts that are kept for this machine and size; written beside them."""
    about = machine(pick_device(settings.device))
    kept: dict[str, Result] = {}
    for name in PARTS:
        file = settings.folder / f"{name}.json"
        found = json.loads(file.read_text()) if file.exists() else {}
        if (found.get("machine"), found.get("tiny")) == (about, settings.tiny):
            kept[name] = {k: v for k, v in found.items() if k not in ("machine", "tiny")}
    told = table(kept, about, settings.tiny)
    whole = {
        "command": command_line("benchmarks.gpu_check"),
        "machine": about,
        "tiny": settings.tiny,
        "parts": kept,
    }
    write_text(settings.folder / "report.json", json.dumps(whole, indent=1) + "\n")
    write_text(settings.folder / "report.md", told + "\n")
    return told


@command("gpu_check", GOES_ON)
def main(config: DictConfig) -> None:
    settings = GpuCheckConfig(**plain(config))
    for name, result in check(settings):
        print(f"{name}: {result.get('error', 'done')} ({result['seconds']:.0f} s)", flush=True)
        report(settings)
    print(report(settings))


if __name__ == "__main__":
    main()
