"""Strategies that every boundary shares: numbers, arrays and settings, right ones and odd ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DTYPES = ("float32", "float64", "float16", "uint8", "int64", "int32", "uint16", "bool")
ODD_DTYPES = ("complex64", "object", "str", ">f4", ">i8", "datetime64[s]")
CONTENTS = ("uniform", "zeros", "ones", "nan", "inf", "huge", "one_nan", "outside")
FORMS = ("array", "tensor", "list", "reversed", "fortran", "read_only", "strided")


@dataclass(frozen=True)
class Numbers:
    """An array in few words, so that an input that fails can be read and typed in again."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    content: str = "uniform"
    form: str = "array"
    seed: int = 0

    def make(self) -> Any:
        values = self._values()
        with np.errstate(all="ignore"):
            array = np.asarray(values * (255 if "uint8" in self.dtype else 1)).astype(self.dtype)
        if self.form == "tensor" and array.dtype.isnative and array.dtype.kind in "fiubc":
            return torch.from_numpy(array.copy())
        if self.form == "list":
            return array.tolist()
        if self.form == "reversed":
            return array[::-1].copy()[::-1] if array.ndim else array
        if self.form == "fortran":
            return np.asfortranarray(array)
        if self.form == "strided" and array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        if self.form == "read_only":
            array.flags.writeable = False
        return array

    def _values(self) -> Any:
        values = np.random.default_rng(self.seed).uniform(-1, 1, self.shape)
        if "uint" in self.dtype:
            values = np.abs(values)
        constant = {"zeros": 0.0, "ones": 1.0, "nan": np.nan, "inf": -np.inf, "huge": 1e30}
        if self.content in constant:
            return np.full(self.shape, constant[self.content])
        if self.content == "one_nan" and values.size:
            values.flat[values.size // 2] = np.nan
        return values * 3 if self.content == "outside" else values


def made(value: Any) -> Any:
    """The value itself, its Numbers made into arrays."""
    if isinstance(value, Numbers):
        return value.make()
    if isinstance(value, dict):
        return {key: made(part) for key, part in value.items()}
    return value


def mostly(usual: SearchStrategy[Any], odd: SearchStrategy[Any], once_in: int = 4) -> Any:
    """`odd` once in so many times."""
    return st.integers(1, once_in).flatmap(lambda n: odd if n == once_in else usual)


odd_numbers = st.sampled_from([0, -1, 2**31, -(2**63), 2**64, 10**400]) | st.sampled_from(
    [0.0, -0.0, 0.5, 1e-30, 1e30, float("nan"), float("inf"), -float("inf")]
)
odd_counts = st.sampled_from([0, -1, -(2**63), 0.5, float("nan"), float("inf"), None, "2", [1]])
"""Nothing large: who asks for 2**64 steps gets them."""
scalars: SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 2]),
    odd_numbers,
    st.sampled_from(
        ["", "0", "nan", "x" * 300, "../..", "\x00", "é", [], {}, [1], {"a": 1}, (1, 2)]
    ),
    st.sampled_from([np.float32(0.5), np.int64(3), np.array(2), 1 + 2j, b"bytes"]),
)
json_values: SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, 0, -1, 1, 2, 3, 7, 64, 2**31, 10**12, 10**400, 0.5, -2.5, 1e300]),
    st.sampled_from([float("nan"), float("inf"), "", "x", "../../x", "/etc/passwd", "0:1", "{}"]),
    st.sampled_from([[], {}, [0], [1, 2, 3], [None], {"a": 1}, [[1]], "é\x00"]),
)
seeds = st.integers(0, 2**16)


def numbers(
    shape: Sequence[int], dtypes: Sequence[str] = ("float32",), once_in: int = 4
) -> SearchStrategy[Numbers]:
    """Mostly arrays of this shape and one of these dtypes, with usual values."""
    right = tuple(shape)
    axis = st.integers(0, max(0, len(right) - 1))
    other_shapes = st.one_of(
        st.just(()),
        st.just((0,)),
        st.just((1, *right)),
        st.just(right[1:]),
        st.builds(lambda i, n: (*right[:i], n, *right[i + 1 :]), axis, st.integers(0, 6)),
    )
    return st.builds(
        Numbers,
        mostly(st.just(right), other_shapes, once_in),
        mostly(st.sampled_from(dtypes), st.sampled_from((*DTYPES, *ODD_DTYPES)), once_in),
        mostly(st.just("uniform"), st.sampled_from(CONTENTS), once_in),
        st.sampled_from(FORMS),
        seeds,
    )
