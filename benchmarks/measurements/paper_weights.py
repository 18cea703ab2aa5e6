"""Random weights in the layout that Open-Sora v1.2 published, for tests of size where no hub is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cola_env.models.autoencoders.vae import SCALE, SHIFT, OpenSoraVAE, VAEConfig
from cola_env.models.stdit import STDiT, STDiTConfig
from cola_env.models.transformer import rotary_frequencies

SHARD_BYTES = 2**30
CAPTIONS = (300, 4096)  # tokens and width of the text that the network was trained on


def publish_network(folder: Path, config: STDiTConfig, captions: tuple[int, int] = CAPTIONS) -> int:
    """Write an STDiT3 with its text parts, bfloat16, in shards; how many numbers it has."""
    dim, (tokens, width) = config.hidden_size, captions
    shapes = {name: tuple(value.shape) for name, value in on_meta(STDiT, config).items()}
    patch = (dim, config.in_channels, 1, config.patch_size, config.patch_size)
    shapes["x_embedder.proj.weight"] = patch
    shapes["x_embedder.proj.bias"] = shapes.pop("x_embedder.bias")
    del shapes["x_embedder.weight"]
    for kind in ("spatial", "temporal"):
        for i in range(config.depth):
            block = f"{kind}_blocks.{i}.cross_attn"
            for part, size in {"q_linear": dim, "kv_linear": 2 * dim, "proj": dim}.items():
                shapes |= {f"{block}.{part}.weight": (size, dim), f"{block}.{part}.bias": (size,)}
    shapes["y_embedder.y_embedding"] = (tokens, width)
    for part, size in {"fc1": width, "fc2": dim}.items():
        shapes[f"y_embedder.y_proj.{part}.weight"] = (dim, size)
        shapes[f"y_embedder.y_proj.{part}.bias"] = (dim,)
    frozen = {"rope.freqs": rotary_frequencies(dim // config.num_heads)}
    count = save_shards(folder, chain(random_tensors(shapes), frozen.items()))
    published = {
        "in_channels": config.in_channels,
        "hidden_size": dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_ratio,
        "patch_size": [1, config.patch_size, config.patch_size],
        "pred_sigma": config.pred_sigma,
        "qk_norm": True,
        "input_sq_size": 512,
    }
    (folder / "config.json").write_text(json.dumps(published, indent=1) + "\n")
    return count


def publish_vae(folder: Path, config: VAEConfig) -> int:
    """Write the VAE, bfloat16, in shards; how many numbers it has."""
    shapes = {
        name.replace("spatial_vae.", "spatial_vae.module."): tuple(value.shape)
        for name, value in on_meta(OpenSoraVAE, config).items()
    }
    constants = {
        name: torch.tensor(values).view(1, -1, 1, 1, 1)
        for name, values in {"shift": SHIFT, "scale": SCALE}.items()
    }
    return save_shards(folder, chain(random_tensors(shapes), constants.items()))


def on_meta(kind: Callable[..., nn.Module], config: object) -> dict[str, Tensor]:
    with torch.device("meta"):
        return kind(config).state_dict()


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Normal weights of standard deviation 0.02; norms are 1 and biases 0, as at a start."""
    for name, shape in shapes.items():
        if "norm" in name and name.endswith("weight"):
            yield name, torch.ones(shape, dtype=torch.bfloat16)
        elif name.endswith("bias"):
            yield name, torch.zeros(shape, dtype=torch.bfloat16)
        else:
            yield name, torch.randn(shape, dtype=torch.bfloat16) * 0.02


def save_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Write ``tensors`` in files of about SHARD_BYTES, and an index; how many numbers they are."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    count = 0

    def write() -> None:
        file = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        save_file(shard, folder / file)
        weight_map.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, tensor in tensors:
        shard[name] = tensor
        count += tensor.numel()
        if sum(t.nbytes for t in shard.values()) > SHARD_BYTES:
            write()
    write()
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return count
