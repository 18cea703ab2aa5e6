"""What a training costs before it is begun: time, memory and disk of every phase of its recipe.

Each phase takes one step, forward and backward, on the meta device, where nothing is computed:
what is frozen, recomputed and encoded anew is what it is in a training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips, encode
from cola_train.learner import equal_parts
from cola_train.meter import MetaKernels, Meter, recomputed
from cola_train.phases import Distillation, Phase, Step
from cola_train.phases.distillation import velocity_alone
from cola_train.phases.phase import Prepared
from cola_train.preconditions import check_components
from cola_train.recipes import build_model, chosen_phases, make_phase, scaled


@dataclass(frozen=True)
class Hardware:
    """What trains, and what is assumed of it.

    Attributes:
        tflops: peak of one device in TFLOP/s.
        share: of the peak that matrix products reach in a training.
        launch_us: microseconds that each operation takes at the least.
        devices: each has the whole model and computes its share of a batch.
        half: bfloat16 by autocast, with float32 weights; else float32.

    Raises:
        ColaWorldError: a number that cannot be.
    """

    tflops: float = 989.0
    share: float = 0.35
    launch_us: float = 10.0
    devices: int = 1
    half: bool = True

    def __post_init__(self) -> None:
        if self.tflops <= 0 or not 0 < self.share <= 1 or self.launch_us < 0 or self.devices < 1:
            raise ColaWorldError(
                f"tflops={self.tflops} must be positive, share={self.share} above 0 and at most 1, "
                f"launch_us={self.launch_us} at least 0 and devices={self.devices} at least 1."
            )


@dataclass(frozen=True)
class MemoryParts:
    """Bytes on one device. ``activations``: the most that a step's tensors take at a time, beside
    whole gradients; ``average``: the moving average of the weights."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class PhaseCost:
    """Of one phase. ``flops`` and ``launches``: of a step on one device."""

    steps: int
    batch_size: int
    flops: int
    launches: int
    memory: MemoryParts
    checkpoint: int

    def seconds(self, hardware: Hardware) -> float:
        """Of all steps: of each, what takes longer, computing or launching."""
        computing = self.flops / (hardware.tflops * 1e12 * hardware.share)
        return self.steps * max(computing, self.launches * hardware.launch_us * 1e-6)


@dataclass(frozen=True)
class FrameCost:
    """Of one frame of the data: bytes of its pixels and its latent, operations to encode it."""

    pixels: int
    latents: int
    flops: int


def phase_costs(cfg: DictConfig, hardware: Hardware, latents_kept: bool) -> dict[str, PhaseCost]:
    """The cost of every phase of the training ``cfg``, by name.

    latents_kept: phases that read the latents of whole frames find them made.

    Raises:
        ColaWorldError: settings that do not fit each other.
    """
    cfg = scaled(cfg)
    model = meta_model(cfg)
    if cfg.trainer.checkpoint_activations:
        model.enable_gradient_checkpointing(recomputed(hardware.half))
    phases = [make_phase(cfg, name) for name in chosen_phases(cfg)]
    check_components(phases, model)
    return {
        phase.name: _phase_cost(model, phase, cfg.trainer.accumulation, hardware, latents_kept)
        for phase in phases
    }


def meta_model(cfg: DictConfig) -> ColaWorldModel:
    """The model of the training ``cfg``, without weights."""
    own: Any = OmegaConf.merge(cfg, {"init": None, "opensora": None})
    with torch.device("meta"):
        return build_model(own, "meta")


def _phase_cost(
    model: ColaWorldModel, phase: Phase, accumulated: int, hardware: Hardware, latents_kept: bool
) -> PhaseCost:
    count = equal_parts(phase, hardware.devices, accumulated)
    model.requires_grad_(False)
    learned = [p for part in phase.components(model).values() for p in part.parameters()]
    for parameter in learned:
        parameter.requires_grad_(True)
        parameter.grad = torch.empty_like(parameter)
    clips = meta_clips(model, phase, latents_kept)
    prepared = _prepared(phase, clips, model)
    generator = torch.Generator().manual_seed(0)
    with MetaKernels(hardware.half), Meter() as meter:
        drawn = phase.draw(clips, generator, count).to(model.device)
        batch = phase.augmented(drawn, generator)
        if phase.on_latents:
            batch = batch.encoded(model)
        phase.loss(model, batch, Step(phase.steps - 1, generator, prepared)).value.backward()
    for parameter in learned:
        parameter.grad = None
    size, whole = size_of(learned), size_of(tensors(model))
    held = whole if prepared.teacher is None else whole + size_of(tensors(prepared.teacher))
    return PhaseCost(
        steps=phase.steps,
        batch_size=phase.batch_size,
        flops=accumulated * meter.flops,
        launches=accumulated * meter.launches,
        memory=MemoryParts(held, size, 2 * size, size, meter.peak),
        checkpoint=whole + 3 * size,
    )


def _prepared(phase: Phase, clips: Clips, model: ColaWorldModel) -> Prepared:
    """As of ``phase.prepare``, which would load the teacher's weights."""
    if not isinstance(phase, Distillation):
        return phase.prepare(clips)
    return Prepared(clips, teacher=velocity_alone(copy.deepcopy(model)))


def meta_clips(model: ColaWorldModel, phase: Phase, latents_kept: bool) -> Clips:
    """A clip as long as those of ``phase``, on the meta device."""
    side = model.config.image_size
    with torch.device("meta"):
        frames = torch.empty(1, phase.clip, side, side, 3, dtype=torch.uint8)
        actions = torch.empty(1, phase.clip - 1, model.config.action_dim)
    latents = encode(model, frames[0])[None].half() if latents_kept else None
    return Clips(frames, actions, latents)


def frame_cost(model: ColaWorldModel) -> FrameCost:
    """Of a frame of long episodes, with ``model`` on the meta device."""
    count, side = model.frames_per_latent, model.config.image_size
    lengths = 1, 1 + count
    sizes, flops = list[int](), list[int]()
    for length in lengths:
        with MetaKernels(half=True), Meter() as meter:
            frames = torch.empty(length, side, side, 3, dtype=torch.uint8, device="meta")
            sizes.append(encode(model, frames).numel())
        flops.append(meter.flops)
    latents = torch.float16.itemsize * (sizes[1] - sizes[0]) // count
    return FrameCost(3 * side**2, latents, (flops[1] - flops[0]) // count)


def tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def size_of(parts: Sequence[Tensor]) -> int:
    """Bytes."""
    return sum(part.nbytes for part in parts)
