"""Rectified flow (Liu et al., arXiv 2209.03003), and how the world model samples from it.

``t`` in [0, 1] is the noise level: 0 is data, 1 is noise; the velocity points from noise to data.
Conventions are Open-Sora v1.2's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.nn.functional import pad

from cola_env.models.transformer import (
    KeyValue,
    SharedPast,
    TemporalContext,
    causal_mask,
    rotary_table,
)

# Noise


def add_noise(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t eps; clean and noise (B, T, C, H, W), t (B, T)."""
    t = t[:, :, None, None, None]
    return (1 - t) * clean + t * noise


def velocity_to_clean(clean: Tensor, noised: Tensor, t: Tensor) -> Tensor:
    """The velocity (x_0 - x_t) / t that leads from ``noised`` to ``clean``; t (B, T) in (0, 1]."""
    return (clean - noised) / t[:, :, None, None, None].clamp_min(1e-3)


def shift_factor(height: int, width: int, frames: int) -> float:
    """r = sqrt(H W / 512^2) sqrt(T) of clips of H x W pixels with T latent frames.

    Larger and longer clips need more noise to hide what they show. Open-Sora v1.2 takes T from the
    number of frames before compression in time, and so gets 0 for clips shorter than 17.
    """
    return (height * width / 512**2 * frames) ** 0.5


def shift_levels(t: Tensor, shift: float) -> Tensor:
    """t' = r t / (1 + (r - 1) t), which moves noise levels in [0, 1] towards 1 for r > 1."""
    return shift * t / (1 + (shift - 1) * t)


def euler_scheduler(
    num_inference_steps: int, shift: float = 1.0
) -> FlowMatchEulerDiscreteScheduler:
    """diffusers' Euler scheduler on Open-Sora's grid t_i = 1 - i / N (its output is -velocity)."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(
        sigmas=[1 - i / num_inference_steps for i in range(num_inference_steps)]
    )
    return scheduler


# Guidance


class Denoiser(Protocol):
    """What is sampled from; see ``ColaWorldModel``."""

    residual: bool
    head_dim: int

    def velocity(
        self,
        noised: Tensor,
        t: Tensor,
        actions: Tensor,
        previous: Tensor,
        time: TemporalContext,
        past: Sequence[SharedPast] | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]: ...

    def clip_context(self, frames: int) -> TemporalContext: ...


def guided_velocity(
    model: Denoiser,
    scale: float,
    noised: Tensor,
    t: Tensor,
    actions: Tensor,
    no_actions: Tensor,
    previous: Tensor,
    time: TemporalContext,
    past: Sequence[SharedPast] | None = None,
) -> Tensor:
    """v_u + s (v_c - v_u): v_c under ``actions``, v_u under ``no_actions``, in one batch.

    Arguments are those of ``ColaWorldModel.velocity``; with a scale s other than 1, ``time`` and
    ``past`` are of the conditional rows and then of the unconditional ones.
    """
    if scale == 1:
        return model.velocity(noised, t, actions, previous, time, past)[0]
    velocity, _ = model.velocity(
        noised.repeat(2, 1, 1, 1, 1),
        t.repeat(2, 1),
        torch.cat([actions, no_actions]),
        previous.repeat(2, 1, 1, 1, 1),
        time,
        past,
    )
    conditional, unconditional = velocity.chunk(2)
    return unconditional + scale * (conditional - unconditional)


# Whole clips, as in training


@dataclass(frozen=True)
class NoisedClip:
    """B clips of T frames, each frame noised at a level of its own.

    Attributes:
        latents: (B, T, C, h, w), partly noised.
        t: their noise levels (B, T) in [0, 1]; frames at 0 are clean, the context of the others.
        actions: vectors (B, T, tokens * code_size) that led to each frame, zero for the first.
        previous: clean latents of the frame before each, shaped as ``latents``.
    """

    latents: Tensor
    t: Tensor
    actions: Tensor
    previous: Tensor

    @classmethod
    def of(cls, clean: Tensor, noise: Tensor, t: Tensor, actions: Tensor) -> Self:
        """clean, noise (B, T, C, h, w); actions (B, T - 1, D) between the frames."""
        first = actions.new_zeros(actions.shape[0], 1, actions.shape[2])
        previous = torch.cat([clean[:, :1], clean[:, :-1]], dim=1)
        return cls(add_noise(clean, noise, t), t, torch.cat([first, actions], dim=1), previous)

    @torch.no_grad()
    def behind_predictions(self, model: Denoiser, chosen: Tensor) -> Self:
        """The same, but that ``previous`` of the ``chosen`` frames (B, T) is what the model
        predicts of the frame before, in one step from its noise level, unless that was clean. Done
        again, what it predicts is behind predictions itself."""
        length = self.t[..., None, None, None]
        predicted = self.latents + length * self.velocity(model)
        before = torch.cat([self.previous[:, :1], predicted[:, :-1]], dim=1)
        return replace(
            self, previous=torch.where(chosen[..., None, None, None], before, self.previous)
        )

    def velocity(self, model: Denoiser, guidance_scale: float = 1.0) -> Tensor:
        """Guided velocity (B, T, C, h, w); the unconditional one knows no actions of the noised
        frames."""
        actions, time = self.actions, model.clip_context(self.t.shape[1])
        no_actions = actions.masked_fill((self.t > 0)[..., None], 0)
        return guided_velocity(
            model, guidance_scale, self.latents, self.t, actions, no_actions, self.previous, time
        )

    def mean_velocity(
        self,
        model: Denoiser,
        end: Tensor,
        steps: int,
        shift: float = 1.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """The one velocity that leads where ``steps`` of Euler's method lead.

        Args:
            end: noise levels (B, T) to go to, at most ``t``.
            steps: of equal length for levels that are not shifted by ``shift``.

        Returns:
            (B, T, C, h, w); 0 for frames that are already at ``end``.
        """
        first, last = (shift_levels(level, 1 / shift) for level in (self.t, end))
        moved, level = torch.zeros_like(self.latents), self.t
        for i in range(steps):
            after = shift_levels(torch.lerp(first, last, (i + 1) / steps), shift)
            here = replace(self, latents=self.latents + moved, t=level)
            length = (level - after)[..., None, None, None]
            moved = moved + length * here.velocity(model, guidance_scale)
            level = after
        whole = (self.t - level)[..., None, None, None]
        return moved / torch.where(whole > 0, whole, 1.0)


# What dreams remember
@dataclass(frozen=True)
class DreamState:
    """State of B independent dreams; immutable, every operation returns a new one.

    Attributes:
        latents: clean latents of the current frame (B, C, H, W) float32.
        cache: keys and values of the past, one entry per temporal attention layer.
        seen: frames that each dream has seen (B,) long; rows that saw fewer than the cache holds
            have padding at the front.
        codes: latent action codes of the last step (B, tokens) long, None without any.
    """

    latents: Tensor
    cache: tuple[KeyValue, ...]
    seen: Tensor
    codes: Tensor | None = None

    @property
    def batch_size(self) -> int:
        return self.latents.shape[0]

    @property
    def cached(self) -> int:
        """Frames that the cache holds."""
        return self.cache[0].key.shape[3]

    def select(self, index: Tensor | slice) -> DreamState:
        """The dreams that ``index`` (long, bool or slice over B) picks."""
        return self._map(lambda x: x[index])

    def to(self, device: torch.device, dtype: torch.dtype) -> DreamState:
        """This state on a device; for one of another kind keys and values become ``dtype``."""
        moved = self._map(lambda x: x.to(device))
        if self.latents.device.type == device.type:
            return moved
        return replace(moved, cache=tuple(kv.map(lambda x: x.to(dtype)) for kv in moved.cache))

    def put(self, index: Tensor, rows: DreamState) -> DreamState:
        """This state with the dreams at ``index`` (K,) long replaced by the K ``rows``."""
        frames = max(self.cached, rows.cached)
        here, there = self._padded(frames), rows._padded(frames)

        def place(x: Tensor, y: Tensor) -> Tensor:
            return x.index_copy(0, index, y.to(x.dtype))

        codes = here.codes
        if codes is not None:
            new = torch.zeros_like(codes[index]) if there.codes is None else there.codes
            codes = place(codes, new)
        return DreamState(
            place(here.latents, there.latents),
            tuple(
                KeyValue(place(a.key, b.key), place(a.value, b.value))
                for a, b in zip(here.cache, there.cache, strict=True)
            ),
            place(here.seen, there.seen),
            codes,
        )

    @classmethod
    def joined(cls, parts: Sequence[DreamState]) -> DreamState:
        """The dreams of all parts, one part after the other."""
        frames = max(part.cached for part in parts)
        parts = [part._padded(frames) for part in parts]
        codes = [part.codes for part in parts if part.codes is not None]
        return cls(
            torch.cat([part.latents for part in parts]),
            tuple(
                KeyValue(torch.cat([kv.key for kv in layer]), torch.cat([kv.value for kv in layer]))
                for layer in zip(*(part.cache for part in parts), strict=True)
            ),
            torch.cat([part.seen for part in parts]),
            torch.cat(codes) if codes else None,
        )

    def _padded(self, frames: int) -> DreamState:
        missing = frames - self.cached
        cache = tuple(kv.map(lambda x: pad(x, (0, 0, missing, 0))) for kv in self.cache)
        return DreamState(self.latents, cache, self.seen, self.codes)

    def _map(self, function: Callable[[Tensor], Tensor]) -> DreamState:
        return DreamState(
            function(self.latents),
            tuple(kv.map(function) for kv in self.cache),
            function(self.seen),
            None if self.codes is None else function(self.codes),
        )


@dataclass(frozen=True)
class Candidates:
    """The futures of N candidates of each of B dreams, while they are imagined frame by frame.

    With guidance all rows come twice: first the conditional ones, which know their actions, then
    the same futures unconditional. What rows do not share lies in ``future`` alone.

    Attributes:
        past: keys and values of every temporal layer, (B, S, heads, P, head_dim).
        future: memory for those of the horizon H, (B * N, S, heads, H, head_dim).
        seen: frames that each row has seen before (B * N,) long.
        window: frames that a frame attends to, with itself.
        guided: whether there are unconditional rows.
    """

    past: tuple[KeyValue, ...]
    future: tuple[KeyValue, ...]
    seen: Tensor
    window: int
    guided: bool

    @classmethod
    def of(
        cls, state: DreamState, samples: int, horizon: int, window: int, guided: bool
    ) -> Candidates:
        times = 2 if guided else 1

        def allocate(x: Tensor) -> Tensor:
            return x.new_zeros(times * samples * len(x), *x.shape[1:3], horizon, x.shape[4])

        return cls(
            tuple(kv.map(lambda x: x.repeat(times, 1, 1, 1, 1)) for kv in state.cache),
            tuple(kv.map(allocate) for kv in state.cache),
            state.seen.repeat_interleave(samples).repeat(times),
            window,
            guided,
        )

    def conditional(self) -> Candidates:
        """The conditional rows alone, in the same memory."""
        if not self.guided:
            return self

        def first_half(x: Tensor) -> Tensor:
            return x[: len(x) // 2]

        return Candidates(
            tuple(kv.map(first_half) for kv in self.past),
            tuple(kv.map(first_half) for kv in self.future),
            first_half(self.seen),
            self.window,
            guided=False,
        )

    def copy_to_unconditional(self, frame: int) -> None:
        """Let the unconditional rows go on from the conditional ones' ``frame``."""
        if not self.guided:
            return
        for kv in self.future:
            for x in (kv.key, kv.value):
                conditional, unconditional = x[:, :, :, frame].chunk(2)
                unconditional.copy_(conditional)

    def past_of(self, frame: int, count: int = 1) -> tuple[SharedPast, ...]:
        """What every layer attends to at ``count`` frames of the horizon from ``frame`` on."""
        frames = torch.arange(frame, frame + count, device=self.seen.device)
        return tuple(
            SharedPast(past, future, frames)
            for past, future in zip(self.past, self.future, strict=True)
        )

    def time(self, head_dim: int, frame: int, count: int = 1) -> TemporalContext:
        """Positions of those frames and what they may see: their window, but for the padding of
        rows that have seen less than the past holds."""
        known, device = self.past[0].frames, self.seen.device
        queries = torch.arange(frame, frame + count, device=device)
        keys = torch.arange(-known, self.future[0].frames, device=device)
        mask = causal_mask(queries, keys, self.window)
        mask = mask & (keys >= -self.seen[:, None, None])
        rotary = rotary_table(self.seen[:, None] + queries, head_dim)
        return TemporalContext(rotary, mask[:, None, None])

    def caches(self) -> tuple[KeyValue, ...]:
        """The past of what follows one candidate a dream: at most ``window - 1`` frames."""
        caches, rows, frames = [], self.conditional(), self.window - 1
        for past, future in zip(rows.past, rows.future, strict=True):
            pairs = zip((past.key, past.value), (future.key, future.value), strict=True)
            whole = KeyValue(*(torch.cat(pair, dim=3) for pair in pairs))
            caches.append(whole.between(whole.frames - frames, whole.frames))
        return tuple(caches)


# Frames behind a cached past, as in dreams

Model = TypeVar("Model", bound=Denoiser)


@dataclass(frozen=True)
class Sampler(Generic[Model]):
    """Euler's method from noise to data: ``steps`` on levels shifted by ``shift``, under guidance;
    a scale of 1 is none."""

    model: Model
    steps: int
    guidance_scale: float = 1.0
    shift: float = 1.0

    @property
    def guided(self) -> bool:
        return self.guidance_scale != 1

    def denoise(
        self, candidates: Candidates, frame: int, noise: Tensor, actions: Tensor, previous: Tensor
    ) -> Tensor:
        """Latents (R, T, C, h, w) of T frames of R candidates, from ``frame`` of the horizon on.

        Args:
            noise: to start from (R, T, C, h, w).
            actions: vectors that lead to each frame (R, T, tokens * code_size).
            previous: clean latents of the frame before each (R, T, C, h, w), which only
                ``residual`` models see.
        """
        model, scale, no_actions = self.model, self.guidance_scale, torch.zeros_like(actions)
        latents, count = noise, noise.shape[1]
        time = candidates.time(model.head_dim, frame, count)
        past = candidates.past_of(frame, count)
        scheduler = euler_scheduler(self.steps, self.shift)
        for timestep in scheduler.timesteps:
            t = latents.new_full(latents.shape[:2], float(timestep) / 1000)
            velocity = guided_velocity(
                model, scale, latents, t, actions, no_actions, previous, time, past
            )
            latents = scheduler.step(-velocity, timestep, latents, return_dict=False)[0]
        return latents

    def next_frame(
        self, candidates: Candidates, frame: int, latents: Tensor, actions: Tensor, noise: Tensor
    ) -> Tensor:
        """Latents (R, C, h, w) of ``frame`` of the horizon; later frames attend to it, clean.

        latents, noise (R, C, h, w): the frame before, and what to start from; actions (R, D).
        """
        previous, actions = latents[:, None], actions[:, None]
        found = self.denoise(candidates, frame, noise[:, None], actions, previous)
        self.update_cache(candidates, frame, found, actions, previous)
        return found[:, 0]

    def update_cache(
        self, candidates: Candidates, frame: int, latents: Tensor, actions: Tensor, previous: Tensor
    ) -> None:
        """Put keys and values of the clean ``frame``, latents (R, 1, C, h, w), in the candidates.

        That takes one evaluation more, unless the clean frames reach the model as ``previous``.
        """
        if not self.model.residual:
            rows, t = candidates.conditional(), latents.new_zeros(latents.shape[:2])
            time, past = rows.time(self.model.head_dim, frame), rows.past_of(frame)
            self.model.velocity(latents, t, actions, previous, time, past)
        candidates.copy_to_unconditional(frame)

    def next_frames(self, latents: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Latents (B, T - 1, C, h, w) of every next frame of whole clips, teacher-forced as far as
        the model sees clean frames.

        latents, noise (B, T, C, h, w); actions: vectors (B, T - 1, tokens * code_size) between.
        """
        t = torch.ones(latents.shape[:2], device=latents.device)
        t[:, 0] = 0
        clip, end = NoisedClip.of(latents, noise, t, actions), torch.zeros_like(t)
        moved = clip.mean_velocity(self.model, end, self.steps, self.shift, self.guidance_scale)
        return (clip.latents + moved)[:, 1:]


# Noise levels to train at


def sample_clip_levels(batch: int, frames: int, shift: float, generator: torch.Generator) -> Tensor:
    """Noise levels (batch, frames) of training clips as in Open-Sora v1.2: one level a clip.

    It is logit-normal, then shifted; the first k frames are clean (level 0), k as in
    ``sample_noise_levels``.
    """
    levels = torch.randn(batch, 1, generator=generator, device=generator.device).sigmoid()
    return shift_levels(levels, shift) * ~clean_frames(batch, frames, generator)


def sample_noise_levels(
    batch: int,
    frames: int,
    pure_noise: float,
    generator: torch.Generator,
    max_context: int | None = None,
) -> Tensor:
    """Noise levels (batch, frames) of training clips, independent for every frame.

    A share ``pure_noise`` of them is exactly 1, where few-step inference starts; the others are
    logit-normal, as in Open-Sora's training. The first k frames are clean (level 0): k is 1 in half
    of the clips, else uniform in [1, max_context], by default in [1, frames - 1].
    """
    device = generator.device
    levels = torch.randn(batch, frames, generator=generator, device=device).sigmoid()
    pure = torch.rand(batch, frames, generator=generator, device=device) < pure_noise
    levels = torch.where(pure, torch.ones_like(levels), levels)
    return levels * ~clean_frames(batch, frames, generator, max_context)


def clean_frames(
    batch: int, frames: int, generator: torch.Generator, max_context: int | None = None
) -> Tensor:
    """(batch, frames) bool: which frames of training clips are context, at least the first."""
    device = generator.device
    most = frames - 1 if max_context is None else min(max_context, frames - 1)
    many = torch.randint(1, most + 1, (batch,), generator=generator, device=device)
    one = torch.rand(batch, generator=generator, device=device) < 0.5
    clean = torch.where(one, torch.ones_like(many), many)
    return torch.arange(frames, device=device) < clean[:, None]
