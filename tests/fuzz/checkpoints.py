"""Checkpoint folders whose config, index or weights are damaged, and the names they go by."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

from cola_env import load_model
from tests.env.conftest import make_model
from tests.fuzz.files import Files, bytes_of, damage, damaged, json_of, named, read_folder, written
from tests.fuzz.judge import Refused, call, check_finite, read
from tests.fuzz.values import mostly, scalars

PIXELS = 64


@cache
def folder(sharded: bool) -> Files:
    with tempfile.TemporaryDirectory() as place:
        model = make_model("latent", image_size=PIXELS)
        model.save_pretrained(place, max_shard_size="60KB" if sharded else "1GB")
        return read_folder(Path(place))


@dataclass(frozen=True)
class Weights:
    """The `number`-th tensor of a weights file: `how` is "drop", "rename", "nan", "huge", "shape"
    or a dtype."""

    number: int
    how: str

    def apply(self, files: Files) -> Files:
        name = named(files, ".safetensors")
        tensors = load(files[name])
        key = sorted(tensors)[self.number % len(tensors)]
        old = tensors.pop(key)
        if self.how == "rename":
            tensors[f"{key}_"] = old
        elif self.how != "drop":
            tensors[key] = {
                "nan": lambda: torch.full_like(old.float(), torch.nan),
                "huge": lambda: torch.full_like(old.float(), 1e38),
                "shape": lambda: old.flatten()[:1],
            }.get(self.how, lambda: old.to(getattr(torch, self.how)))()
        return files | {name: save(tensors)}


@dataclass(frozen=True)
class Checkpoint:
    """`name`: None, or what is asked for instead of the folder."""

    sharded: bool
    changes: list[Any]
    name: Any = None


weights = st.builds(
    Weights,
    st.integers(0, 200),
    st.sampled_from(["drop", "rename", "nan", "huge", "shape", "float16", "int64", "float64"]),
)
single = damage(weights, json_of("config.json"), bytes_of("config.json", ".safetensors"))
sharded = damage(
    json_of("index.json", "config.json"), bytes_of("index.json", "config.json", "00001", "00002")
)
names = st.sampled_from(["", ".", "nowhere", "/", "a b", "~x", "x" * 300, "\x00", "cola/", "..", 7])
inputs = st.one_of(
    st.builds(Checkpoint, st.just(False), single, mostly(st.none(), names | scalars, 20)),
    st.builds(Checkpoint, st.just(True), sharded),
)


def attempt(checkpoint: Checkpoint) -> bool:
    """Whether a model was loaded, which then dreams."""
    with written(damaged(folder(checkpoint.sharded), checkpoint.changes)) as place:
        model = read(load_model, place if checkpoint.name is None else checkpoint.name, "cpu")
    if isinstance(model, Refused) or checkpoint.name is not None:
        return False
    size, dims = int(model.config.image_size), int(model.config.action_dim)
    frame = torch.zeros((1, 1, size, size, 3), dtype=torch.uint8)
    state = call(model.begin, frame)
    if isinstance(state, Refused):
        return False
    after = call(model.step, state, torch.zeros(1, dims))
    if isinstance(after, Refused):
        return False
    check_finite(after.latents, "the latents after a step")
    return True
