"""What a computation on the meta device would cost: operations, launches and memory.

Nothing is computed there; what is frozen, and what the backward pass recomputes, is that of a
training.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

READ_VALUE = torch.ops.aten._local_scalar_dense.default


class Meter(TorchDispatchMode):
    """Counts what is computed on meta tensors inside.

    Attributes:
        flops: of matrix products and convolutions; a multiplication and an addition are two.
        launches: operations that write to memory.
        held: bytes of the tensors that were made inside and are still there.
        peak: the most that ``held`` has been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.launches = self.held = self.peak = 0
        self._storages: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is READ_VALUE and args[0].is_meta:
            return 0.0
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        made = [t.untyped_storage() for t in tree_iter(out) if isinstance(t, Tensor) and t.is_meta]
        new = [storage for storage in made if storage not in self._storages]
        self.launches += bool(new) or func._schema.is_mutable
        for storage in new:
            self._hold(storage)
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._storages.add(storage)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.held -= size


HALF: set[Callable[..., Any]] = {
    functional.linear,
    functional.conv2d,
    functional.conv3d,
    functional.scaled_dot_product_attention,
    torch.matmul,
    torch.einsum,
    Tensor.matmul,
    Tensor.__matmul__,
}
SINGLE: set[Callable[..., Any]] = {
    functional.layer_norm,
    functional.group_norm,
    functional.softmax,
    functional.cross_entropy,
    functional.mse_loss,
    torch.cdist,
    torch.softmax,
    Tensor.softmax,
}


class MetaKernels(TorchFunctionMode):
    """Gives meta tensors what GPUs have: attention that keeps no scores, and with ``half`` the
    precisions of CUDA's autocast, of which the meta device has none."""

    def __init__(self, half: bool) -> None:
        super().__init__()
        self.half = half

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.half and func in HALF:
            args, kwargs = tree_map(_cast(torch.float32, torch.bfloat16), (args, kwargs))
        elif self.half and func in SINGLE:
            args, kwargs = tree_map(_cast(torch.bfloat16, torch.float32), (args, kwargs))
        if func is functional.scaled_dot_product_attention and args and args[0].is_meta:
            return _fused_attention(*args, **kwargs)
        return func(*args, **kwargs)


def recomputed(half: bool) -> Callable[..., Any]:
    """What runs a block so that it is recomputed in the backward pass, with `MetaKernels` there,
    which torch switches off in it."""

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), MetaKernels(half)

    def run(block: nn.Module, *inputs: Any) -> Any:
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)

    return run


def _cast(source: torch.dtype, target: torch.dtype) -> Callable[[Any], Any]:
    """What brings meta tensors of the one type to the other, and leaves the rest."""

    def cast(value: Any) -> Any:
        of_source = isinstance(value, Tensor) and value.is_meta and value.dtype == source
        return value.to(target) if of_source else value

    return cast


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Tensor:
    bias = None
    if attn_mask is not None:
        shape = *query.shape[:-1], key.shape[-2]
        bias = torch.empty_like(attn_mask, dtype=query.dtype).expand(shape)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    attended: Tensor = kernel(query, key, value, bias, torch.is_grad_enabled())[0]
    return attended
