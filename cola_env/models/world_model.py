"""CoLA-World: a video diffusion model under latent actions, which is trained and dreamt with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.inputs import (
    check_actions,
    check_codes,
    check_context,
    check_count,
    check_noise,
    check_number,
    check_range,
    check_seed,
    resized,
    to_bytes,
    unit_range,
)
from cola_env.models.autoencoders.autoencoder import Autoencoder, AutoencoderConfig, Pixels
from cola_env.models.autoencoders.vae import VAE_PIXELS, OpenSoraVAE, VAEConfig, group_actions
from cola_env.models.components import complete_configs, component_builders
from cola_env.models.dream_state import Candidates, DreamState
from cola_env.models.latent_action.adapter import Adapter
from cola_env.models.latent_action.fdm import ForwardDynamicsModel
from cola_env.models.latent_action.idm import InverseDynamicsModel
from cola_env.models.latent_action.quantizer import Quantized, VectorQuantizer
from cola_env.models.precision import inference
from cola_env.models.pretrained.opensora import build_from_opensora
from cola_env.models.rectified_flow import NoisedClip, shift_factor, velocity_to_clean
from cola_env.models.sampler import Sampler
from cola_env.models.stdit import ActionConditioner, STDiT, STDiTConfig
from cola_env.models.transformer import KeyValue, SharedPast, TemporalContext, temporal_context
from cola_env.processes import allow_compiled_graphs


class ColaWorldModel(ModelMixin, ConfigMixin):
    """The world model p(o_{t+1} | o_<=t, z_<=t) with its latent action model (arXiv 2510.26433).

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
        autoencoder_config: keyword arguments of the autoencoder's config, e.g.
            ``{"latent_channels": 8}``, or ``{"kind": "pixels"}`` for a model whose latents are the
            frames themselves; ``stdit_config`` to ``adapter_config`` are those of the
            other components.
        fdm_config: of the forward dynamics model that the two-stage baseline trains its latent
            actions with; None for a model without one.
        vae_config: of Open-Sora's VAE, which then takes the place of the small autoencoder.

    Raises:
        ColaWorldError: settings that do not fit each other.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True
    _repeated_blocks = [
        "STDiTBlock",
        "TransformerBlock",
        "IDMBlock",
        "ResidualBlock",
        "ModulatedBlock",
        "AdapterBlock",
    ]

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
        configs = complete_configs(
            autoencoder_config=autoencoder_config,
            stdit_config=stdit_config,
            conditioner_config=conditioner_config,
            quantizer_config=quantizer_config,
            idm_config=idm_config,
            adapter_config=adapter_config,
            fdm_config=fdm_config,
            vae_config=vae_config,
        )
        self.register_to_config(**configs)
        network = STDiTConfig(**self.config.stdit_config)
        coder = AutoencoderConfig(**self.config.autoencoder_config)
        side = VAE_PIXELS if vae_config is not None else coder.pixels_per_latent
        side *= network.patch_side
        if image_size % side:
            raise ColaWorldError(
                f"image_size={image_size} cannot be: it is a multiple of {side}, so that the "
                "latents of a frame make whole patches."
            )
        self.window = network.window
        self.residual = network.residual
        self.head_dim = network.hidden_size // network.num_heads
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

    @property
    def coder(self) -> Autoencoder | OpenSoraVAE | Pixels:
        """What makes latents of frames, and frames of latents."""
        if self.config.vae_config is not None:
            return self.vae
        return self.autoencoder if hasattr(self, "autoencoder") else Pixels()

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """As of diffusers, with room for a graph for each length of past and future."""
        allow_compiled_graphs(64)
        super().compile_repeated_blocks(*args, **kwargs)

    # Frames and latents

    def encode(self, frames: Tensor) -> Tensor:
        """frames (..., S, S, 3), uint8 or float in [0, 1] -> latents (..., C, h, w) float32.

        Under compression in time (..., T, S, S, 3) -> (..., (T - 1) / 4 + 1, C, h, w).
        Raises ColaWorldError for frames of another shape or type, floats outside of [0, 1] or NaN.
        """
        frames, size = unit_range(frames), self.config.image_size
        if frames.shape[-2] != size:
            raise ColaWorldError(f"This model's frames are of {size} px, not {frames.shape[-2]}.")
        if self.frames_per_latent > 1:
            clips = frames.flatten(0, -5).movedim(-1, 1)
            latents = self.vae.encode_clip(clips).transpose(1, 2)
            return latents.unflatten(0, frames.shape[:-4])
        images = frames.flatten(0, -4).movedim(-1, 1)
        return self.coder.encode(images).float().unflatten(0, frames.shape[:-3])

    def decode(self, latents: Tensor) -> Tensor:
        """latents (..., C, h, w) -> frames (..., S, S, 3) float32 in [0, 1]."""
        if self.frames_per_latent > 1:
            clips = latents.flatten(0, -5).transpose(1, 2)
            frames = self.frames_per_latent * (clips.shape[2] - 1) + 1
            images = self.vae.decode_clip(clips, frames).clamp(0, 1)
            return images.movedim(1, -1).unflatten(0, latents.shape[:-4])
        at_once = 64 if latents.device.type == "cpu" else 4096  # as many as a CPU's caches hold
        parts = latents.flatten(0, -4).split(at_once)
        images = torch.cat([self.coder.decode(part).float().clamp(0, 1) for part in parts])
        return images.movedim(1, -1).unflatten(0, latents.shape[:-3])

    # Actions

    def infer_actions(self, frames: Tensor) -> Quantized:
        """Latent actions between the frames of a video (IDM, then quantizer).

        Each is read off the frames up to it, but of no more than the window that training and
        dreams show.

        frames (B, T, S, S, 3), uint8 or float in [0, 1] -> Quantized with vectors
        (B, T - 1, tokens, code_size) and codes (B, T - 1, tokens). Errors: see ``encode``.
        """
        if frames.ndim != 5:
            raise ColaWorldError(
                f"Clips have the shape (B, T, S, S, 3), not {tuple(frames.shape)}."
            )
        seen = self._idm_input(frames, self.encode(frames))
        tokens = [self.idm(seen[:, : self.window])]
        for end in range(self.window + 1, seen.shape[1] + 1):
            tokens.append(self.idm(seen[:, end - self.window : end])[:, -1:])
        return self.quantizer(torch.cat(tokens, dim=1))

    def action_tokens(self, frames: Tensor, latents: Tensor) -> Tensor:
        """The IDM's continuous tokens (B, T - 1, tokens, code_size) of a clip."""
        found: Tensor = self.idm(self._idm_input(frames, latents))
        return found

    def _idm_input(self, frames: Tensor, latents: Tensor) -> Tensor:
        """(B, T, C, h, w) of pixels or latents."""
        if self.idm.config.space == "latents":
            return latents
        return resized(frames, self.idm.config.input_size).movedim(-1, 2)

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
        vectors = self.adapter.vectors(logits, self.quantizer.codebook)
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
            time: the temporal context.
            past: what each temporal layer attends to beside these frames.
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

    def clip_context(self, frames: int) -> TemporalContext:
        """The temporal context of a fresh clip."""
        return temporal_context(frames, self.window, self.head_dim, self.device)

    def noise_shift(self, frames: int) -> float:
        """The factor by which noise levels of clips of ``frames`` latents are shifted."""
        size = self.config.image_size
        return shift_factor(size, size, frames) if self.config.timestep_shift else 1.0

    def sampler(
        self,
        steps: int | None = None,
        guidance_scale: float | None = None,
        frames: int | None = None,
    ) -> Sampler[Self]:
        """As asked for, or else as the checkpoint says; ``frames``: latents of the clips that are
        sampled, by default as many as the window."""
        steps = self.config.num_inference_steps if steps is None else steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        return Sampler(
            self,
            check_count("num_inference_steps", steps),
            check_number("guidance_scale", scale, least=0),
            self.noise_shift(frames or self.window),
        )

    def predict_next(self, latents: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Teacher-forced prediction of every next frame of a clip, in one sampling step.

        Args:
            latents: clean frames (B, T, C, h, w); noise: of the same shape.
            actions: vectors (B, T - 1, tokens * code_size) between them.

        Returns:
            Latents (B, T - 1, C, h, w) of the frames 1 to T - 1.
        """
        return self.sampler(1, 1.0).next_frames(latents, actions, noise)

    # Dreams

    @inference
    def begin(self, frames: Tensor, actions: Tensor | None = None) -> DreamState:
        """Start B dreams from real context frames.

        Args:
            frames: (B, C, S, S, 3) uint8, C >= 1 observed frames; the dream goes on from the last.
            actions: real actions between them (B, C - 1, A), which a "direct" model needs; a latent
                model infers its own.

        Raises:
            ColaWorldError: frames of another shape or type, missing or misshapen actions.
        """
        check_context(frames, self.config.image_size)
        if self.frames_per_latent > 1:
            raise ColaWorldError(
                "A dream takes one action a step, but this model's latents stand for "
                f"{self.frames_per_latent} frames: use predict, or vae_config.micro_frame_size=1."
            )
        frames = frames.to(self.device)[:, -self.window :]
        latents = self.encode(frames)
        vectors, codes = self.context_actions(frames, latents, actions)
        return self._begin(latents, vectors, codes)

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
            ColaWorldError: actions or noise of another shape, codes that there are not, no sampling
                step, or an action mode that this model does not offer.
        """
        mode = self.mode(action_mode)
        self.check_actions(actions, mode, state.batch_size)
        sampler = self.sampler(num_inference_steps, guidance_scale)
        shape = state.latents.shape
        if isinstance(noise, Tensor):
            check_noise(noise, *shape)
        else:
            source = noise.device if noise is not None else self.device
            noise = torch.randn(shape, generator=noise, device=source)
        vectors, codes = self.condition(actions.to(self.device), state.latents, mode)
        candidates = Candidates.of(state, 1, 1, self.window, sampler.guided)
        latents = sampler.next_frame(candidates, 0, state.latents, vectors, noise.to(self.device))
        return DreamState(latents, candidates.caches(), state.seen + 1, codes)

    @inference
    def frames(self, state: DreamState) -> Tensor:
        """The current frames of B dreams, (B, S, S, 3) uint8."""
        return to_bytes(self.decode(state.latents))

    @inference
    def rollout(
        self,
        state: DreamState,
        actions: Tensor,
        *,
        action_mode: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        noise: Tensor | None = None,
        together: bool = False,
        decoded: bool = True,
    ) -> Tensor:
        """Imagine N candidate action sequences for each of B dreams.

        Args:
            state: B dreams, left as they are.
            actions: (B, N, H, A) real actions, or (B, N, H, tokens) codes.
            action_mode: one of ``action_modes``.
            seed: of the diffusion noise; None draws fresh noise.
            noise: in place of a seed, the noise itself (H, B, C, h, w). The N candidates of a dream
                share it (common random numbers).
            together: denoise all frames of the horizon at once, as Open-Sora and the paper do,
                and not frame after frame.
            decoded: False for the latents, which cost no decoder.

        Returns:
            Frames (B, N, H, S, S, 3) float32 in [0, 1], or latents (B, N, H, C, h, w) float32.

        Raises:
            ColaWorldError: actions or noise of another shape, codes that there are not, no sampling
                step, an action mode that this model does not offer, or ``together`` for one that
                has to see the clean frame before each frame.
        """
        mode = self.mode(action_mode)
        self.check_actions(actions, mode, state.batch_size, "N", "H")
        batch, samples, horizon = actions.shape[:3]
        actions = actions.to(self.device).flatten(0, 1)
        if noise is None:
            noise = self.draw_noise(seed, horizon, *state.latents.shape)
        check_noise(noise, horizon, *state.latents.shape)
        noise = noise.to(self.device).repeat_interleave(samples, dim=1)
        sampler = self.sampler(
            num_inference_steps, guidance_scale, state.cached + horizon if together else self.window
        )
        candidates = Candidates.of(state, samples, horizon, self.window, sampler.guided)
        if together:
            if self.sees_frames(mode):
                raise ColaWorldError(
                    "This model, or its adapter, sees the clean frame before each frame: "
                    "its rollouts go frame by frame, together=False."
                )
            vectors, noise = self._conditions(actions, mode), noise.transpose(0, 1)
            latents = sampler.denoise(candidates, 0, noise, vectors, previous=noise)
        else:
            current, imagined = state.latents.repeat_interleave(samples, dim=0), []
            for t in range(horizon):
                vectors, _ = self.condition(actions[:, t], current, mode)
                current = sampler.next_frame(candidates, t, current, vectors, noise[t])
                imagined.append(current)
            latents = torch.stack(imagined, dim=1)
        found = self.decode(latents) if decoded else latents
        return found.unflatten(0, (batch, samples))

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

        This is how Open-Sora and the paper sample, but that the context is computed once. A model
        or adapter that has to see the clean frame before each frame predicts frame by frame.

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
            ColaWorldError: frames or actions of another shape or type, codes that there are not, no
                sampling step, an action mode that this model does not offer; and under compression
                in time other than 4k + 1 <= 33 frames in all, or a model that has to see the clean
                frame before each frame.
        """
        check_context(frames, self.config.image_size)
        mode = self.mode(action_mode)
        self.check_actions(actions, mode, len(frames), "H")
        if self.frames_per_latent == 1:
            return self.rollout(
                self.begin(frames, context_actions),
                actions[:, None],
                action_mode=mode,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                seed=seed,
                together=not self.sees_frames(mode),
            )[:, 0]
        if self.sees_frames(mode):
            raise ColaWorldError(
                "This model, or its adapter, sees the clean frame before each frame, which there "
                "is not under compression in time: it needs vae_config.micro_frame_size=1."
            )
        self.vae.check_length(frames.shape[1] + actions.shape[1])
        frames = frames.to(self.device)
        clean = self.encode(frames)
        before, _ = self.context_actions(frames, clean, context_actions)
        vectors = torch.cat([before, self._conditions(actions.to(self.device), mode)], dim=1)
        vectors, known = group_actions(vectors, self.frames_per_latent), clean.shape[1]
        state = self._begin(clean, vectors[:, : known - 1], None)
        vectors = vectors[:, known - 1 :]
        noise = self.draw_noise(seed, *vectors.shape[:2], *clean.shape[2:])
        sampler = self.sampler(num_inference_steps, guidance_scale, known + noise.shape[1])
        candidates = Candidates.of(state, 1, noise.shape[1], self.window, sampler.guided)
        latents = sampler.denoise(candidates, 0, noise, vectors, previous=noise)
        return self.decode(torch.cat([clean, latents], dim=1))[:, frames.shape[1] :]

    def sees_frames(self, mode: str) -> bool:
        """Whether a frame needs the clean frame before it."""
        return self.residual or (mode == "real" and self.adapter.config.frame)

    # What they share

    def _begin(self, latents: Tensor, vectors: Tensor, codes: Tensor | None) -> DreamState:
        """From latents (B, C, c, h, w), vectors (B, C - 1, D) and codes of the actions between."""
        batch, length = latents.shape[:2]
        clean = torch.zeros(batch, length, device=self.device)
        clip, time = NoisedClip.of(latents, latents, clean, vectors), self.clip_context(length)
        _, cache = self.velocity(clip.latents, clip.t, clip.actions, clip.previous, time)
        cache = tuple(kv.between(length + 1 - self.window, length) for kv in cache)
        seen = torch.full((batch,), length, device=self.device)
        return DreamState(latents[:, -1], cache, seen, None if codes is None else codes[:, -1])

    def context_actions(
        self, frames: Tensor, latents: Tensor, actions: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors (B, C - 1, tokens * code_size) and codes of the actions between C frames."""
        between = frames.shape[1] - 1
        if not between:
            size = self.conditioner.embed.in_features // self.frames_per_latent
            return torch.zeros(len(frames), 0, size, device=self.device), None
        if self.config.conditioning == "latent":
            quantized = self.quantizer(self.action_tokens(frames, latents))
            return quantized.vectors.flatten(-2), quantized.codes
        if actions is None or actions.shape[1] < between:
            raise ColaWorldError(
                f"A model conditioned on real actions needs the {between} actions between "
                f"its {between + 1} context frames: pass actions of shape (B, {between}, A)."
            )
        self.check_actions(actions, "direct", len(frames), "C - 1")
        return self.action_in(actions.to(self.device)[:, -between:].float()), None

    def _conditions(self, actions: Tensor, mode: str) -> Tensor:
        """actions (B, H, ...) -> vectors (B, H, tokens * code_size), without seeing the frames."""
        vectors, _ = self.condition(actions.flatten(0, 1), None, mode)
        return vectors.unflatten(0, actions.shape[:2])

    def draw_noise(self, seed: int | None, *shape: int) -> Tensor:
        """Standard normal noise of this shape, on the model's device; ``seed`` None: never twice
        the same. Raises ColaWorldError for what is no seed."""
        generator = None
        if seed is not None:
            generator = torch.Generator(self.device).manual_seed(check_seed(seed))
        return torch.randn(shape, generator=generator, device=self.device)

    def mode(self, action_mode: str | None) -> str:
        """The action mode that ``action_mode`` asks for, None being the model's own. Raises
        ColaWorldError for one that it does not offer."""
        mode = action_mode or self.action_modes[0]
        if mode not in self.action_modes:
            raise ColaWorldError(
                f"This checkpoint takes action_mode {' or '.join(map(repr, self.action_modes))}, "
                f"not {mode!r}."
            )
        return mode

    def check_actions(self, actions: Tensor, mode: str, *leading: int | str) -> None:
        """Raises ColaWorldError unless actions have the shape (*leading, *action_shape(mode)) and
        are codes of the codebook, finite vectors, or real actions in [-1, 1]."""
        latent = mode == "latent"
        check_actions(actions.shape, leading, self.action_shape(mode), latent)
        if latent and not self.continuous:
            num_codes = self.quantizer.config.num_codes
            check_codes(actions, torch.tensor([num_codes], device=actions.device))
        else:
            check_range(actions, math.inf if latent else 1)
