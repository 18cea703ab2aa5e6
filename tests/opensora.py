"""The tiny Open-Sora networks whose outputs lie in tests/opensora_parity."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SMALL = {
    "image_size": 64,
    "stdit_config": {"input_size": 8, "window": 5},
    "conditioner_config": {"hidden_size": 32, "num_heads": 2, "num_layers": 1},
    "idm_config": {"in_channels": 4, "hidden_size": 32, "depth": 1, "num_heads": 2},
    "vae_config": None,
    "autoencoder_config": {"latent_channels": 4, "channels": (8, 8, 16)},
}
"""Settings of a world model on these weights, the rest of it small, too."""
FOLDER = Path(__file__).with_name("opensora_parity")
TENSORS = json.loads((FOLDER / "tensors.json").read_text())


def stdit3_weights() -> dict[str, Tensor]:
    """The state_dict of the STDiT3, float64, text parts included."""
    generator = torch.Generator().manual_seed(11)
    torch.rand(713_632, generator=generator)  # what its constructor drew, at 32 bits each
    weights = load_file(FOLDER / "stdit3_given.safetensors")
    for name, shape in TENSORS["stdit3"]:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            weights[name] = 0.9 / math.prod(shape[1:]) ** 0.5 * drawn
        else:
            weights[name] = 1 + 0.2 * drawn if name.endswith("norm.weight") else 0.1 * drawn
    return weights


def vae_temporal_weights() -> dict[str, Tensor]:
    """The state_dict of the VAE_Temporal: convolutions as PyTorch starts them, in the order of
    upstream's constructor; a null name is of biases that were drawn anew later."""
    generator = torch.Generator().manual_seed(3)
    weights = load_file(FOLDER / "vae_temporal_given.safetensors")
    for name, shape in TENSORS["vae_temporal"]:
        bound = 1 / math.prod(shape[1:]) ** 0.5
        drawn = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        if name:
            weights[name] = drawn
    return weights


def write_published(folder: Path) -> Path:
    """The STDiT3, text parts included, as a folder with config.json and one safetensors file."""
    (folder / "config.json").write_text(json.dumps(TENSORS["config"]))
    save_file(stdit3_weights(), folder / "model.safetensors")
    return folder
