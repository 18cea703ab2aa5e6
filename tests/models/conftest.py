"""What Open-Sora v1.2's own classes computed, and small files in its published layout."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

PARITY = Path(__file__).resolve().parents[3] / "shared" / "opensora_parity"


@pytest.fixture(scope="session")
def parity() -> Path:
    if not PARITY.is_dir():
        pytest.skip("the tensors that Open-Sora's classes computed do not lie beside the project")
    return PARITY


@pytest.fixture(scope="session")
def published(parity, tmp_path_factory) -> Path:
    """A tiny STDiT3, text parts included, as a folder with config.json and one safetensors file."""
    folder = tmp_path_factory.mktemp("stdit3")
    config = json.loads((parity / "config.json").read_text())["config"]
    (folder / "config.json").write_text(json.dumps(config))
    save_file(load_file(parity / "stdit3_tiny.safetensors"), folder / "model.safetensors")
    return folder


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
