"""HDF5 files of others, of which nothing is read that lies outside them, and the frames in them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cola_train.data.episode_source import Frames
from cola_train.data.video import decode_image

MAX_SOFT_LINKS = 16
"""One after the other, as in the HDF5 library."""


def open_file(path: str | Path) -> Any:
    import h5py

    return h5py.File(path, "r")


def has(group: Any, name: str) -> bool:
    """Whether a group has a member of this name, wherever it leads."""
    return group.get(name, getlink=True) is not None


def member(group: Any, path: str, links: int = 0) -> Any:
    """The group or data set at ``path``.

    Raises ValueError when there is none, or when it lies in another file: behind an external link,
    in external storage or in the sources of a virtual data set.
    """
    import h5py

    found = group.file["/"] if path.startswith("/") else group
    for name in path.split("/"):
        if name in ("", "."):
            continue
        link = found.get(name, getlink=True)
        if link is None:
            raise ValueError(f"{found.name} has no {name}")
        if isinstance(link, h5py.ExternalLink):
            raise ValueError(_outside(f"{found.name.rstrip('/')}/{name}", [link.filename]))
        if isinstance(link, h5py.SoftLink):
            if links == MAX_SOFT_LINKS:
                raise ValueError(f"the links of {path} lead nowhere")
            found = member(found, link.path, links + 1)
        else:
            found = found[name]
    if isinstance(found, h5py.Dataset):
        sources = found.virtual_sources() if found.is_virtual else ()
        outside = [source.file_name for source in sources if source.file_name != "."]
        if outside := outside or [str(part[0]) for part in found.external or ()]:
            raise ValueError(_outside(found.name, outside))
    return found


def _outside(name: str, files: Collection[str]) -> str:
    return f"{name} lies in another file ({', '.join(files)}), which is not read: copy it into this"


AT_ONCE = 2**26
"""Values of a data set that are looked through at a time."""


@dataclass(frozen=True)
class Pictures:
    """Arrays (T, H, W, 3) or (T, 3, H, W) of values from 0 to 255, or T encoded images (JPEG, PNG),
    each a row of bytes, padded with zeros, or of variable length.

    Attributes:
        data: the HDF5 data set.
        upside_down: its first row is the lowest.
    """

    data: Any
    upside_down: bool = False

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def are_rgb(self) -> bool:
        return self._are_encoded or self._have_colours_last or self._have_colours_first

    def size(self) -> tuple[int, int]:
        """Height and width. Raises ValueError for what is no picture."""
        if self._are_encoded:
            return self.read(0, 1).shape[1:3] if len(self) else (0, 0)
        if not self.are_rgb or (len(self) and not self.data.size):
            raise ValueError(
                f"{self.data.name} has shape {self.data.shape}: frames are RGB, (T, H, W, 3)"
            )
        return self.data.shape[1:3] if self._have_colours_last else self.data.shape[2:4]

    def check_values(self) -> None:
        """Raises ValueError where frames were never written, which HDF5 reads as black, and for
        values that are none of pixels, from 0 to 255. Bytes always are."""
        if not _is_written(self.data):
            raise ValueError(f"{self.data.name} has frames that were never written")
        if self._are_encoded or self.data.dtype == np.uint8:
            return
        if self.data.dtype.kind not in "uif":
            raise ValueError(f"{self.data.name} holds {self.data.dtype}: frames are uint8")
        low, high = np.inf, -np.inf
        step = max(1, AT_ONCE // max(1, int(np.prod(self.data.shape[1:]))))
        for start in range(0, len(self), step):
            values = self.data[start : start + step]
            if not np.isfinite(values).all():
                raise ValueError(f"{self.data.name} holds values that are not finite")
            low, high = min(low, values.min()), max(high, values.max())
        if len(self) and not 0 <= low <= high <= 255:
            raise ValueError(
                f"{self.data.name} has values from {low:g} to {high:g}: store frames as uint8, "
                "from 0 to 255"
            )
        if self.data.dtype.kind == "f" and 0 < high <= 1:
            raise ValueError(f"{self.data.name} is in [0, 1]: store frames as uint8, from 0 to 255")

    def read(self, start: int, stop: int, stride: int = 1) -> Frames:
        """Frames start, start + stride, ... before stop, uint8 RGB (n, H, W, 3)."""
        values = self.data[start:stop:stride]
        if self._are_encoded:
            values = np.stack([decode_image(bytes(row)) for row in values])
        elif not self._have_colours_last:
            values = np.moveaxis(values, 1, -1)
        if values.dtype != np.uint8:
            values = values.round().clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(values[:, ::-1] if self.upside_down else values)

    @property
    def _are_encoded(self) -> bool:
        shape, kind = self.data.shape, self.data.dtype.kind
        return (len(shape) == 1 and kind in "OS") or (
            len(shape) == 2 and self.data.dtype == np.uint8
        )

    @property
    def _have_colours_last(self) -> bool:
        return self.data.ndim == 4 and self.data.shape[-1] == 3

    @property
    def _have_colours_first(self) -> bool:
        return self.data.ndim == 4 and self.data.shape[1] == 3


def _is_written(data: Any) -> bool:
    """Whether all of an HDF5 data set is stored."""
    if data.is_virtual or not data.size:
        return True
    if data.chunks:
        chunks = [-(-n // size) for n, size in zip(data.shape, data.chunks, strict=True)]
        return bool(data.id.get_num_chunks() == np.prod(chunks))
    return bool(data.id.get_storage_size() > 0)
