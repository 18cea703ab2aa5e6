"""What a model is made of, from its config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import nn

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.autoencoder import Autoencoder, AutoencoderConfig
from cola_env.models.autoencoders.vae import OpenSoraVAE, VAEConfig
from cola_env.models.latent_action.adapter import Adapter, AdapterConfig
from cola_env.models.latent_action.fdm import FDMConfig, ForwardDynamicsModel
from cola_env.models.latent_action.idm import IDMConfig, InverseDynamicsModel
from cola_env.models.latent_action.quantizer import (
    GaussianBottleneck,
    QuantizerConfig,
    VectorQuantizer,
)
from cola_env.models.stdit import ActionConditioner, ActionConditionerConfig, STDiT, STDiTConfig

Builders = dict[str, Callable[[], nn.Module]]

COMPONENTS = (
    "autoencoder",
    "vae",
    "stdit",
    "conditioner",
    "action_in",
    "quantizer",
    "idm",
    "adapter",
    "fdm",
)
"""All that a model can have; no model has all of them."""

CONFIGS: dict[str, type] = {
    "autoencoder_config": AutoencoderConfig,
    "stdit_config": STDiTConfig,
    "conditioner_config": ActionConditionerConfig,
    "quantizer_config": QuantizerConfig,
    "idm_config": IDMConfig,
    "adapter_config": AdapterConfig,
    "fdm_config": FDMConfig,
    "vae_config": VAEConfig,
}
OPTIONAL = ("fdm_config", "vae_config")


def complete_configs(**given: dict[str, Any] | None) -> dict[str, dict[str, Any] | None]:
    """The components' configs with their defaults filled in; those of ``OPTIONAL`` can be None.

    Raises:
        ColaWorldError: settings that do not fit each other.
    """
    configs: dict[str, Any] = {
        name: None if settings is None and name in OPTIONAL else CONFIGS[name](**settings or {})
        for name, settings in given.items()
    }
    network, actions = configs["stdit_config"], configs["conditioner_config"]
    if actions.hidden_size // actions.num_heads != network.hidden_size // network.num_heads:
        raise ColaWorldError("stdit and conditioner must have the same size per attention head.")
    return {name: None if config is None else _as_saved(config) for name, config in configs.items()}


def _as_saved(config: Any) -> dict[str, Any]:
    """As it comes back from a file, which has lists for tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def component_builders(config: Any) -> Builders:
    """What makes each component of a ``ColaWorldModel``'s config, by name, in the order they are
    made."""
    network = STDiTConfig(**config.stdit_config)
    codes = QuantizerConfig(**config.quantizer_config)
    actions = ActionConditionerConfig(**config.conditioner_config)
    action_size = codes.num_tokens * codes.code_size
    builders: Builders = {}
    if config.vae_config is None:
        coder = AutoencoderConfig(**config.autoencoder_config)
        if coder.kind != "pixels":
            builders["autoencoder"] = partial(Autoencoder, coder)
        frames = 1
    else:
        vae = VAEConfig(**config.vae_config)
        builders["vae"] = partial(OpenSoraVAE, vae)
        frames = vae.frames_per_latent
    builders["stdit"] = partial(STDiT, network)
    builders["conditioner"] = partial(
        ActionConditioner, frames * action_size, sum(network.modulation_sizes), actions
    )
    if config.conditioning == "direct":
        return builders | {"action_in": partial(nn.Linear, config.action_dim, action_size)}
    return builders | _latent_actions(config, codes)


def _latent_actions(config: Any, codes: QuantizerConfig) -> Builders:
    inverse = IDMConfig(**config.idm_config)
    discrete = codes.kind == "codes"
    builders: Builders = {
        "quantizer": partial(VectorQuantizer if discrete else GaussianBottleneck, codes),
        "idm": partial(InverseDynamicsModel, inverse, codes.num_tokens, codes.code_size),
    }
    if discrete and config.action_dim > 0:
        mapping = AdapterConfig(**config.adapter_config)
        sizes = config.action_dim, codes.num_tokens, codes.num_codes
        builders["adapter"] = partial(Adapter, mapping, *sizes)
    if config.fdm_config is not None:
        forward = FDMConfig(**config.fdm_config)
        builders["fdm"] = partial(ForwardDynamicsModel, forward, codes.code_size)
    return builders
