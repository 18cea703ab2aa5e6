"""The processes that train together, as `accelerate launch` started them; usually one.

Under FSDP2 each holds a part of every weight. What gathers them whole, or shares them out again, is
collective: all processes call it together.
"""

from __future__ import annotations

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    broadcast,
)
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from cola_env.errors import ColaWorldError
from cola_env.models.precision import fast_dtype
from cola_env.models.world_model import ColaWorldModel

PATIENCE = timedelta(hours=6)
"""The others wait while the main process measures, or fills the cache of latents."""


def make_accelerator(
    device: torch.device, out: Path, logger: str, accumulation: int
) -> Accelerator:
    """Autocasts to the fast precision of ``device``, the kind to train on (its index is each
    process's own). Raises ColaWorldError for FSDP1."""
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if fast_dtype(device) else "no",
        gradient_accumulation_steps=accumulation,
        log_with=None if logger == "none" else logger,
        project_dir=out,
        kwargs_handlers=[
            # Not every step uses all that a phase learns.
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )
    if accelerator.is_fsdp2:
        plugin = accelerator.state.fsdp_plugin
        plugin.mixed_precision_policy = MixedPrecisionPolicy()  # autocast chooses the precision
        plugin.cpu_ram_efficient_loading = False  # every process has the whole model anyway
    elif accelerator.distributed_type == DistributedType.FSDP:
        raise ColaWorldError("Of FSDP, training supports version 2 only: add --fsdp_version 2.")
    return accelerator


def agreed(accelerator: Accelerator, flag: bool) -> bool:
    """What the main process says."""
    if accelerator.num_processes == 1:
        return flag
    return bool(broadcast(torch.tensor(int(flag), device=accelerator.device)))


def whole(tree: Any) -> Any:
    """The same lists and dicts, with every sharded tensor gathered."""
    return tree_map(lambda leaf: leaf.full_tensor() if isinstance(leaf, DTensor) else leaf, tree)


def sharded_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, sharded as ``model`` of the same shape is."""
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = whole(dict(module.state_dict()))
    return state


def load_whole(module: nn.Module, state: dict[str, Tensor]) -> None:
    own = module.state_dict()
    module.load_state_dict({key: sharded_like(value, own[key]) for key, value in state.items()})


def shardable_copy(model: ColaWorldModel, compiled: bool) -> ColaWorldModel:
    """One that FSDP2 takes: without channels-last weights, and compiled anew if ``compiled``."""
    copied: ColaWorldModel = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    if compiled:
        copied.compile_repeated_blocks()
    return copied
