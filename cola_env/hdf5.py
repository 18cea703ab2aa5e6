"""HDF5 files of others, of which nothing is read that lies outside them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

READING = (OSError, LookupError, ValueError, RuntimeError, AttributeError, TypeError)
"""What reading a damaged file raises."""
MAX_SOFT_LINKS = 16
"""One after the other, as in the HDF5 library."""


def open_file(path: str | Path) -> Any:
    """The HDF5 file, to read; h5py is imported here."""
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


def env_args(data: Any) -> dict[str, Any]:
    """What the attribute ``env_args`` of robomimic's group ``data`` says of the environment; raises
    ValueError where it is not the JSON of a mapping whose ``env_kwargs`` are one too."""
    told = json.loads(data.attrs.get("env_args", "{}"))
    if not isinstance(told, dict) or not isinstance(told.get("env_kwargs") or {}, dict):
        raise ValueError(f"its env_args are {told}, not {{'env_name': ..., 'env_kwargs': {{...}}}}")
    return told


def names_robodesk(environment: dict[str, Any]) -> bool:
    """Whether the environment of a file's ``env_args`` is RoboDesk."""
    return "robodesk" in str(environment).lower()
