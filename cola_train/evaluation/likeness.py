"""Does a distilled model still imagine what its teacher imagines?"""

from __future__ import annotations

from dataclasses import replace

import torch

from cola_env.models.precision import autocast
from cola_env.models.sampler import Sampler
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData
from cola_train.evaluation.controllability import condition_vectors
from cola_train.evaluation.pixels import moving_pixels, psnr


@torch.no_grad()
def likeness(
    student: Sampler[ColaWorldModel],
    teacher: Sampler[ColaWorldModel],
    clips: TrainingData,
    length: int,
    count: int = 96,
) -> dict[str, float]:
    """Next frames by the student, by its teacher (same noise, own actions), and by the teacher's
    weights sampled as the student is (``undistilled``).

    Each with its PSNR (dB) on the moving pixels; ``to_teacher`` is the root mean square distance of
    the student's latents from the teacher's, ``undistilled_to_teacher`` the same before any
    distillation.
    """
    model = student.model
    batch = clips.sample(count, length, torch.Generator().manual_seed(0))
    batch = batch.to(model.device).encoded(model)
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
