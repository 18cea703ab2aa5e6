"""What measurements share: the machine they ran on, how long things took, the JSON that is kept."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf

from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.precision import fast_dtype

Arm = TypeVar("Arm")


def command_line(module: str) -> str:
    """The command that was given, without the settings that are Hydra's own."""
    given = (text for text in sys.argv[1:] if not text.startswith(("hydra.", "hydra/")))
    return " ".join([f"python -m {module}", *given])


def arm_of(kind: type[Arm], label: str, given: Any) -> Arm:
    """An arm of a study's settings, a dataclass whose first field is its label; ColaWorldError for
    keys that it does not have, or lacks."""
    own = fields(kind)[1:]  # type: ignore[arg-type]
    needed = [field.name for field in own if field.default is MISSING]
    others = [field.name for field in own if field.name not in needed]
    keys = set(given) if isinstance(given, dict) else set()
    if not {*needed} <= keys <= {*needed, *others}:
        may = f", and may have {' and '.join(others)}" if others else ""
        raise ColaWorldError(
            f"arms.{label} must be {{{', '.join(f'{name}: ...' for name in needed)}}}{may}, "
            f"not {given}."
        )
    return kind(label, **given)  # type: ignore[call-arg]


def report(results: dict[str, Any], out: str | None) -> None:
    """Prints ``results`` as JSON and writes them to the file ``out``, if one is named."""
    print(json.dumps(results, indent=1))
    if out:
        write_json(Path(out), results)


def processor() -> str:
    """The name of this machine's processor and how many cores it has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def machine(device: torch.device) -> dict[str, Any]:
    """What tells measurements on this machine's ``device`` from those on others, as JSON values."""
    return {
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "dtype": str(fast_dtype(device) or torch.float32).removeprefix("torch."),
        "torch": torch.__version__,
    }


def peak_resident() -> int:
    """Bytes that this process has held in memory at most, by Linux's own count: that of getrusage
    begins with the memory of the parent process."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds until ``device`` has done what ``function`` asks of it."""
    wait_for(device)
    start = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Until it has done what was asked of it so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds by name; work that is under way on a GPU counts where it is waited for."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        wait_for(self.device)
        self.spent[name] += time.perf_counter() - start


def median_seconds(function: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Of ``repeats`` calls, after one that does not count."""
    timed(function, device)
    return median(timed(function, device) for _ in range(repeats))


def matmul_peak(device: torch.device, size: int | None = None) -> float:
    """FLOP/s of a large square matrix product, of ``size`` rows, in the precision that models
    compute in there."""
    if size is None:
        size = 8192 if device.type == "cuda" else 2048
    dtype = fast_dtype(device) or torch.float32
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: torch.mm(a, b), device)


def plain(config: Any) -> Any:
    """A setting without OmegaConf's wrapping."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
