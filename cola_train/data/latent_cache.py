"""Latents of training data, made once instead of at every step, in memory or on disk.

At the paper's size encoding costs more than the world model does, and the latents of a dataset do
not fit in memory.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.autoencoder import Pixels
from cola_env.models.world_model import ColaWorldModel
from cola_train.console import progress_bar
from cola_train.data.clips import Clips, TrainingData, encode
from cola_train.data.episode_source import DamagedFile, Unreadable
from cola_train.data.mixture import Mixture
from cola_train.data.stream import Stream


def encoded(data: TrainingData, model: ColaWorldModel, cache: Path | None) -> TrainingData:
    """The data with the latents of all frames, in memory or in files of the folder ``cache``.

    Streams without a ``cache``, what is mixed with them, and all data of a model of pixels stay as
    they are: their batches are encoded as they are drawn.
    """
    if isinstance(model.coder, Pixels):
        return data
    if isinstance(data, Clips) and data.latents is None:
        return data.encode(model) if cache is None else cached_latents(data, model, cache)
    if isinstance(data, Stream) and cache is not None:
        return cached_stream(data, model, cache)
    if isinstance(data, Mixture) and (cache or all(isinstance(p, Clips) for p in data.parts)):
        return replace(data, parts=[encoded(part, model, cache) for part in data.parts])
    return data


ENCODED_AT_ONCE = 64
"""Frames of an episode."""


def cached_latents(clips: Clips, model: ColaWorldModel, folder: Path) -> Clips:
    """The clips with latents (E, T', C, h, w) float16 in a memory-mapped file of ``folder``.

    The file belongs to these frames and to this autoencoder, whatever the rest of the model is;
    with others, new ones are made beside it. Stopped on the way, it goes on with the next episode.

    Raises:
        ColaWorldError: the file in ``folder`` has been damaged.
    """
    name = fingerprint(model.coder, clips.frames)
    shape = (clips.episodes, *encode(model, clips.frames[0]).shape)
    stored, progress = _open(folder, name, shape)
    latents = torch.from_numpy(stored)
    for i in range(len(_done(progress)), clips.episodes):
        latents[i] = encode(model, clips.frames[i])
        stored.flush()
        _note(progress, i, read=True)
    return Clips(clips.frames, clips.actions, latents)


def cached_stream(stream: Stream, model: ColaWorldModel, folder: Path) -> Stream:
    """The stream with latents (N, C, h, w) float16 of all its frames in such a file.

    Spans that cannot be read are left out; the file remembers them.

    Raises:
        ColaWorldError: the file in ``folder`` has been damaged, or no span can be read.
    """
    digest = _digest(model.coder)
    digest.update(stream.identity().encode())
    shape = encode(model, torch.zeros(1, stream.size, stream.size, 3, dtype=torch.uint8)).shape
    offsets = list(accumulate(map(len, stream.spans), initial=0))
    stored, progress = _open(folder, digest.hexdigest()[:16], (offsets[-1], *shape[1:]))
    rows = [torch.from_numpy(stored[start:stop]) for start, stop in pairwise(offsets)]
    done = _done(progress)
    for i in progress_bar(range(len(done), len(rows)), f"encoding {stream.name}", leave=False):
        try:
            frames = stream.whole(i)[0].split(ENCODED_AT_ONCE)
            rows[i].copy_(torch.cat([encode(model, part) for part in frames]))
            done.append(True)
        except DamagedFile as error:
            stream.damage_report.add(error.file, error.reason)
            done.append(False)
        stored.flush()
        _note(progress, i, done[i])
    if not any(done):
        raise Unreadable(f"Nothing in {stream.name} can be read: {stream.damage_report.summary()}")
    return replace(stream, latents=rows).select([i for i, read in enumerate(done) if read])


def _done(progress: Path) -> list[bool]:
    """By span, as far as they have come: whether it could be read."""
    return [character == "1" for character in progress.read_text()]


def _note(progress: Path, span: int, read: bool) -> None:
    """One byte at its place, so that two processes that share a folder do no harm."""
    with progress.open("r+b") as file:
        file.seek(span)
        file.write(b"1" if read else b"0")


def _open(
    folder: Path, name: str, shape: tuple[int, ...]
) -> tuple[np.memmap[Any, np.dtype[np.float16]], Path]:
    """The file of this name, new or as it was left, and the one that says how far it got."""
    file, progress = folder / f"{name}.npy", folder / f"{name}.done"
    if not progress.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _create(file, shape)
        progress.touch()
    try:
        return np.lib.format.open_memmap(file, mode="r+"), progress
    except (OSError, ValueError) as error:
        raise ColaWorldError(
            f"The cached latents {file} are damaged ({error}): delete {folder}."
        ) from error


def _create(file: Path, shape: tuple[int, ...]) -> None:
    """A float16 file for ``np.load``, which keeps what another process may have put there since."""
    with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stored:
        dtype = np.dtype(np.float16)
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stored, header)
        stored.truncate(stored.tell() + prod(shape) * dtype.itemsize)


def fingerprint(coder: nn.Module, frames: Tensor) -> str:
    """Of an autoencoder's weights and of the frames it encodes."""
    digest = _digest(coder)
    digest.update(str(tuple(frames.shape)).encode())
    for episode in frames:
        digest.update(episode.contiguous().numpy())
    return digest.hexdigest()[:16]


def _digest(coder: nn.Module) -> hashlib._Hash:
    """Of an autoencoder's weights, to which more can be added."""
    digest = hashlib.sha256()
    for name, tensor in coder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest
