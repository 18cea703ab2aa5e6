"""Reading published weights: of a hub id or folder, safetensors or .bin, sharded or not."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cola_env.checkpoints import download
from cola_env.errors import ColaWorldError

PATTERNS = ("*.json", "*.safetensors", "*.bin")
NAMED = 6  # names that an error message lists


def find_published(source: str | Path) -> Path:
    """The folder of ``source``, a folder or a hub id; ColaWorldError if there is none."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "~")):
        return download(source, PATTERNS)
    raise ColaWorldError(f"{source} is neither a folder nor a hub id like 'user/repository'.")


def read_json(file: Path) -> dict[str, Any]:
    """Raises ColaWorldError for a file that is missing, damaged or holds no JSON object."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ColaWorldError(
            f"{file} cannot be read ({error}): give the whole published folder."
        ) from error
    if not isinstance(found, dict):
        raise ColaWorldError(f"{file} holds no JSON object: give the whole published folder.")
    return found


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights: the shards of an index, else the one file; safetensors first.

    Raises:
        ColaWorldError: no weights, several candidates, a damaged index, or a missing shard.
    """
    for kind in ("safetensors", "bin"):
        indices = sorted(folder.glob(f"*.{kind}.index.json"))
        if indices:
            files = [folder / shard for shard in _shards(indices[0])]
        else:
            files = sorted(folder.glob(f"*.{kind}"))
            if len(files) > 1:
                raise ColaWorldError(
                    f"{folder} holds {len(files)} {kind} files and no index: keep the one to load."
                )
        absent = [file.name for file in files if not file.is_file()]
        if absent:
            raise ColaWorldError(f"{folder} lacks {named(absent)}: download it again.")
        if files:
            return files
    raise ColaWorldError(f"{folder} holds no weights (*.safetensors or *.bin).")


def _shards(index: Path) -> list[str]:
    """The files that an index names, all of its own folder; ColaWorldError for a damaged one."""
    places = read_json(index).get("weight_map")
    named = set(places.values()) if isinstance(places, dict) else set()
    if not named or not all(isinstance(name, str) and Path(name).name == name for name in named):
        raise ColaWorldError(f"{index} names no files of this folder: download it again.")
    return sorted(named)


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the weights in ``folder``, one by one; ColaWorldError for a damaged file."""
    for file in weight_files(folder):
        try:
            if file.suffix == ".bin":
                whole = zipfile.is_zipfile(file)
                state = torch.load(file, map_location="cpu", weights_only=True, mmap=whole)
                yield from state.items()
            else:
                with safe_open(file, framework="pt") as tensors:
                    for name in tensors.keys():
                        yield name, tensors.get_tensor(name)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise ColaWorldError(f"{file} is damaged ({error}): download it again.") from error


def fill(
    module: nn.Module, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None, source: str
) -> int:
    """Replace all parameters of ``module``, which may lie on the meta device, by ``tensors``.

    Returns:
        How many numbers were taken.

    Raises:
        ColaWorldError: missing or unexpected names, or other shapes; it names them.
    """
    expected = {name: value.shape for name, value in module.state_dict().items()}
    taken: dict[str, Tensor] = {}
    unexpected, wrong, missing = [], [], dict.fromkeys(expected)
    for name, tensor in tensors:
        missing.pop(name, None)
        if name not in expected:
            unexpected.append(name)
        elif tensor.shape != expected[name]:
            wrong.append(f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name])}")
        else:
            taken[name] = tensor.to(dtype or tensor.dtype, copy=True)
    problems = {"missing keys": [*missing], "unexpected keys": unexpected, "other shapes": wrong}
    if any(problems.values()):
        told = "; ".join(f"{what}: {named(names)}" for what, names in problems.items() if names)
        kind = type(module).__name__
        raise ColaWorldError(f"The weights of {source} do not fit a {kind}: {told}.")
    module.load_state_dict(taken, assign=True)
    return sum(tensor.numel() for tensor in taken.values())


def named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
