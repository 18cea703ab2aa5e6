"""A latent action model and a video diffusion model as one trainable system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.action_conditioner import ActionConditioner, ActionConditionerConfig
from cola_env.models.adapter import Adapter, AdapterConfig
from cola_env.models.attention import KeyValue, SharedPast, TemporalContext, temporal_context
from cola_env.models.autoencoder import Autoencoder, AutoencoderConfig
from cola_env.models.components import component_builders
from cola_env.models.fdm import FDMConfig, ForwardDynamicsModel
from cola_env.models.idm import IDMConfig, InverseDynamicsModel
from cola_env.models.opensora import build_from_opensora
from cola_env.models.pictures import resized, unit_range
from cola_env.models.quantizer import Quantized, QuantizerConfig, VectorQuantizer
from cola_env.models.rectified_flow import shift_factor, velocity_to_clean
from cola_env.models.stdit import STDiT, STDiTConfig
from cola_env.models.vae import OpenSoraVAE, VAEConfig


class LatentActionDiffusion(ModelMixin, ConfigMixin):
    """Diffusion of videos under latent actions (CoLA-World, arXiv 2510.26433), as it is trained.

    ``ColaWorldModel`` adds what uses it: dreams, rollouts, predictions.

    Args:
        conditioning: "latent": latent actions of the IDM (the paper); "direct": real actions enter
            in their place (the reference model; it has no IDM, quantizer and adapter).
        action_dim: size A of a real action; 0: there are none, nor an adapter for them.
        image_size: side of the square frames in pixels.
        rendering: rendering profile of the frames it was trained on.
        num_inference_steps: default number of sampling steps.
        guidance_scale: default classifier-free guidance; 1 switches it off.
        timestep_shift: sample, and train, on noise levels that are shifted by the size and length
            of the clip, as Open-Sora does.
        autoencoder_config, ..., adapter_config: keyword arguments of the components' configs, e.g.
            ``stdit_config={"hidden_size": 192}``.
        fdm_config: of the forward dynamics model that the two-stage baseline trains its latent
            actions with; None for a model without one.
        vae_config: of Open-Sora's VAE, which then takes the place of the small autoencoder.

    Raises:
        ColaWorldError: settings that do not fit each other.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True
    _repeated_blocks = ["STDiTBlock", "TransformerBlock", "IDMBlock", "ResidualBlock"]

    autoencoder: Autoencoder
    vae: OpenSoraVAE
    stdit: STDiT
    conditioner: ActionConditioner
    action_in: nn.Linear
    quantizer: VectorQuantizer  # or a GaussianBottleneck, which has no codes
    idm: InverseDynamicsModel
    adapter: Adapter
    fdm: ForwardDynamicsModel

    @register_to_config
    def __init__(
        self,
        conditioning: str = "latent",
        action_dim: int = 5,
        image_size: int = 64,
        rendering: str = "vp2",
        num_inference_steps: int = 1,
        guidance_scale: float = 1.0,
        autoencoder_config: dict[str, Any] | None = None,
        stdit_config: dict[str, Any] | None = None,
        conditioner_config: dict[str, Any] | None = None,
        idm_config: dict[str, Any] | None = None,
        quantizer_config: dict[str, Any] | None = None,
        adapter_config: dict[str, Any] | None = None,
        fdm_config: dict[str, Any] | None = None,
        vae_config: dict[str, Any] | None = None,
        timestep_shift: bool = False,
    ) -> None:
        super().__init__()
        if conditioning not in ("latent", "direct"):
            raise ColaWorldError(
                f"conditioning must be 'latent' or 'direct', not {conditioning!r}."
            )
        network = STDiTConfig(**stdit_config or {})
        actions = ActionConditionerConfig(**conditioner_config or {})
        configs: dict[str, Any] = {
            "autoencoder_config": AutoencoderConfig(**autoencoder_config or {}),
            "stdit_config": network,
            "conditioner_config": actions,
            "quantizer_config": QuantizerConfig(**quantizer_config or {}),
            "idm_config": IDMConfig(**idm_config or {}),
            "adapter_config": AdapterConfig(**adapter_config or {}),
            "fdm_config": None if fdm_config is None else FDMConfig(**fdm_config),
            "vae_config": None if vae_config is None else VAEConfig(**vae_config),
        }
        self.register_to_config(
            **{name: None if config is None else asdict(config) for name, config in configs.items()}
        )
        self.window = network.window
        self.residual = network.residual
        self.head_dim = network.hidden_size // network.num_heads
        if actions.hidden_size // actions.num_heads != self.head_dim:
            raise ColaWorldError(
                "stdit and conditioner must have the same size per attention head."
            )
        for name, build in component_builders(self.config).items():
            self.add_module(name, build())

    @classmethod
    def from_opensora(
        cls,
        source: str | Path,
        vae: str | Path | None = None,
        *,
        torch_dtype: torch.dtype | None = None,
        **settings: Any,
    ) -> Self:
        """The paper's model on Open-Sora's published weights; what these lack starts fresh.

        Args:
            source: the network, e.g. "hpcai-tech/OpenSora-STDiT-v3": a hub id, or a folder with its
                config.json and weights (safetensors or .bin, sharded or not).
            vae: the VAE, e.g. "hpcai-tech/OpenSora-VAE-v1.2"; None: random weights.
            torch_dtype: of all parameters; None: as published, float32 for the fresh ones.
            settings: arguments of the class, where they differ from ``cola_env.models.sizes.PAPER``
                and from the published sizes of the network.

        Raises:
            ColaWorldError: no or damaged weights, or others than Open-Sora's; missing, unexpected
                and mismatched keys are named.
        """
        return build_from_opensora(cls, source, vae, torch_dtype, settings)

    @property
    def action_modes(self) -> tuple[str, ...]:
        """The kinds of actions that ``step`` takes; the first is the default."""
        if self.config.conditioning == "direct":
            return ("direct",)
        return ("real", "latent") if hasattr(self, "adapter") else ("latent",)

    @property
    def continuous(self) -> bool:
        """Whether latent actions are vectors, for which there are no codes."""
        return bool(self.config.quantizer_config["kind"] == "gaussian")

    def action_shape(self, mode: str) -> tuple[int, ...]:
        """Shape of one action in a mode: (A,), (tokens,) codes, or (tokens, code_size) vectors."""
        if mode != "latent":
            return (self.config.action_dim,)
        tokens, size = self.quantizer.config.num_tokens, self.quantizer.config.code_size
        return (tokens, size) if self.continuous else (tokens,)

    @property
    def frames_per_latent(self) -> int:
        """Frames that a latent stands for: 1, or 4 under the VAE's compression in time."""
        config = self.config.vae_config
        return 1 if config is None else VAEConfig(**config).frames_per_latent

    def noise_shift(self, frames: int) -> float:
        """The factor by which noise levels of clips of ``frames`` latents are shifted."""
        size = self.config.image_size
        return shift_factor(size, size, frames) if self.config.timestep_shift else 1.0

    # Frames and latents

    def encode(self, frames: Tensor) -> Tensor:
        """frames (..., S, S, 3), uint8 or float in [0, 1] -> latents (..., C, h, w) float32.

        Under compression in time (..., T, S, S, 3) -> (..., (T - 1) / 4 + 1, C, h, w).
        Raises ColaWorldError for frames of another shape or type, floats outside of [0, 1] or NaN.
        """
        frames = unit_range(frames)
        size = self.config.image_size
        if frames.shape[-2] != size:
            raise ColaWorldError(f"This model's frames are of {size} px, not {frames.shape[-2]}.")
        if self.frames_per_latent > 1:
            clips = frames.flatten(0, -5).movedim(-1, 1)
            latents = self.vae.encode_clip(clips).transpose(1, 2)
            return latents.unflatten(0, frames.shape[:-4])
        images = frames.flatten(0, -4).movedim(-1, 1)
        coder = self.autoencoder if self.config.vae_config is None else self.vae
        return coder.encode(images).float().unflatten(0, frames.shape[:-3])

    def decode(self, latents: Tensor) -> Tensor:
        """latents (..., C, h, w) -> frames (..., S, S, 3) float32 in [0, 1]."""
        if self.frames_per_latent > 1:
            clips = latents.flatten(0, -5).transpose(1, 2)
            frames = self.frames_per_latent * (clips.shape[2] - 1) + 1
            images = self.vae.decode_clip(clips, frames).clamp(0, 1)
            return images.movedim(1, -1).unflatten(0, latents.shape[:-4])
        coder = self.autoencoder if self.config.vae_config is None else self.vae
        at_once = 64 if latents.device.type == "cpu" else 4096  # as many as a CPU's caches hold
        parts = latents.flatten(0, -4).split(at_once)
        images = torch.cat([coder.decode(part).float().clamp(0, 1) for part in parts])
        return images.movedim(1, -1).unflatten(0, latents.shape[:-3])

    # Actions

    def infer_actions(self, frames: Tensor) -> Quantized:
        """Latent actions between the frames of a clip (IDM, then quantizer).

        frames (B, T, S, S, 3), uint8 or float in [0, 1] -> Quantized with vectors
        (B, T - 1, tokens, code_size) and codes (B, T - 1, tokens). Errors: see ``encode``.
        """
        return self.quantizer(self.action_tokens(frames, self.encode(frames)))

    def action_tokens(self, frames: Tensor, latents: Tensor) -> Tensor:
        """The IDM's continuous tokens (B, T - 1, tokens, code_size) of a clip."""
        if self.idm.config.space == "latents":
            return self.idm(latents)
        return self.idm(resized(frames, self.idm.config.input_size).movedim(-1, 2))

    def condition(
        self, actions: Tensor, latents: Tensor | None, mode: str
    ) -> tuple[Tensor, Tensor | None]:
        """What conditions the world model on the given actions.

        Args:
            actions: (B, A) in [-1, 1] for "real" and "direct"; for "latent" (B, tokens) codes, or
                (B, tokens, code_size) vectors where actions are continuous.
            latents: the frames that the actions start from (B, C, h, w), for an adapter that sees
                them.
            mode: one of ``action_modes``.

        Returns:
            Vectors (B, tokens * code_size) and codes (B, tokens), None for "direct".
        """
        if mode == "direct":
            return self.action_in(actions.float()), None
        if mode == "latent" and self.continuous:
            return actions.float().flatten(-2), actions.new_zeros(len(actions), 0).long()
        if mode == "latent":
            codes = actions.long()
            return self.quantizer.lookup(codes).flatten(-2), codes
        logits = self.adapter(actions.float(), latents)
        vectors = self.adapter.vectors(logits, self.quantizer.code_vectors)
        return vectors.flatten(-2), self.adapter.codes(logits)

    # Diffusion

    def velocity(
        self,
        noised: Tensor,
        t: Tensor,
        actions: Tensor,
        previous: Tensor,
        time: TemporalContext,
        past: Sequence[SharedPast] | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Velocity from noise to data of every frame, and their keys and values in time.

        Args:
            noised: latents (B, T, C, h, w) at noise levels ``t`` (B, T) in [0, 1].
            actions: vectors (B, T, tokens * code_size) that led to each frame; zero: no action.
            previous: clean latents of the frame before each frame (B, T, C, h, w).
            time, past: temporal context, and what each temporal layer attends to beside them.
        """
        layers = len(self.conditioner.blocks)
        modulation, action_cache = self.conditioner(actions, time, past[:layers] if past else None)
        out, frame_cache = self.stdit(
            noised,
            t,
            previous=previous,
            action_modulation=modulation,
            time=time,
            past=past[layers:] if past else None,
        )
        velocity = out[:, :, : noised.shape[2]].float()
        if self.residual:
            velocity = velocity_to_clean(previous + velocity, noised, t)
        return velocity, (*action_cache, *frame_cache)

    def predict_next(self, latents: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Teacher-forced prediction of every next frame of a clip, in one sampling step.

        Args:
            latents: clean frames (B, T, C, h, w); noise: of the same shape.
            actions: vectors (B, T - 1, tokens * code_size) between them.

        Returns:
            Latents (B, T - 1, C, h, w) of the frames 1 to T - 1.
        """
        level = torch.ones(latents.shape[:2], device=latents.device)
        level[:, 0] = 0
        noised = torch.cat([latents[:, :1], noise[:, 1:]], dim=1)
        previous = torch.cat([latents[:, :1], latents[:, :-1]], dim=1)
        actions = torch.cat([torch.zeros_like(actions[:, :1]), actions], dim=1)
        context = self.clip_context(latents.shape[1])
        velocity, _ = self.velocity(noised, level, actions, previous, context)
        return (noised + velocity)[:, 1:]

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """As of diffusers, with room for a graph for each length of past and future."""
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        super().compile_repeated_blocks(*args, **kwargs)

    def clip_context(self, frames: int) -> TemporalContext:
        """The temporal context of a fresh clip."""
        start = torch.zeros(1, dtype=torch.long, device=self.device)
        return temporal_context(frames, start, self.window, self.head_dim)
