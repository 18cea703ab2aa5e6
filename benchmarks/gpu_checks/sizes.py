"""How large the check is: with the real models on a GPU, or with tiny ones on any machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cola_env.models.loading import load_model
from cola_env.models.sizes import PAPER
from cola_env.models.world_model import ColaWorldModel

TINY_MINI: dict[str, Any] = {
    "stdit_config": {"hidden_size": 32, "depth": 1, "num_heads": 2, "window": 4},
    "conditioner_config": {"hidden_size": 32, "num_heads": 2},
    "autoencoder_config": {"channels": (8, 8, 16)},
    "idm_config": {"hidden_size": 32, "depth": 1, "num_heads": 2},
    "adapter_config": {"hidden_size": 16},
}
"""The mini model's classes, with few weights."""

TINY_PAPER: dict[str, Any] = PAPER | {
    "image_size": 32,
    "num_inference_steps": 2,
    "vae_config": {
        "spatial": {
            "block_out_channels": (4, 4, 4, 4),
            "layers_per_block": 1,
            "norm_num_groups": 2,
        },
        "temporal": {"filters": 4, "num_res_blocks": 1, "num_groups": 2},
    },
    "stdit_config": PAPER["stdit_config"]
    | {"input_size": 4, "hidden_size": 32, "depth": 2, "num_heads": 2},
    "conditioner_config": {"hidden_size": 32, "num_layers": 1, "num_heads": 2},
    "idm_config": PAPER["idm_config"]
    | {"input_size": 28, "hidden_size": 32, "depth": 1, "num_heads": 2},
    "adapter_config": PAPER["adapter_config"] | {"hidden_size": 16},
}
"""Every switch of the paper's model, with few weights."""


@dataclass(frozen=True)
class Sizes:
    """What is measured at which size.

    Attributes:
        mini: settings of the mini model; None: the shipped one.
        paper: settings of the paper's model.
        matmul: side of the matrices whose product tells the peak.
        candidates: of a rollout of ``horizon`` frames, each under every number of sampling
            ``steps``.
        worlds: side by side in a dream.
        clips: in the batch of a training step of the mini model.
        frames: of a clip, and predicted by the paper's model.
        paper_candidates, paper_horizon: of a decision of VP2 with the paper's model.
        problems: that are planned for together.
    """

    mini: dict[str, Any] | None
    paper: dict[str, Any]
    matmul: int
    candidates: tuple[int, ...]
    horizon: int
    steps: tuple[int, ...]
    worlds: tuple[int, ...]
    clips: tuple[int, ...]
    frames: int
    paper_candidates: int
    paper_horizon: int
    problems: tuple[int, ...]


FULL = Sizes(
    mini=None,
    paper=PAPER,
    matmul=8192,
    candidates=(64, 256, 1024, 4096),
    horizon=10,
    steps=(1, 4, 10),
    worlds=(1, 4, 16, 64, 256, 1024),
    clips=(32, 128, 512),
    frames=8,
    paper_candidates=200,
    paper_horizon=10,
    problems=(1, 5, 30),
)
TINY = Sizes(
    mini=TINY_MINI,
    paper=TINY_PAPER,
    matmul=128,
    candidates=(2, 4),
    horizon=2,
    steps=(1, 2),
    worlds=(1, 2),
    clips=(2,),
    frames=4,
    paper_candidates=2,
    paper_horizon=2,
    problems=(1,),
)


def one_shape(sizes: Sizes) -> Sizes:
    """With one rollout and one batch of the mini model, as every other shape is compiled anew."""
    return replace(
        sizes,
        candidates=sizes.candidates[-1:],
        steps=sizes.steps[:1],
        clips=sizes.clips[-1:],
    )


def mini_model(sizes: Sizes, device: torch.device) -> ColaWorldModel:
    """The shipped mini model, or one of random weights."""
    if sizes.mini is None:
        return load_model(device=device)
    return random_model(sizes.mini, device)


def paper_model(sizes: Sizes, device: torch.device) -> ColaWorldModel:
    """The paper's model in bfloat16, of random weights, on which no duration depends."""
    return nn.Module.to(random_model(sizes.paper, device), torch.bfloat16)


def random_model(settings: dict[str, Any], device: torch.device) -> ColaWorldModel:
    torch.manual_seed(0)
    with device:
        model = ColaWorldModel(**settings)
    return model.eval().requires_grad_(False).to(device)
