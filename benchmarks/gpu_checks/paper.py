"""The paper's model: predictions, VP2's candidates with and without a cached past, training."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_checks.mini import frames
from benchmarks.gpu_checks.sizes import Sizes, paper_model
from benchmarks.harness import timed
from benchmarks.model_steps import (
    Budget,
    doubled_batches,
    prediction_step,
    training_step,
    training_tflop,
)
from cola_env.envs.starts import CONTEXT
from cola_env.models.precision import inference
from cola_env.models.rectified_flow import NoisedClip
from cola_env.models.world_model import ColaWorldModel

Result = dict[str, Any]


def prediction(sizes: Sizes, device: torch.device, budget: Budget) -> Result:
    """Of 8 frames with guidance, at doubled batches."""
    step = prediction_step(paper_model(sizes, device), sizes.frames)
    return largest(doubled_batches(step, device, budget=budget))


def training(sizes: Sizes, device: torch.device, budget: Budget) -> Result:
    """A step on clips of 8 frames, activations recomputed, at doubled batches."""
    step = training_step(paper_model(sizes, device), sizes.frames, recompute=True)
    tflop = training_tflop(sizes.paper, sizes.frames)
    return largest(doubled_batches(step, device, tflop, budget))


def largest(batches: list[Result]) -> Result:
    if not batches:
        raise torch.cuda.OutOfMemoryError("not even a batch of 1 fits")
    fastest = max(batches, key=lambda row: row["tflop_per_second"])
    return {
        "largest_batch": batches[-1]["batch"],
        "tflop_per_second": fastest["tflop_per_second"],
        "batches": batches,
    }


def candidates(sizes: Sizes, device: torch.device, budget: Budget) -> Result:
    """Seconds of VP2's candidates behind a cached past, and as whole clips without a cache: all
    frames of the horizon together, as Open-Sora samples, and frame by frame.

    One sampling step each, which all of its steps take as long as. On a GPU that is too slow for
    all candidates, of fewer.
    """
    model = paper_model(sizes, device)
    pictures = frames(model, 1, CONTEXT)
    state = model.begin(pictures)
    shape = sizes.paper_horizon, model.config.action_dim
    plans = torch.rand(1, sizes.paper_candidates, *shape, device=device) * 2 - 1

    def cached(count: int, together: bool) -> object:
        given = plans[:, :count]
        return model.rollout(
            state, given, seed=0, num_inference_steps=1, together=together, decoded=False
        )

    def plain(count: int, together: bool) -> object:
        return whole_clips(model, pictures, plans[0, :count], together)

    few = min(4, sizes.paper_candidates)
    for together in (True, False):
        cached(few, together)
        plain(few, together)
    slowest = timed(lambda: plain(few, False), device)
    count = sizes.paper_candidates
    while count > few and not budget.allows(2 * slowest * count / few):
        count //= 2
    rows: Result = {"candidates": count, "horizon": sizes.paper_horizon, "sampling_steps": 1}
    for name, together in (("together", True), ("frame_by_frame", False)):
        seconds = [timed(partial(way, count, together), device) for way in (cached, plain)]
        rows[name] = {
            "cached_seconds": seconds[0],
            "plain_seconds": seconds[1],
            "times_faster": seconds[1] / seconds[0],
        }
    return rows


def whole_clips(model: ColaWorldModel, pictures: Tensor, plans: Tensor, together: bool) -> Tensor:
    """Latents (N, H, C, h, w) of plans (N, H, A), each evaluation of whole clips: one sampling step
    under the model's guidance."""
    return inference(_whole_clips)(model, pictures, plans, together)


def _whole_clips(model: ColaWorldModel, pictures: Tensor, plans: Tensor, together: bool) -> Tensor:
    count, horizon = plans.shape[:2]
    context = model.encode(pictures.to(model.device))
    between, _ = model.context_actions(pictures.to(model.device), context, None)
    clean, before = (x.expand(count, *x.shape[1:]) for x in (context, between))
    generator = torch.Generator(model.device).manual_seed(0)
    shape = horizon, *clean.shape[2:]
    noise = torch.randn(shape, generator=generator, device=model.device)
    acting, _ = model.condition(plans.flatten(0, 1), None, "real")
    vectors = torch.cat([before, acting.unflatten(0, (count, horizon)).to(before)], dim=1)
    known = clean.shape[1]
    for start in range(0, horizon, horizon if together else 1):
        now = noise[start:] if together else noise[start : start + 1]
        whole = torch.cat([clean, now.expand(count, *now.shape)], dim=1)
        level = torch.zeros(whole.shape[:2], device=model.device)
        level[:, clean.shape[1] :] = 1
        clip = NoisedClip.of(whole, whole, level, vectors[:, : whole.shape[1] - 1])
        end, scale = torch.zeros_like(level), model.config.guidance_scale
        moved = clip.mean_velocity(model, end, 1, guidance_scale=scale)
        clean = whole + moved
    return clean[:, known:]
