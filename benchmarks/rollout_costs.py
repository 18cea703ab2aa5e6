"""What a computation costs: operations, moved bytes, peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import peak_resident


@dataclass(frozen=True)
class Costs:
    """``moved_bytes``: what all operations read and write, were nothing kept in a cache."""

    flops: int
    moved_bytes: int


class _Traffic(TorchDispatchMode):
    """Sums the sizes of what operations read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.moved += sum(x.numel() * x.element_size() for x in tensors)
        return out


def count_costs(computation: Callable[[], object]) -> Costs:
    counter, traffic = FlopCounterMode(display=False), _Traffic()
    with counter, traffic:
        computation()
    return Costs(counter.get_total_flops(), traffic.moved)


def peak_memory(config: DictConfig) -> dict[str, dict[str, float]]:
    """GB that a fast rollout takes above the loaded model, by candidates and by context.

    Each in a process of its own, so that its peak is its own: {context: {samples: GB}}. A curve
    ends before the first number of candidates that fails, as for want of memory.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    found: dict[str, dict[str, float]] = {}
    for context in (1, 7):
        curve = found.setdefault(str(context), {})
        for samples in config.memory_samples:
            command = [sys.executable, "-m", "benchmarks.rollout_costs", str(config.model)]
            command += [str(config.device), str(context), str(samples), str(config.horizon)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{samples} candidates failed, as told above: their memory is left out.")
                break
            curve[str(samples)] = json.loads(done.stdout)
    return found


def main(model: str, device: str, context: int, samples: int, horizon: int) -> None:
    """Print the GB of one rollout's latents; decoding, whose size does not depend on how they were
    made, is left out."""
    from omegaconf import OmegaConf

    from benchmarks.rollout import build

    world = build(OmegaConf.create({"model": model, "device": device}))
    size = world.config.image_size
    frames = torch.zeros(1, context, size, size, 3, dtype=torch.uint8)
    actions = torch.zeros(1, samples, horizon, world.config.action_dim, device=world.device)
    world.decode = lambda latents: latents  # type: ignore[method-assign]
    state = world.begin(frames)
    on_gpu = world.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        world.rollout(state, actions[:, :1], seed=0)
        before = peak_resident()
    world.rollout(state, actions, seed=0)
    after = torch.cuda.max_memory_allocated() if on_gpu else peak_resident()
    print((after - before) / 1e9)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
