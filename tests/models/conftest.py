"""Small files in the published layout of Open-Sora v1.2."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests import opensora


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """A tiny STDiT3, text parts included, as a folder with config.json and one safetensors file."""
    return opensora.write_published(tmp_path_factory.mktemp("stdit3"))


@pytest.fixture
def save_sharded() -> Callable[[dict[str, torch.Tensor], Path, str], None]:
    """Writes two shards and their index, as transformers and diffusers do."""

    def save(tensors: dict[str, torch.Tensor], folder: Path, kind: str) -> None:
        stem = "model" if kind == "safetensors" else "pytorch_model"
        names, weight_map = sorted(tensors), {}
        for i, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"{stem}-{i:05d}-of-00002.{kind}"
            shard = {name: tensors[name] for name in part}
            if kind == "safetensors":
                save_file(shard, folder / file)
            else:
                torch.save(shard, folder / file)
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))

    return save
