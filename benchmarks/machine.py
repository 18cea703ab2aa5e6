"""What a measurement was made on, and what that can do at most."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import median_seconds
from cola_env.models.precision import fast_dtype


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


def matmul_peak(device: torch.device) -> float:
    """FLOP/s of a large square matrix product in the precision that models compute in there."""
    size, dtype = 8192 if device.type == "cuda" else 2048, fast_dtype(device) or torch.float32
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: torch.mm(a, b), device)


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second of a copy that no cache holds, read and written."""
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median_seconds(lambda: target.copy_(source), device)
