"""CoLA-World: what the model imagines from real frames on, frame by frame or in whole clips."""

from __future__ import annotations

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.models.candidates import Candidates
from cola_env.models.clip_prediction import predict_clip
from cola_env.models.dream_state import DreamState
from cola_env.models.latent_action_diffusion import LatentActionDiffusion
from cola_env.models.precision import inference
from cola_env.models.rectified_flow import euler_scheduler


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
        cache = tuple(kv.between(length + 1 - self.window, length) for kv in cache)
        return DreamState(latents[:, -1], cache, seen, codes)

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
        steps, scale = self._sampling(num_inference_steps, guidance_scale)
        if not isinstance(noise, Tensor):
            shape = state.latents.shape
            source = noise.device if noise is not None else self.device
            noise = torch.randn(shape, generator=noise, device=source)
        vectors, codes = self.condition(actions.to(self.device), state.latents, mode)
        candidates = Candidates.of(state, 1, 1, self.window, scale != 1.0)
        conditions = (state.latents, vectors, noise.to(self.device))
        latents = self._next_latents(candidates, 0, *conditions, steps, scale)
        if scale != 1.0:
            candidates = candidates.led()
        cache = candidates.caches(self.window - 1)
        return DreamState(latents, cache, state.seen + 1, codes)

    def _sampling(self, steps: int | None, scale: float | None) -> tuple[int, float]:
        """Sampling steps and guidance scale: those given, or the checkpoint's own."""
        steps = steps or self.config.num_inference_steps
        return steps, self.config.guidance_scale if scale is None else scale

    def _next_latents(
        self,
        candidates: Candidates,
        frame: int,
        latents: Tensor,
        vectors: Tensor,
        noise: Tensor,
        steps: int,
        scale: float,
    ) -> Tensor:
        """Latents (R, C, h, w) of ``frame`` of the horizon, after ``latents``, under ``vectors``.

        Guidance is v_u + s (v_c - v_u) with the zero vector as no action, both in one batch.
        """
        vectors, previous, noised = vectors[:, None], latents[:, None], noise[:, None]
        led, guided = candidates, scale != 1.0
        if guided:
            led = candidates.led()
            vectors = torch.cat([vectors, torch.zeros_like(vectors)])
            previous = previous.repeat(2, 1, 1, 1, 1)
        time, before = candidates.time(frame, self.head_dim), candidates.before(frame)
        scheduler = euler_scheduler(steps, self.noise_shift(self.window))
        for timestep in scheduler.timesteps:
            both = noised.repeat(2, 1, 1, 1, 1) if guided else noised
            level = torch.full((len(both), 1), float(timestep) / 1000, device=self.device)
            velocity, _ = self.velocity(both, level, vectors, previous, time, before)
            if guided:
                with_action, without = velocity.chunk(2)
                velocity = without + scale * (with_action - without)
            noised = scheduler.step(-velocity, timestep, noised, return_dict=False)[0]
        if not self.residual:
            clean, rows = torch.zeros(len(noised), 1, device=self.device), len(noised)
            time, before = led.time(frame, self.head_dim), led.before(frame)
            self.velocity(noised, clean, vectors[:rows], previous[:rows], time, before)
        if guided:
            candidates.share(frame)
        return noised[:, 0]

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
        return (self.decode(state.latents) * 255).round().to(torch.uint8)

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
    ) -> Tensor:
        """Imagine N candidate action sequences for each of B dreams.

        Args:
            state: B dreams, left as they are.
            actions: (B, N, H, A) real actions, or (B, N, H, tokens) codes.
            action_mode: one of ``action_modes``.
            seed: of the diffusion noise, which is shared by the N candidates of a dream (common
                random numbers); None draws fresh noise.

        Returns:
            Frames (B, N, H, S, S, 3) float32 in [0, 1].

        Raises:
            ColaWorldError: actions of another shape, or an action mode that this model does not
                offer.
        """
        if actions.ndim != 4 or actions.shape[0] != state.batch_size:
            raise ColaWorldError(
                f"rollout of {state.batch_size} dreams takes actions of shape "
                f"({state.batch_size}, N, H, A), not {tuple(actions.shape)}."
            )
        mode = self._mode(action_mode)
        steps, scale = self._sampling(num_inference_steps, guidance_scale)
        batch, samples, horizon = actions.shape[:3]
        actions = actions.to(self.device)
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        candidates = Candidates.of(state, samples, horizon, self.window, scale != 1.0)
        current = state.latents.repeat_interleave(samples, dim=0)
        latents = []
        for t in range(horizon):
            vectors, _ = self.condition(actions[:, :, t].flatten(0, 1), current, mode)
            noise = torch.randn(state.latents.shape, generator=generator, device=self.device)
            noise = noise.repeat_interleave(samples, dim=0)
            current = self._next_latents(candidates, t, current, vectors, noise, steps, scale)
            latents.append(current)
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
        steps, scale = self._sampling(num_inference_steps, guidance_scale)
        if self.residual or (mode == "real" and self.adapter.config.frame):
            state = self.begin(frames, context_actions)
            return self.rollout(
                state,
                actions[:, None],
                action_mode=mode,
                num_inference_steps=steps,
                guidance_scale=scale,
                seed=seed,
            )[:, 0]
        clean = self.encode(frames)
        vectors = self.condition(actions.flatten(0, 1), None, mode)[0].unflatten(0, shape)
        if frames.shape[1] > 1:
            before, _ = self._context_actions(frames, clean, context_actions)
            vectors = torch.cat([before, vectors], dim=1)
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        latents = predict_clip(self, clean, vectors, steps, scale, generator)
        return self.decode(latents)[:, frames.shape[1] :]
