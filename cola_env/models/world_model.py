"""CoLA-World: a latent action model and a video diffusion model as one trainable system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cola_env.errors import ColaWorldError
from cola_env.models.action_conditioner import ActionConditioner, ActionConditionerConfig
from cola_env.models.adapter import Adapter, AdapterConfig
from cola_env.models.attention import KeyValue, TemporalContext, temporal_context
from cola_env.models.autoencoder import Autoencoder, AutoencoderConfig
from cola_env.models.bottleneck import GaussianBottleneck
from cola_env.models.clip_prediction import predict_clip
from cola_env.models.dream_state import DreamState
from cola_env.models.fdm import FDMConfig, ForwardDynamicsModel
from cola_env.models.idm import IDMConfig, InverseDynamicsModel
from cola_env.models.opensora import build_from_opensora
from cola_env.models.precision import inference
from cola_env.models.quantizer import Quantized, QuantizerConfig, VectorQuantizer
from cola_env.models.rectified_flow import euler_scheduler, shift_factor, velocity_to_clean
from cola_env.models.stdit import STDiT, STDiTConfig
from cola_env.models.vae import OpenSoraVAE, VAEConfig


class ColaWorldModel(ModelMixin, ConfigMixin):
    """The world model p(o_{t+1} | o_<=t, z_<=t) with its latent action model (arXiv 2510.26433).

    Args:
        conditioning: "latent": latent actions of the IDM (the paper); "direct": real actions enter
            in their place (the reference model; it has no IDM, quantizer and adapter).
        action_dim: size A of a real action.
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
    _repeated_blocks = ["STDiTBlock", "TransformerBlock", "IDMBlock"]

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
        for name, build in self.parts().items():
            self.add_module(name, build())

    def parts(self) -> dict[str, Callable[[], nn.Module]]:
        """What makes each component of the config, by name, in the order they are made."""
        config = self.config
        network = STDiTConfig(**config.stdit_config)
        codes = QuantizerConfig(**config.quantizer_config)
        actions = ActionConditionerConfig(**config.conditioner_config)
        action_size = codes.num_tokens * codes.code_size
        frames = self.frames_per_latent
        parts: dict[str, Callable[[], nn.Module]] = {}
        if config.vae_config is None:
            coder = AutoencoderConfig(**config.autoencoder_config)
            parts["autoencoder"] = partial(Autoencoder, coder)
        else:
            parts["vae"] = partial(OpenSoraVAE, VAEConfig(**config.vae_config))
        parts["stdit"] = partial(STDiT, network)
        parts["conditioner"] = partial(
            ActionConditioner, frames * action_size, network.hidden_size, actions
        )
        if config.conditioning == "direct":
            return parts | {"action_in": partial(nn.Linear, config.action_dim, action_size)}
        inverse = IDMConfig(**config.idm_config)
        if codes.kind == "codes":
            parts["quantizer"] = partial(VectorQuantizer, codes)
        else:
            parts["quantizer"] = partial(GaussianBottleneck, codes)
        parts["idm"] = partial(InverseDynamicsModel, inverse, codes.num_tokens, codes.code_size)
        if codes.kind == "codes":
            mapping = AdapterConfig(**config.adapter_config)
            sizes = config.action_dim, codes.num_tokens, codes.num_codes
            parts["adapter"] = partial(Adapter, mapping, *sizes)
        if config.fdm_config is not None:
            forward = FDMConfig(**config.fdm_config)
            parts["fdm"] = partial(ForwardDynamicsModel, forward, codes.code_size)
        return parts

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
        """
        if frames.dtype == torch.uint8:
            frames = frames.float() / 255
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
        images = torch.cat([coder.decode(part).float() for part in parts])
        return images.clamp(0, 1).movedim(1, -1).unflatten(0, latents.shape[:-3])

    # Actions

    def infer_actions(self, frames: Tensor) -> Quantized:
        """Latent actions between the frames of a clip (IDM, then quantizer).

        frames (B, T, S, S, 3), uint8 or float in [0, 1] -> Quantized with vectors
        (B, T - 1, tokens, code_size) and codes (B, T - 1, tokens).
        """
        return self.quantizer(self.action_tokens(frames, self.encode(frames)))

    def action_tokens(self, frames: Tensor, latents: Tensor) -> Tensor:
        """The IDM's continuous tokens (B, T - 1, tokens, code_size) of a clip."""
        if self.idm.config.space == "latents":
            return self.idm(latents)
        return self.idm(self.idm_frames(frames))

    def idm_frames(self, frames: Tensor) -> Tensor:
        """frames (B, T, S, S, 3) -> (B, T, 3, s, s) in [0, 1], at the size that the IDM takes."""
        clip = frames.movedim(-1, 2).float() / (255 if frames.dtype == torch.uint8 else 1)
        size = self.idm.config.input_size
        if clip.shape[-1] == size:
            return clip
        images = interpolate(clip.flatten(0, 1), (size, size), mode="bilinear", antialias=True)
        return images.unflatten(0, clip.shape[:2])

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
        if mode == "latent" and self.config.quantizer_config["kind"] == "gaussian":
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
        past: Sequence[KeyValue] | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Velocity from noise to data of every frame, and the caches of all temporal layers.

        Args:
            noised: latents (B, T, C, h, w) at noise levels ``t`` (B, T) in [0, 1].
            actions: vectors (B, T, tokens * code_size) that led to each frame; zero: no action.
            previous: clean latents of the frame before each frame (B, T, C, h, w).
            time, past: temporal context and the caches of the frames before.
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

    def clip_context(self, frames: int) -> TemporalContext:
        """The temporal context of a fresh clip."""
        start = torch.zeros(1, dtype=torch.long, device=self.device)
        return temporal_context(frames, start, 0, self.window, self.head_dim)

    # Dreams

    @inference
    def begin(self, frames: Tensor, actions: Tensor | None = None) -> DreamState:
        """Start B dreams from real context frames.

        Args:
            frames: (B, C, S, S, 3) uint8, C >= 1 observed frames; the dream goes on from the last.
            actions: real actions between them (B, C - 1, A), which a "direct" model needs; a latent
                model infers its own.

        Raises:
            ColaWorldError: frames of another shape, or missing actions.
        """
        self._check_frames(frames)
        if self.frames_per_latent > 1:
            raise ColaWorldError(
                "A dream takes one action a step, but this model's latents stand for "
                f"{self.frames_per_latent} frames: use predict, or vae_config.micro_frame_size=1."
            )
        frames = frames.to(self.device)[:, -self.window :]
        latents = self.encode(frames)
        batch, length = latents.shape[:2]
        vectors = torch.zeros(batch, length, self.conditioner.embed.in_features, device=self.device)
        codes = None
        if length > 1:
            vectors[:, 1:], inferred = self._context_actions(frames, latents, actions)
            codes = None if inferred is None else inferred[:, -1]
        clean = torch.zeros(batch, length, device=self.device)
        previous = torch.cat([latents[:, :1], latents[:, :-1]], dim=1)
        _, cache = self.velocity(latents, clean, vectors, previous, self.clip_context(length))
        seen = torch.full((batch,), length, device=self.device)
        return DreamState(latents[:, -1], self._keep(cache), seen, codes)

    def _check_frames(self, frames: Tensor) -> None:
        size = self.config.image_size
        if frames.ndim != 5 or tuple(frames.shape[2:]) != (size, size, 3):
            raise ColaWorldError(
                f"A model takes frames of shape (B, C, {size}, {size}, 3), "
                f"not {tuple(frames.shape)}."
            )

    def _context_actions(
        self, frames: Tensor, latents: Tensor, actions: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors (B, C - 1, tokens * code_size) and codes of the actions between C > 1 frames."""
        between = frames.shape[1] - 1
        if self.config.conditioning == "latent":
            quantized = self.quantizer(self.action_tokens(frames, latents))
            return quantized.vectors.flatten(-2), quantized.codes
        if actions is None or actions.shape[1] < between:
            raise ColaWorldError(
                f"A model conditioned on real actions needs the {between} actions between "
                f"its {between + 1} context frames: pass actions of shape (B, {between}, A)."
            )
        return self.action_in(actions.to(self.device)[:, -between:].float()), None

    @inference
    def step(
        self,
        state: DreamState,
        actions: Tensor,
        *,
        action_mode: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        noise: Tensor | torch.Generator | None = None,
    ) -> DreamState:
        """Predict the next frame of every dream.

        What later frames attend to is the clean new frame. A ``residual`` model needs no further
        evaluation for that: the clean frames reach it as ``previous``.

        Args:
            state: B dreams; left as it is.
            actions: (B, A) real actions in [-1, 1], or (B, tokens) latent action codes.
            action_mode: one of ``action_modes``.
            noise: starting noise (B, C, h, w), or the generator to draw it from.

        Raises:
            ColaWorldError: this model does not offer ``action_mode``.
        """
        mode = self._mode(action_mode)
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        if not isinstance(noise, Tensor):
            shape = state.latents.shape
            source = noise.device if noise is not None else self.device
            noise = torch.randn(shape, generator=noise, device=source)
        vectors, codes = self.condition(actions.to(self.device), state.latents, mode)
        guided = scale != 1.0
        vectors, previous = vectors[:, None], state.latents[:, None]
        past, seen = state.cache, state.seen
        if guided:
            vectors = torch.cat([vectors, torch.zeros_like(vectors)])
            previous, seen = previous.repeat(2, 1, 1, 1, 1), seen.repeat(2)
            past = tuple(kv.map(lambda x: x.repeat(2, 1, 1, 1, 1)) for kv in past)
        time = temporal_context(1, seen, state.cached, self.window, self.head_dim)
        latents = noise.to(self.device)[:, None]
        steps = num_inference_steps or self.config.num_inference_steps
        scheduler = euler_scheduler(steps, self.noise_shift(self.window))
        for timestep in scheduler.timesteps:
            noised = latents.repeat(2, 1, 1, 1, 1) if guided else latents
            level = torch.full((len(noised), 1), float(timestep) / 1000, device=self.device)
            velocity, cache = self.velocity(noised, level, vectors, previous, time, past)
            if guided:
                with_action, without = velocity.chunk(2)
                velocity = without + scale * (with_action - without)
            latents = scheduler.step(-velocity, timestep, latents, return_dict=False)[0]
        batch = state.batch_size
        if guided:
            cache = tuple(kv.map(lambda x: x[:batch]) for kv in cache)
        if not self.residual:
            clean = torch.zeros(batch, 1, device=self.device)
            time = temporal_context(1, state.seen, state.cached, self.window, self.head_dim)
            conditions = (vectors[:batch], previous[:batch], time, state.cache)
            _, cache = self.velocity(latents, clean, *conditions)
        return DreamState(latents[:, 0], self._keep(cache), state.seen + 1, codes)

    def _mode(self, action_mode: str | None) -> str:
        mode = action_mode or self.action_modes[0]
        if mode not in self.action_modes:
            raise ColaWorldError(
                f"This checkpoint takes action_mode {' or '.join(map(repr, self.action_modes))}, "
                f"not {mode!r}."
            )
        return mode

    def _keep(self, cache: Sequence[KeyValue]) -> tuple[KeyValue, ...]:
        return tuple(kv.last(self.window - 1) for kv in cache)

    @inference
    def frames(self, state: DreamState) -> Tensor:
        """The current frames of B dreams, (B, S, S, 3) uint8."""
        return (self.decode(state.latents) * 255).round().to(torch.uint8)

    @inference
    def rollout(
        self, state: DreamState, actions: Tensor, *, seed: int | None = None, **step: Any
    ) -> Tensor:
        """Imagine N candidate action sequences for each of B dreams.

        Args:
            state: B dreams, left as they are.
            actions: (B, N, H, A) real actions, or (B, N, H, tokens) codes.
            seed: of the diffusion noise, which is shared by the N candidates of a dream (common
                random numbers); None draws fresh noise.
            step: further arguments of ``step``.

        Returns:
            Frames (B, N, H, S, S, 3) float32 in [0, 1].

        Raises:
            ColaWorldError: actions of another shape.
        """
        if actions.ndim != 4 or actions.shape[0] != state.batch_size:
            raise ColaWorldError(
                f"rollout of {state.batch_size} dreams takes actions of shape "
                f"({state.batch_size}, N, H, A), not {tuple(actions.shape)}."
            )
        batch, samples, horizon = actions.shape[:3]
        generator = None
        if seed is not None:
            generator = torch.Generator(self.device).manual_seed(seed)
        state = state.repeat(samples)
        latents = []
        for t in range(horizon):
            shape = (batch, *state.latents.shape[1:])
            noise = torch.randn(shape, generator=generator, device=self.device)
            noise = noise.repeat_interleave(samples, dim=0)
            state = self.step(state, actions[:, :, t].flatten(0, 1), noise=noise, **step)
            latents.append(state.latents)
        return self.decode(torch.stack(latents, dim=1)).unflatten(0, (batch, samples))

    @inference
    def predict(
        self,
        frames: Tensor,
        actions: Tensor,
        *,
        context_actions: Tensor | None = None,
        action_mode: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The frames that follow the context under the given actions, denoised all together.

        This is how Open-Sora and the paper sample. A model or adapter that has to see the clean
        frame before each frame predicts frame by frame, as ``rollout`` does.

        Args:
            frames: context (B, C, S, S, 3) uint8.
            actions: (B, H, A) real actions, or (B, H, tokens) codes.
            context_actions: real actions within the context (B, C - 1, A), which a "direct" model
                needs; a latent model infers its own.
            action_mode: one of ``action_modes``.
            seed: of the noise; None draws fresh noise.

        Returns:
            Frames (B, H, S, S, 3) float32 in [0, 1].

        Raises:
            ColaWorldError: frames or actions of another shape, or an action mode that this model
                does not offer.
        """
        self._check_frames(frames)
        mode, shape = self._mode(action_mode), actions.shape[:2]
        if actions.ndim < 3 or len(actions) != len(frames):
            raise ColaWorldError(
                f"predict of {len(frames)} clips takes actions of shape ({len(frames)}, H, A), "
                f"not {tuple(actions.shape)}."
            )
        frames, actions = frames.to(self.device), actions.to(self.device)
        steps = num_inference_steps or self.config.num_inference_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        if self.residual or (mode == "real" and self.adapter.config.frame):
            settings = {"num_inference_steps": steps, "guidance_scale": scale, "action_mode": mode}
            state = self.begin(frames, context_actions)
            return self.rollout(state, actions[:, None], seed=seed, **settings)[:, 0]
        clean = self.encode(frames)
        vectors = self.condition(actions.flatten(0, 1), None, mode)[0].unflatten(0, shape)
        if frames.shape[1] > 1:
            before, _ = self._context_actions(frames, clean, context_actions)
            vectors = torch.cat([before, vectors], dim=1)
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        latents = predict_clip(self, clean, vectors, steps, scale, generator)
        return self.decode(latents)[:, frames.shape[1] :]
