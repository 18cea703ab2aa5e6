"""The tiny Open-Sora networks whose outputs lie in tests/opensora_parity."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

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
