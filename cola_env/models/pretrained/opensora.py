"""Open-Sora v1.2's published weights as the parts of our model.

Source: hpcaitech/Open-Sora tag v1.2.0; hpcai-tech/OpenSora-STDiT-v3, hpcai-tech/OpenSora-VAE-v1.2.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.vae import SCALE, SHIFT, OpenSoraVAE, VAEConfig
from cola_env.models.components import component_builders
from cola_env.models.pretrained.published_weights import (
    fill,
    find_published,
    read_json,
    read_tensors,
)
from cola_env.models.sizes import PAPER
from cola_env.models.stdit import STDiT, STDiTConfig, position_table
from cola_env.models.transformer import rotary_frequencies

Model = TypeVar("Model", bound=ModelMixin)
logger = logging.getLogger(__name__)

TEXT = re.compile(r"(^|\.)(cross_attn|y_embedder)\.")
ROTARY = "rope.freqs"
SIZES = ("in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio", "pred_sigma")


@dataclass(frozen=True)
class NetworkReport:
    """kept: published numbers that the network computes with, the rotary frequencies included;
    dropped: those of the text parts."""

    kept: int
    dropped: int

    def __str__(self) -> str:
        return f"{self.kept:,} parameters kept, {self.dropped:,} of the text parts dropped"


def network_settings(published: dict[str, Any], image_size: float) -> dict[str, Any]:
    """Settings of our network from the config.json of an STDiT3, for pictures of ``image_size``.

    Raises:
        ColaWorldError: a network that is built otherwise.
    """
    patch = list(published.get("patch_size", (1, 2, 2)))
    normal = published.get("qk_norm") and not published.get("qk_norm_legacy")
    if not normal or patch[0] != 1 or patch[1] != patch[2]:
        raise ColaWorldError(
            "Only STDiT3 networks with qk_norm and square patches of one frame can be loaded."
        )
    try:
        sizes = {name: published[name] for name in SIZES}
        scale = image_size / published["input_sq_size"]
        return sizes | {"position_scale": scale, "patch_size": patch[1]}
    except KeyError as error:
        raise ColaWorldError(
            f"The config.json of an STDiT3 names {error}, this one does not."
        ) from error


def load_network(
    source: str | Path,
    settings: dict[str, Any],
    image_size: float,
    dtype: torch.dtype | None = None,
) -> tuple[STDiT, NetworkReport]:
    """The published STDiT3 without its text parts, never twice in memory.

    Args:
        source: hub id, or a folder with config.json and the weights.
        settings: of ``STDiTConfig``, where the published ones say nothing (e.g. ``window``).
        image_size: side of the pictures in pixels, which sets the scale of the positions.
        dtype: of the parameters; None: as published.

    Raises:
        ColaWorldError: no or damaged weights, or others than of an STDiT3.
    """
    folder = find_published(source)
    published = network_settings(read_json(folder / "config.json"), image_size)
    config = STDiTConfig(**(settings | published))
    if config.residual or config.fps is None:
        raise ColaWorldError("An Open-Sora network needs stdit_config.residual=False and fps.")
    with torch.device("meta"):
        network = STDiT(config)
    grid = config.input_size // config.patch_size
    network.pos_embed = position_table(config, grid, grid)
    frozen: list[Tensor] = []
    dropped: list[int] = []

    def ours(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors:
            if TEXT.search(name):
                dropped.append(tensor.numel())
            elif name == ROTARY:
                frozen.append(tensor)
            elif name == "x_embedder.proj.weight":
                yield "x_embedder.weight", tensor.flatten(1)
            else:
                yield name.replace("x_embedder.proj.", "x_embedder."), tensor

    kept = fill(network, ours(read_tensors(folder)), dtype, str(source))
    expected = rotary_frequencies(config.hidden_size // config.num_heads)
    for frequencies in frozen:
        if not torch.allclose(frequencies.float(), expected, rtol=1e-2):
            raise ColaWorldError(f"{source} has other rotary frequencies than Open-Sora v1.2.")
    return network, NetworkReport(kept + sum(map(torch.numel, frozen)), sum(dropped))


def load_vae(
    source: str | Path, config: VAEConfig, dtype: torch.dtype | None = None
) -> OpenSoraVAE:
    """The published VAE, both parts (``spatial_vae.module.*``, ``temporal_vae.*``).

    Raises:
        ColaWorldError: no or damaged weights, or others than of this VAE.
    """
    with torch.device("meta"):
        vae = OpenSoraVAE(config)
    constants = {"shift": SHIFT, "scale": SCALE}

    def ours(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors:
            if name not in constants:
                yield name.replace("spatial_vae.module.", "spatial_vae."), tensor
            elif not torch.allclose(tensor.flatten().float(), torch.tensor(constants[name]), 1e-2):
                raise ColaWorldError(f"{source} has another {name} than Open-Sora v1.2.")

    fill(vae, ours(read_tensors(find_published(source))), dtype, str(source))
    return vae


def build_from_opensora(
    model_class: type[Model],
    source: str | Path,
    vae: str | Path | None,
    dtype: torch.dtype | None,
    settings: dict[str, Any],
) -> Model:
    """``ColaWorldModel.from_opensora``: the published parts are loaded, the others start fresh."""
    wanted = PAPER["stdit_config"] | settings.get("stdit_config", {})
    size: float = (PAPER | settings)["image_size"]
    network, report = load_network(source, wanted, size, dtype)
    logger.info("%s: %s", source, report)
    settings = PAPER | settings | {"stdit_config": asdict(network.config)}
    with torch.device("meta"):
        model = model_class(**settings)
    loaded: dict[str, nn.Module] = {"stdit": network}
    if vae is not None:
        loaded["vae"] = load_vae(vae, VAEConfig(**settings["vae_config"]), dtype)
    for name, build in component_builders(model.config).items():
        setattr(model, name, loaded[name] if name in loaded else build().to(dtype))
    return model
