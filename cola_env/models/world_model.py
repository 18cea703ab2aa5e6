"""CoLA-World: what the model imagines from real frames on, frame by frame or in whole clips."""

from __future__ import annotations

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.inputs import check_count, check_number
from cola_env.models.candidates import Candidates
from cola_env.models.checks import check_frames, check_moves, check_noise
from cola_env.models.denoising import Sampling, denoise, keep
from cola_env.models.dream_state import DreamState
from cola_env.models.latent_action_diffusion import LatentActionDiffusion
from cola_env.models.pictures import to_bytes
from cola_env.models.precision import inference
from cola_env.models.vae import group_actions


class ColaWorldModel(LatentActionDiffusion):
    """The world model p(o_{t+1} | o_<=t, z_<=t) with its latent action model (arXiv 2510.26433).

    Arguments, components and ``from_opensora`` are those of ``LatentActionDiffusion``.
    """

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
        check_frames(self, frames)
        if self.frames_per_latent > 1:
            raise ColaWorldError(
                "A dream takes one action a step, but this model's latents stand for "
                f"{self.frames_per_latent} frames: use predict, or vae_config.micro_frame_size=1."
            )
        frames = frames.to(self.device)[:, -self.window :]
        latents = self.encode(frames)
        vectors, codes = self.context_actions(frames, latents, actions)
        return self._begin(latents, vectors, codes)

    def _begin(self, latents: Tensor, vectors: Tensor, codes: Tensor | None) -> DreamState:
        """From latents (B, C, c, h, w), vectors (B, C - 1, D) and codes of the actions between."""
        batch, length = latents.shape[:2]
        vectors = torch.cat([vectors.new_zeros(batch, 1, vectors.shape[2]), vectors], dim=1)
        clean = torch.zeros(batch, length, device=self.device)
        previous = torch.cat([latents[:, :1], latents[:, :-1]], dim=1)
        _, cache = self.velocity(latents, clean, vectors, previous, self.clip_context(length))
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
        check_moves(self, actions, "direct", len(frames), "C - 1")
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
            ColaWorldError: actions or noise of another shape, codes that there are not, no sampling
                step, or an action mode that this model does not offer.
        """
        mode = self._mode(action_mode)
        check_moves(self, actions, mode, state.batch_size)
        sampling = self._sampling(num_inference_steps, guidance_scale, self.window)
        shape = state.latents.shape
        if isinstance(noise, Tensor):
            check_noise(noise, *shape)
        else:
            source = noise.device if noise is not None else self.device
            noise = torch.randn(shape, generator=noise, device=source)
        vectors, codes = self.condition(actions.to(self.device), state.latents, mode)
        candidates = Candidates.of(state, 1, 1, self.window, sampling.guided)
        latents = self._next(candidates, 0, state.latents, vectors, noise.to(self.device), sampling)
        if sampling.guided:
            candidates = candidates.led()
        cache = candidates.caches(self.window - 1)
        return DreamState(latents, cache, state.seen + 1, codes)

    def _next(
        self,
        candidates: Candidates,
        frame: int,
        latents: Tensor,
        vectors: Tensor,
        noise: Tensor,
        sampling: Sampling,
    ) -> Tensor:
        """Latents (R, C, h, w) of ``frame`` of the horizon, after ``latents``; later see it."""
        given = (latents[:, None], vectors[:, None])
        found = denoise(self, candidates, frame, noise[:, None], *given, sampling)
        keep(self, candidates, frame, found, *given, sampling)
        return found[:, 0]

    def _sampling(self, steps: int | None, scale: float | None, frames: int) -> Sampling:
        """As asked for, or else as the checkpoint says, for clips of ``frames`` latents."""
        steps = self.config.num_inference_steps if steps is None else steps
        scale = self.config.guidance_scale if scale is None else scale
        return Sampling(
            check_count("num_inference_steps", steps),
            check_number("guidance_scale", scale, least=0),
            self.noise_shift(frames),
        )

    def _mode(self, action_mode: str | None) -> str:
        mode = action_mode or self.action_modes[0]
        if mode not in self.action_modes:
            raise ColaWorldError(
                f"This checkpoint takes action_mode {' or '.join(map(repr, self.action_modes))}, "
                f"not {mode!r}."
            )
        return mode

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
        mode = self._mode(action_mode)
        check_moves(self, actions, mode, state.batch_size, "N", "H")
        batch, samples, horizon = actions.shape[:3]
        actions = actions.to(self.device).flatten(0, 1)
        if noise is None:
            noise = self._noise(seed, horizon, *state.latents.shape)
        check_noise(noise, horizon, *state.latents.shape)
        noise = noise.to(self.device).repeat_interleave(samples, dim=1)
        frames = state.cached + horizon if together else self.window
        sampling = self._sampling(num_inference_steps, guidance_scale, frames)
        candidates = Candidates.of(state, samples, horizon, self.window, sampling.guided)
        if together:
            if self.sees_frames(mode):
                raise ColaWorldError(
                    "This model, or its adapter, sees the clean frame before each frame: "
                    "its rollouts go frame by frame, together=False."
                )
            vectors, noise = self._conditions(actions, mode), noise.transpose(0, 1)
            latents = denoise(self, candidates, 0, noise, noise, vectors, sampling)
        else:
            latents = self._one_by_one(candidates, state, actions, noise, mode, sampling)
        found = self.decode(latents) if decoded else latents
        return found.unflatten(0, (batch, samples))

    def _one_by_one(
        self,
        candidates: Candidates,
        state: DreamState,
        actions: Tensor,
        noise: Tensor,
        mode: str,
        sampling: Sampling,
    ) -> Tensor:
        """Latents (R, H, C, h, w) under actions (R, H, ...) from noise (H, R, C, h, w)."""
        current = state.latents.repeat_interleave(len(actions) // state.batch_size, dim=0)
        imagined = []
        for t, frame_noise in enumerate(noise):
            vectors, _ = self.condition(actions[:, t], current, mode)
            current = self._next(candidates, t, current, vectors, frame_noise, sampling)
            imagined.append(current)
        return torch.stack(imagined, dim=1)

    def sees_frames(self, mode: str) -> bool:
        """Whether a frame needs the clean frame before it."""
        return self.residual or (mode == "real" and self.adapter.config.frame)

    def _noise(self, seed: int | None, *shape: int) -> Tensor:
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        return torch.randn(shape, generator=generator, device=self.device)

    def _conditions(self, actions: Tensor, mode: str) -> Tensor:
        """actions (B, H, ...) -> vectors (B, H, tokens * code_size), without seeing the frames."""
        vectors, _ = self.condition(actions.flatten(0, 1), None, mode)
        return vectors.unflatten(0, actions.shape[:2])

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
        check_frames(self, frames)
        mode = self._mode(action_mode)
        check_moves(self, actions, mode, len(frames), "H")
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
        noise = self._noise(seed, *vectors.shape[:2], *clean.shape[2:])
        sampling = self._sampling(num_inference_steps, guidance_scale, known + noise.shape[1])
        candidates = Candidates.of(state, 1, noise.shape[1], self.window, sampling.guided)
        latents = denoise(self, candidates, 0, noise, noise, vectors, sampling)
        return self.decode(torch.cat([clean, latents], dim=1))[:, frames.shape[1] :]
