"""Phases that train the world model and the latent action model by the flow matching loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from cola_env.models.rectified_flow import NoisedClip
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import ClipBatch, TrainingData
from cola_train.evaluation.controllability import controllability
from cola_train.phases.noise_levels import sample_clip_levels, sample_noise_levels
from cola_train.phases.phase import ActionVectors, LatentActionPhase, Logs, Loss, Prepared, Step

ACTIONS = ("none", "latent", "direct")
LEVELS = ("frame", "clip")
QUIET = 0.1
"""A place of the latents that moves less than this share of the mean place is taken to move so."""
NEAR = 9
"""Pixels across of the neighbourhood in which motion makes a pixel weigh more."""
RARELY = 0.5
"""A pixel that moves less often than such a share of the mean one is rare."""
RARE_WEIGHT = 3.0
"""How many times as much it weighs in all frames as one that is near motion."""
PAIRS, LEAST = 4096, 3
"""Of frames, by which it is told how often pixels move; what moves in fewer never does."""


@dataclass
class FlowMatching(LatentActionPhase):
    """Flow matching with actions from one of three sources.

    Which components learn is the recipe's ``learns``: a warm-up freezes the world model while the
    gradients flow through it into the latent action model (CoLA-World, section 3.3).

    Attributes:
        actions: "none" (action-free pre-training), "latent" (the IDM's, with gradients into it
            where it learns: warm-up, end-to-end and finetuning), "direct" (real actions, the
            reference).
        adapted: the model has a trained adapter, which is measured too.
        adapter_share: share of the clips whose latent actions are the adapter's, from real ones.
        levels: "frame": noise levels independent for every frame, and the loss the mean over all
            noised frames of the batch; "clip": one for all frames of a clip, shifted by its size
            and length, and the loss the mean over the clips of theirs, as Open-Sora trains.
        pure_noise: with ``levels="frame"``, the share of the frames at noise level 1,
            where few-step sampling starts.
        max_context: with ``levels="frame"``, the most frames that are left clean; None: all but
            one. What dreams begin behind is short, and clean frames teach nothing.
        action_dropout: share of the actions that are masked to zero.
        motion_weight: how much more moving latents weigh in the loss.
        motion_threshold: for models of pixels: one moves where a channel changes by more than this
            share of its range. What is near one that moves weighs more, and what rarely moves does
            so in all frames, so that a lamp counts beside an arm. A pixel's own motion may make no
            difference: the weighted mean of what may move and may not would dissolve.
            None: a place of the latents weighs the more the more it changes and the less often it
            does in the batch.
        own_frames: share of the noised frames that are predicted behind the model's own prediction
            of the frame before in place of the true one, as in dreams; for models that see clean
            frames (``residual``).
        own_steps: how many predictions in a row such a frame is behind, where so many frames before
            it are noised; each costs a pass without gradients.
    """

    actions: str = "none"
    adapted: bool = False
    adapter_share: float = 0.0
    levels: str = "frame"
    pure_noise: float = 0.5
    max_context: int | None = None
    action_dropout: float = 0.1
    motion_weight: float = 2.0
    motion_threshold: float | None = None
    own_frames: float = 0.0
    own_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("actions", ACTIONS), ("levels", LEVELS)):
            self.check(name, getattr(self, name) in known, " or ".join(known))
        self.check_shares("adapter_share", "pure_noise", "action_dropout", "own_frames")
        for name in ("motion_weight", "motion_threshold"):
            value = getattr(self, name) or 0.0
            self.check(name, 0 <= value < math.inf, "a number of at least 0")
        self.check("own_steps", self.own_steps >= 1, "at least 1")
        whole = self.motion_threshold is None or self.crop_scale == 1
        self.check("crop_scale", whole, "1 beside motion_threshold: what rarely moves is a place")
        context = self.max_context
        self.check("max_context", context is None or context >= 1, "at least 1, or null")

    @property
    def uses(self) -> set[str]:
        acting = {"latent": {"idm", "quantizer"}, "direct": {"action_in"}}.get(self.actions, set())
        adapter = {"adapter"} if self.adapted or self.adapter_share else set()
        return {*self.learns, *acting, *adapter}

    @property
    def needs_actions(self) -> bool:
        acted = self.actions == "direct" or self.adapted or self.adapter_share > 0
        return acted or super().needs_actions

    @property
    def has_latent_actions(self) -> bool:
        return self.actions == "latent"

    def prepare(self, train: TrainingData) -> Prepared:
        if self.motion_threshold is None:
            return Prepared(train)
        pairs = train.sample(PAIRS, 2, torch.Generator().manual_seed(0)).frames.to(torch.int16)
        change = (pairs[:, 1] - pairs[:, 0]).abs().amax(-1)
        moves = (change > 255 * self.motion_threshold).float().sum(0)
        return Prepared(train, rare=(moves >= LEAST) & (moves < RARELY * moves.mean()))

    def loss(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> Loss:
        actions = self.actions_of(model, batch, step)
        drawn = torch.rand(actions.vectors.shape[:2], generator=step.generator)
        shown = drawn >= self.action_dropout
        vectors = actions.vectors * shown.to(actions.vectors)[..., None]
        flow = self._flow_loss(model, batch.latents, vectors, step)
        logs = {"flow": float(flow.detach()), **actions.logs}
        return Loss(flow + actions.loss, logs, actions.codes)

    def actions_of(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> ActionVectors:
        """Vectors (B, T - 1, D) from the source that ``actions`` names."""
        no_loss = torch.zeros((), device=model.device)
        if self.actions == "none":
            count, frames = batch.latents.shape[:2]
            size = model.conditioner.embed.in_features
            vectors = torch.zeros(count, frames - 1, size, device=model.device)
            return ActionVectors(vectors, no_loss, {})
        if self.actions == "direct":
            return ActionVectors(model.action_in(batch.actions), no_loss, {})
        vectors, loss, logs, codes = self.latent_actions(model, batch, step)
        if self.adapter_share:
            logits = model.adapter(batch.actions, batch.latents[:, :-1])
            adapted = model.adapter.vectors(logits, model.quantizer.code_vectors)
            chosen = torch.rand(len(vectors), generator=step.generator) < self.adapter_share
            vectors = torch.where(chosen.to(model.device)[:, None, None, None], adapted, vectors)
        return ActionVectors(vectors.flatten(-2), loss, logs, codes)

    def _flow_loss(
        self, model: ColaWorldModel, latents: Tensor, vectors: Tensor, step: Step
    ) -> Tensor:
        """vectors (B, T - 1, D) lead to the frames 1.. of latents (B, T, C, h, w)."""
        batch, frames = latents.shape[:2]
        t = self.noise_levels(model, batch, frames, step.generator).to(latents)
        noise = torch.randn(latents.shape, generator=step.generator).to(latents)
        clip = NoisedClip.of(latents, noise, t, vectors)
        motion = self._motion(latents - clip.previous, step.prepared.rare)
        weight = 1 + self.motion_weight * motion
        if self.own_frames:
            shown = torch.rand(t.shape, generator=step.generator).to(t) < self.own_frames
            for _ in range(self.own_steps):
                clip = clip.behind_predictions(model, shown)
        target = self.target(model, clip, latents - noise, step.prepared)
        error = (clip.velocity(model) - target).square().mean(2)
        if model.residual:
            error = error * t[..., None, None].square()
        weight = weight * (t > 0)[..., None, None]
        if self.levels == "clip":
            return ((weight * error).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
        return (weight * error).sum() / weight.sum().clamp_min(1)

    def _motion(self, change: Tensor, rare: Tensor | None) -> Tensor:
        """How much more every place (B, T, h, w) weighs, by the change (B, T, C, h, w) of its
        latents."""
        if self.motion_threshold is None:
            moved = change.square().mean(2)
            usual = moved.mean((0, 1)).clamp_min(QUIET * float(moved.mean()) + 1e-6)
            return (moved / usual).clamp(max=10)
        assert rare is not None
        moved = (change.abs().amax(2) > 2 * self.motion_threshold).float()
        near = max_pool2d(moved, NEAR, stride=1, padding=NEAR // 2)
        return near.maximum(RARE_WEIGHT * rare.to(near))

    def noise_levels(
        self, model: ColaWorldModel, batch: int, frames: int, generator: torch.Generator
    ) -> Tensor:
        """Levels (batch, frames) in [0, 1] to learn at."""
        if self.levels == "clip":
            return sample_clip_levels(batch, frames, model.noise_shift(frames), generator)
        return sample_noise_levels(batch, frames, self.pure_noise, generator, self.max_context)

    def target(
        self, model: ColaWorldModel, clip: NoisedClip, straight: Tensor, prepared: Prepared
    ) -> Tensor:
        """The velocity to learn; ``straight`` is that from the clip's noise to its frames."""
        return straight

    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, prepared: Prepared) -> Logs:
        self.fit_statistics(model, prepared.train)
        measures = controllability(
            model, held_out, self.clip, adapter=self.adapted, count=self.measured_clips
        )
        return measures | self.probe(model, prepared.train, held_out)
