"""Latents of training data, made once instead of at every step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips, TrainingData
from cola_train.data.latent_cache import cached_latents, cached_stream
from cola_train.data.mixture import Mixture
from cola_train.data.stream import Stream


def encoded(data: TrainingData, model: ColaWorldModel, cache: Path | None) -> TrainingData:
    """The data with the latents of all frames, in memory or in files of the folder ``cache``.

    Streams without a ``cache``, and what is mixed with them, stay as they are: their batches are
    encoded as they are drawn.
    """
    if isinstance(data, Clips) and data.latents is None:
        return data.encode(model) if cache is None else cached_latents(data, model, cache)
    if isinstance(data, Stream) and cache is not None:
        return cached_stream(data, model, cache)
    if isinstance(data, Mixture) and (cache or all(isinstance(p, Clips) for p in data.parts)):
        return replace(data, parts=[encoded(part, model, cache) for part in data.parts])
    return data
