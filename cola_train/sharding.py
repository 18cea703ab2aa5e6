"""Whole tensors of sharded ones (FSDP2), and back. Collective: all processes call them together."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from cola_env.models.world_model import ColaWorldModel


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
