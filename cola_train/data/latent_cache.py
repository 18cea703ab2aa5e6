"""Latents of clips, encoded once and kept on disk: at the paper's size encoding costs more than the
world model does, and the latents of a dataset do not fit in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips


def cached_latents(clips: Clips, model: ColaWorldModel, folder: Path) -> Clips:
    """The clips with latents (E, T', C, h, w) float16 in a memory-mapped file of ``folder``.

    The file belongs to these frames and to this autoencoder, whatever the rest of the model is;
    with others, new ones are made beside it. Stopped on the way, it goes on with the next episode.

    Raises:
        ColaWorldError: the file in ``folder`` has been damaged.
    """
    coder = model.autoencoder if model.config.vae_config is None else model.vae
    name = fingerprint(coder, clips.frames)
    file, progress = folder / f"{name}.npy", folder / f"{name}.episodes"
    done = int(progress.read_text()) if progress.exists() else 0
    shape = (clips.episodes, *encode(model, clips.frames[0]).shape)
    if done:
        try:
            stored = np.lib.format.open_memmap(file, mode="r+")
        except (OSError, ValueError) as error:
            raise ColaWorldError(
                f"The cached latents {file} are damaged ({error}): delete {folder}."
            ) from error
    else:
        folder.mkdir(parents=True, exist_ok=True)
        stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
    latents = torch.from_numpy(stored)
    for i in range(done, clips.episodes):
        latents[i] = encode(model, clips.frames[i])
        stored.flush()
        progress.write_text(str(i + 1))
    return Clips(clips.frames, clips.actions, latents)


def encode(model: ColaWorldModel, frames: Tensor) -> Tensor:
    with torch.no_grad(), autocast(model.device):
        return model.encode(frames.to(model.device)).cpu()


def fingerprint(coder: nn.Module, frames: Tensor) -> str:
    """Of an autoencoder's weights and of the frames it encodes."""
    digest = hashlib.sha256()
    for name, tensor in coder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(str(tuple(frames.shape)).encode())
    for episode in frames:
        digest.update(episode.contiguous().numpy())
    return digest.hexdigest()[:16]
