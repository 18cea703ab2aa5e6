"""A device that does not exist: tensors on it hold their numbers on the CPU, and mixing them with
others is the error that it is on a GPU. Code that mixes devices so fails without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

PRETENDED = torch.device("meta")
"""By its name: torch knows it without any driver, and nothing but this file computes there."""

aten = torch.ops.aten
CROSSING = {aten._to_copy.default, aten.copy_.default}
"""Operations between devices."""
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
"""They take indices from the CPU, too."""


class PretendedTensor(torch.Tensor):
    """One whose ``held`` numbers lie on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=PRETENDED,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert a tensor that is elsewhere to numpy: use .cpu() first")

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.numpy()

    def new_tensor(self, data: Any, **options: Any) -> torch.Tensor:
        return PretendedTensor(torch.tensor(data, dtype=options.get("dtype", self.dtype)))

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied


def held(value: Any) -> Any:
    return value.held if isinstance(value, PretendedTensor) else value


def pretended(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, PretendedTensor)
    return PretendedTensor(value) if plain else value


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the held numbers, whose result lies where that of a GPU would."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    for tensor in tensors:
        lost = tensor.device == PRETENDED and not isinstance(tensor, PretendedTensor)
        assert not lost, f"{func} got a tensor that was made without its numbers"
    check_devices(func, args, tensors)
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]) == PRETENDED
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif func is aten.copy_.default:
        there = isinstance(args[0], PretendedTensor)
    else:
        there = any(isinstance(tensor, PretendedTensor) for tensor in tensors)
    found = func(*tree_map(held, args), **tree_map(held, kwargs))
    if not there:
        return found
    name = func._schema.name
    if name.endswith("_") and not name.endswith("__"):
        return args[0]
    return tree_map(pretended, found)


def check_devices(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """Raises RuntimeError for tensors of both devices, unless one is a number or an index."""
    if func in CROSSING:
        return
    shaped = [tensor for tensor in tensors if tensor.ndim]
    if func in INDEXING and isinstance(args[0], PretendedTensor):
        indices = {id(index) for index in args[1] if index is not None}
        shaped = [tensor for tensor in shaped if id(tensor) not in indices]
    if len({tensor.device for tensor in shaped}) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {func} got some on the CPU and "
            "some elsewhere"
        )


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Numbers(TorchFunctionMode):
    """Tensors of given numbers, which torch makes on that device without them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None:
            return func(*args, **kwargs)
        made = func(*args, **{name: value for name, value in kwargs.items() if name != "device"})
        return made.to(device)


class Generator(torch.Generator):
    """One for any device, which draws as on the CPU."""

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        return super().__new__(cls)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """The device, which can be used inside."""
    autocast = torch.autocast

    def cast(device_type: str, *args: Any, **kwargs: Any) -> torch.autocast:
        return autocast("cpu" if device_type == PRETENDED.type else device_type, *args, **kwargs)

    with (
        mock.patch("torch.autocast", cast),
        mock.patch("torch.Generator", Generator),
        Operations(),
        Numbers(),
    ):
        yield PRETENDED
