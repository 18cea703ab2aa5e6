"""A part in a process of its own: what it breaks on a GPU, and what it leaves in its memory, ends
with it."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.gpu_checks.parts import PARTS, GpuCheckConfig
from benchmarks.gpu_checks.suite import TestsFailed
from cola_env.errors import ColaWorldError, in_short
from cola_env.processes import end_with_parent

Result = dict[str, Any]

GRACE = 10.0
"""Seconds beyond its own that a part has to come to its end."""


def run_alone(name: str, settings: GpuCheckConfig, device: torch.device) -> Result:
    """What the part has measured, and its seconds; with "error" and its sentence where it failed,
    took too long or its process ended."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receives, sends = context.Pipe(duplex=False)
    begun = time.monotonic()
    process = context.Process(target=run_part, args=(name, settings, str(device), sends))
    process.start()
    sends.close()
    try:
        result: Result
        if receives.poll(settings.part_seconds + GRACE):
            result = receives.recv()
        else:
            result = {"error": f"It was stopped after {settings.part_seconds:g} s."}
    except EOFError:
        process.join()
        result = {"error": f"Its process ended by itself, with exit code {process.exitcode}."}
    finally:
        process.kill()
        process.join()
    return {"seconds": time.monotonic() - begun, **result}


def run_part(name: str, settings: GpuCheckConfig, device: str, sends: Connection) -> None:
    """The part, whose outcome goes through ``sends``."""
    end_with_parent()
    try:
        result = PARTS[name](settings, torch.device(device))
    except TestsFailed as error:
        result = {"error": str(error), **error.result}
    except ColaWorldError as error:
        result = {"error": str(error)}
    except Exception as error:  # whatever a GPU, a driver or a library makes of it
        result = {"error": f"{type(error).__name__}: {in_short(error)}"}
    sends.send(result)
