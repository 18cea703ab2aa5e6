"""Checks at the public boundary: a caller's actions and images become a model's tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cola_env.errors import ColaWorldError

Space = spaces.Box | spaces.MultiDiscrete
COMMON_FLOATS = (torch.float16, torch.float32, torch.float64)
ROUNDING = 1e-3
"""By how much numbers may miss their range: half precision and resampling do."""


def real_actions(size: int) -> spaces.Box:
    """The space of a robot's own actions: float32 (size,) in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


def as_array(values: ArrayLike | Tensor, what: str) -> NDArray[Any]:
    """The real numbers of a tensor, on whatever device, or of anything that numpy takes, in an
    array that torch takes (of native byte order, without negative strides); not a copy where none
    is needed. Raises ColaWorldError, which calls them `what`, when there are none."""
    if isinstance(values, Tensor):
        values = _common(values.detach().cpu()).numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind == "c":
        raise ColaWorldError(f"{what} must be real numbers, not {array.dtype}.")
    if array.dtype.kind not in "buif":
        raise ColaWorldError(
            f"{what} must be numbers: an array, a tensor or lists of equal lengths, "
            f"not {type(values).__name__}."
        )
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return array.copy() if any(stride < 0 for stride in array.strides) else array


def as_actions(
    actions: ArrayLike | Tensor, space: Space, leading: Sequence[int | str] = ()
) -> Tensor:
    """Actions of shape (*leading, *space.shape): float32 clipped to [-1, 1], or int64 codes; a
    tensor's stay on its device.

    leading: the axes before the action's own, as sizes or, where any size will do, as names.
    Raises ColaWorldError for another shape, complex numbers, NaN, or codes outside of a
    MultiDiscrete space.
    """
    if not isinstance(actions, Tensor) or actions.is_complex():
        array = as_array(actions, "The actions")
        odd = array.dtype.kind == "u" or array.dtype.itemsize > 8
        actions = torch.tensor(array.astype(np.float64) if odd else array)
    values = _common(actions.detach())
    latent = isinstance(space, spaces.MultiDiscrete)
    check_actions(values.shape, leading, space.shape, latent)
    if not torch.isfinite(values).all():
        raise ColaWorldError("The actions contain NaN or infinity; give finite numbers.")
    if isinstance(space, spaces.Box):
        return values.float().clamp(-1.0, 1.0)
    check_codes(values, torch.as_tensor(space.nvec, device=values.device))
    return values.long()


def check_actions(
    shape: Sequence[int], leading: Sequence[int | str], own: Sequence[int], latent: bool
) -> None:
    """Raises ColaWorldError unless actions have the shape (*leading, *own), see as_actions."""
    wanted = (*leading, *own)
    if not _fits(shape, wanted):
        kind = "Latent actions" if latent else "Actions"
        raise ColaWorldError(f"{kind} must have shape {_text(wanted)}, not {_text(shape)}.")


def check_codes(codes: Tensor, entries: Tensor) -> None:
    """Raises ColaWorldError unless codes (..., tokens) are whole numbers, not negative and below
    `entries` (tokens,), which is on their device."""
    if ((codes != codes.long()) | (codes < 0) | (codes >= entries)).any():
        raise ColaWorldError(
            f"Latent actions are codes: whole numbers from 0 to {int(entries.max()) - 1}."
        )


def check_range(actions: Tensor, most: float) -> None:
    """Raises ColaWorldError unless the actions are numbers in [-most, most], or finite ones where
    that is infinity. Waits for a GPU where the actions lie on one."""
    if actions.is_complex():
        raise ColaWorldError("Actions are real numbers, not complex ones.")
    largest = float(actions.detach().double().abs().amax())
    if not largest < math.inf:
        raise ColaWorldError("The actions contain NaN or infinity; give finite numbers.")
    if largest > most + ROUNDING:
        raise ColaWorldError(
            f"Actions must lie in [-{most:g}, {most:g}], but one is of size {largest:g}: scale or "
            "clip them."
        )


def check_noise(noise: Tensor, *shape: int) -> None:
    """Raises ColaWorldError unless noise has this shape and is finite."""
    if tuple(noise.shape) != shape:
        raise ColaWorldError(f"The noise must have shape {shape}, not {tuple(noise.shape)}.")
    if not bool(noise.isfinite().all()):
        raise ColaWorldError("The noise contains NaN or infinity; give finite numbers.")


def check_context(frames: Tensor, size: int) -> None:
    """Raises ColaWorldError unless frames are uint8 (B, C, size, size, 3), none of them 0."""
    fits = frames.ndim == 5 and tuple(frames.shape[2:]) == (size, size, 3) and frames.numel() > 0
    if frames.dtype != torch.uint8 or not fits:
        raise ColaWorldError(
            f"A model takes frames of shape (B, C, {size}, {size}, 3) as uint8, "
            f"not {tuple(frames.shape)} as {str(frames.dtype).removeprefix('torch.')}."
        )


def check_count(name: str, count: int) -> int:
    """`count` if it is a whole number of at least 1; ColaWorldError, which names it, otherwise."""
    if not _is_whole(count) or count < 1:
        raise ColaWorldError(f"{name} must be a whole number of at least 1, not {count!r}.")
    return int(count)


def check_index(name: str, index: Any, count: int) -> int:
    """`index` if it is a whole number of 0 to `count` - 1; ColaWorldError otherwise."""
    if not _is_whole(index) or not 0 <= index < count:
        raise ColaWorldError(f"{name} must be a whole number of 0 to {count - 1}, not {index!r}.")
    return int(index)


def check_seed(seed: int) -> int:
    """`seed` if torch takes it: a whole number of 0 to 2**63 - 1; ColaWorldError otherwise."""
    if not _is_whole(seed) or not 0 <= seed < 2**63:
        raise ColaWorldError(f"seed must be a whole number of 0 to 2**63 - 1, not {seed!r}.")
    return int(seed)


def check_number(name: str, number: float, least: float = -math.inf) -> float:
    """`number` if it is finite and at least `least`; ColaWorldError, which names it, otherwise."""
    real = not isinstance(number, bool) and isinstance(number, int | float | np.number)
    if not real or not -sys.float_info.max <= number <= sys.float_info.max or number < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise ColaWorldError(f"{name} must be a finite number{bound}, not {number!r}.")
    return float(number)


def as_frames(
    frames: ArrayLike | Tensor, name: str, size: int, leading: Sequence[int | str] = ()
) -> Tensor:
    """The images of options[name], uint8 (*leading, size, size, 3), as a tensor on the CPU.

    Raises ColaWorldError for another type or shape; see as_actions for `leading`.
    """
    values = as_array(frames, f"options['{name}']")
    wanted = (*leading, size, size, 3)
    if values.dtype != np.uint8 or not _fits(values.shape, wanted):
        raise ColaWorldError(
            f"options['{name}'] must be uint8 RGB of shape {_text(wanted)}, not {values.dtype} of "
            f"shape {_text(values.shape)}."
        )
    return torch.tensor(values)


def as_goals(goals: ArrayLike | Tensor, size: int, leading: Sequence[int | str] = ()) -> Tensor:
    """What `as_frames` takes as options['goal'], or floats in [0, 1]; uint8 either way."""
    values = as_array(goals, "options['goal']")
    if values.dtype.kind == "f" and values.size:
        if not (values.min() >= 0 and values.max() <= 1):
            raise ColaWorldError(
                f"options['goal'] holds floats of {values.min():g} to {values.max():g}: floats lie "
                "in [0, 1]; give uint8 for 0 to 255."
            )
        values = (values * 255).round().astype(np.uint8)
    return as_frames(values, "goal", size, leading)


def check_options(options: dict | None, known: Sequence[str]) -> dict:
    """The reset options, {} for None; ColaWorldError when one is unknown."""
    for name in options or {}:
        if name not in known:
            raise ColaWorldError(
                f"reset() knows no option '{name}'; choose from {', '.join(known)}."
            )
    return options or {}


def check_step_limit(limit: int | None) -> int | None:
    """The steps of an episode: None for -1, which is no limit in Gymnasium, either.

    Raises ColaWorldError for anything else than a whole number of at least 1.
    """
    if limit is None or limit == -1:
        return None
    if not _is_whole(limit) or limit < 1:
        raise ColaWorldError(
            f"max_episode_steps must be at least 1, or -1 or None for no limit, not {limit!r}."
        )
    return int(limit)


def check_render_mode(mode: str | None) -> str | None:
    """`mode` if it is None or "rgb_array"; ColaWorldError otherwise."""
    if mode not in (None, "rgb_array"):
        raise ColaWorldError(f"render_mode must be None or 'rgb_array', not '{mode}'.")
    return mode


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _common(values: Tensor) -> Tensor:
    """Numbers that numpy and all of torch's operations know: bfloat16, float8, ... as float32,
    sparse and quantized ones as others. Raises ColaWorldError for a tensor without numbers."""
    if values.is_meta:
        raise ColaWorldError("A tensor on the device 'meta' holds no numbers: give one that does.")
    values = values.dequantize() if values.is_quantized else values.to_dense()
    exotic = values.is_floating_point() and values.dtype not in COMMON_FLOATS
    return values.float() if exotic else values


def _fits(shape: Sequence[int], wanted: Sequence[int | str]) -> bool:
    return len(shape) == len(wanted) and all(
        given > 0 and (isinstance(size, str) or size == given)
        for size, given in zip(wanted, shape, strict=True)
    )


def _text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def to_bytes(frames: Tensor) -> Tensor:
    """frames (...) float -> uint8; below 0 and above 1 is cut off."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def unit_range(frames: Tensor) -> Tensor:
    """frames (..., S, S, 3), uint8 or float in [0, 1] -> float32 in [0, 1].

    Raises ColaWorldError for floats that are not, or NaN, other types and other shapes.
    """
    shape = tuple(frames.shape)
    if len(shape) < 3 or shape[-1] != 3 or shape[-2] != shape[-3] or not frames.numel():
        raise ColaWorldError(f"Frames have the shape (..., S, S, 3), not {shape}.")
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    if not frames.is_floating_point():
        raise ColaWorldError(f"Frames are uint8, or floats in [0, 1], not {frames.dtype}.")
    low, high = (float(x) for x in frames.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ColaWorldError(
            f"Frames are uint8, or floats in [0, 1]; these floats reach from {low:g} to {high:g}."
        )
    return frames.float()


def resized(frames: Tensor, size: int) -> Tensor:
    """frames (B, T, S, S, 3), uint8 or float in [0, 1] -> float32 (B, T, size, size, 3)."""
    frames = unit_range(frames)
    if frames.shape[-2] == size:
        return frames
    images = frames.flatten(0, 1).movedim(-1, 1)
    images = interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.movedim(1, -1).unflatten(0, frames.shape[:2])
