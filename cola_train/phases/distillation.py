"""Phase: a student that samples in fewer steps, and without guidance, what its teacher samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.precision import autocast
from cola_env.models.rectified_flow import NoisedClip, shift_levels
from cola_env.models.sampler import Sampler
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import psnr
from cola_train.data.clips import TrainingData, fixed_batch
from cola_train.evaluation.controllability import condition_vectors
from cola_train.evaluation.video_metrics import moving_pixels
from cola_train.phases.flow_matching import FlowMatching
from cola_train.phases.phase import Logs, Prepared

WITH_VELOCITY = {"stdit", "conditioner"}
"""The components that a velocity is computed with."""


def velocity_alone(model: ColaWorldModel) -> ColaWorldModel:
    """The model without the components that no velocity is computed with."""
    for name in {name for name, _ in model.named_children()} - WITH_VELOCITY:
        delattr(model, name)
    return model


@dataclass
class Distillation(FlowMatching):
    """One step of the student, from t to t'', leads where the teacher's steps t -> t' -> t'' lead.

    That is progressive distillation (Salimans and Ho, arXiv 2202.00512, algorithm 2) for rectified
    flow: a step is Euler's, so the target is the mean of the teacher's velocities on the way. With
    as many steps as the teacher's it is guidance distillation alone (Meng et al., arXiv 2210.03142,
    section 3.1, at one guidance scale): the velocity of the guided teacher, at any noise level.

    The student sees what FlowMatching shows: clean frames, then noised ones with their own levels,
    here those at which one of its steps begins when it dreams. The model that the phase leaves
    samples in ``to_steps`` without guidance.

    Attributes:
        from_steps, to_steps: of the teacher and the student from noise to data. Where the one is no
            multiple of the other, the teacher takes the next one.
        guidance_scale: of the teacher.
        teacher: folder of the model that the phase starts from; the training command fills it in.

    Raises:
        ColaWorldError: steps that are none, or components to learn that no velocity comes from.
    """

    action_dropout: float = 0.0
    from_steps: int = 10
    to_steps: int = 1
    guidance_scale: float = 1.0
    teacher: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = self.guidance_scale
        self.check("guidance_scale", 0 <= scale < math.inf, "a finite number of at least 0")
        if not 1 <= self.to_steps <= self.from_steps:
            raise ColaWorldError(
                f"Phase {self.name} cannot go from {self.from_steps} sampling steps to "
                f"{self.to_steps}: choose from_steps >= to_steps >= 1."
            )
        if other := set(self.learns) - WITH_VELOCITY:
            raise ColaWorldError(
                f"Phase {self.name} cannot distil into {', '.join(sorted(other))}: choose learns "
                f"among {', '.join(sorted(WITH_VELOCITY))}."
            )

    def prepare(self, train: TrainingData) -> Prepared:
        if self.teacher is None:
            raise ColaWorldError(
                f"Phase {self.name} has no teacher: give the model to distil, init=FOLDER."
            )
        teacher = velocity_alone(load_model(self.teacher, "cpu"))
        return replace(super().prepare(train), teacher=teacher)

    def noise_levels(
        self, model: ColaWorldModel, batch: int, frames: int, generator: torch.Generator
    ) -> Tensor:
        t = super().noise_levels(model, batch, frames, generator)
        if self.from_steps == self.to_steps:
            return t
        shift = model.noise_shift(model.window)
        begin = (shift_levels(t, 1 / shift) * self.to_steps).ceil() / self.to_steps
        return shift_levels(begin.clamp(max=1), shift)

    @torch.no_grad()
    def target(
        self, model: ColaWorldModel, clip: NoisedClip, straight: Tensor, prepared: Prepared
    ) -> Tensor:
        shift = model.noise_shift(model.window)
        end = (shift_levels(clip.t, 1 / shift) - 1 / self.to_steps).clamp_min(0)
        steps = -(-self.from_steps // self.to_steps)
        end = shift_levels(end, shift)
        teacher = teacher_of(prepared, model)
        return clip.mean_velocity(teacher, end, steps, shift, self.guidance_scale)

    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, prepared: Prepared) -> Logs:
        teacher = teacher_of(prepared, model)
        return teacher_agreement(
            model.sampler(self.to_steps, 1.0),
            teacher.sampler(self.from_steps, self.guidance_scale),
            held_out,
            self.clip,
            self.measured_clips,
        )

    def finish(self, model: ColaWorldModel, train: TrainingData) -> None:
        model.register_to_config(num_inference_steps=self.to_steps, guidance_scale=1.0)


def teacher_of(prepared: Prepared, model: ColaWorldModel) -> ColaWorldModel:
    """On the device of ``model``."""
    assert prepared.teacher is not None
    return prepared.teacher.to(model.device)


@torch.no_grad()
def teacher_agreement(
    student: Sampler[ColaWorldModel],
    teacher: Sampler[ColaWorldModel],
    clips: TrainingData,
    length: int,
    count: int,
) -> dict[str, float]:
    """Next frames by the student, by its teacher (same noise, own actions), and by the teacher's
    weights sampled as the student is (``undistilled``).

    Each with its PSNR (dB) on the moving pixels; ``to_teacher`` is the root mean square distance of
    the student's latents from the teacher's, ``undistilled_to_teacher`` the same before any
    distillation.
    """
    model = student.model
    batch = fixed_batch(clips, model, count, length)
    truth = batch.frames.float() / 255
    moving = moving_pixels(truth[:, :-1], truth[:, 1:])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    samplers = {
        "student": student,
        "teacher": teacher,
        "undistilled": replace(teacher, steps=student.steps, guidance_scale=student.guidance_scale),
    }
    with autocast(model.device):
        vectors, _ = condition_vectors(
            model, batch.frames, batch.latents, batch.actions, adapter=False
        )
        found = {
            name: sampler.next_frames(batch.latents, vectors["own"], noise.to(batch.latents))
            for name, sampler in samplers.items()
        }
        error = {
            name: (model.decode(latents) - truth[:, 1:]).square().mean(-1)
            for name, latents in found.items()
        }
    results = {name: float(psnr(value[moving].mean())) for name, value in error.items()}
    for name, key in (("student", ""), ("undistilled", "undistilled_")):
        distance = (found[name] - found["teacher"]).square().mean().sqrt()
        results[f"{key}to_teacher"] = float(distance)
    return results
