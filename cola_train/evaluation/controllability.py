"""What actions are worth to a model, and what latent ones hold.

Controllability is next-frame PSNR under own, shuffled and no actions, and the gap between them; a
linear probe says how much of the real action can be read off the latent one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.latent_action.codebook_health import health_measures
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import psnr
from cola_train.data.clips import TrainingData, fixed_batch
from cola_train.evaluation.video_metrics import moving_pixels


def controllability(
    model: ColaWorldModel, clips: TrainingData, length: int, adapter: bool, count: int = 96
) -> dict[str, float]:
    """Teacher-forced next-frame PSNR (dB) in one sampling step, on the moving pixels.

    Actions of the same clips: ``own`` (the IDM's codes, or the real actions of a "direct" model),
    ``shuffled`` (those of another clip), ``none``, and with ``adapter`` the adapter's, own and
    shuffled; ``copy`` repeats the last frame. ``gap``, own - shuffled, is what the actions are
    worth. ``own_all`` is over all pixels. Codebook health of the IDM's codes (and the adapter's) is
    reported beside them.
    """
    batch = fixed_batch(clips, model, count, length)
    with torch.no_grad(), autocast(model.device):
        return _measure(model, batch.frames, batch.latents, batch.actions, adapter)


def condition_vectors(
    model: ColaWorldModel, frames: Tensor, latents: Tensor, actions: Tensor, adapter: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Vectors (B, T - 1, D) of the actions of clips, "own" and the "adapter"'s, and their codes."""
    if model.config.conditioning == "direct":
        return {"own": model.action_in(actions)}, {}
    own = model.quantizer(model.action_tokens(frames, latents))
    vectors, codes = {"own": own.vectors.flatten(-2)}, {"lam": own.codes}
    if adapter:
        logits = model.adapter(actions, latents[:, :-1])
        vectors["adapter"] = model.adapter.vectors(logits, model.quantizer.codebook).flatten(-2)
        codes["adapter"] = model.adapter.codes(logits)
    return vectors, codes


def _measure(
    model: ColaWorldModel, frames: Tensor, latents: Tensor, actions: Tensor, adapter: bool
) -> dict[str, float]:
    truth = frames.float() / 255
    moving = moving_pixels(truth[:, :-1], truth[:, 1:])
    vectors, codes = condition_vectors(model, frames, latents, actions, adapter)
    vectors["shuffled"] = vectors["own"].roll(1, 0)
    if "adapter" in vectors:
        vectors["adapter_shuffled"] = vectors["adapter"].roll(1, 0)
    vectors["none"] = torch.zeros_like(vectors["own"])

    def score(prediction: Tensor) -> tuple[Tensor, Tensor]:
        error = (prediction - truth[:, 1:]).square().mean(-1)
        return psnr(error[moving].mean()), psnr(error.mean())

    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    results = {"copy": float(score(truth[:, :-1])[0])}
    results["autoencoder"] = float(score(model.decode(latents[:, 1:]))[0])
    for name, actions_in in vectors.items():
        predicted = model.predict_next(latents, actions_in, noise)
        moving_psnr, all_psnr = score(model.decode(predicted))
        results[name] = float(moving_psnr)
        if name == "own":
            results["own_all"] = float(all_psnr)
    results["gap"] = results["own"] - results["shuffled"]
    for name, values in codes.items():
        results |= health_measures(values, model.quantizer.config.num_codes, f"{name}_")
    return results


@dataclass(frozen=True)
class Probe:
    """Held-out coefficient of determination and mean absolute error of every action dimension."""

    r2: list[float]
    l1: list[float]


def linear_probe(
    model: ColaWorldModel,
    train: TrainingData,
    held_out: TrainingData,
    length: int,
    count: int = 1024,
) -> Probe:
    """Fit one linear layer from the quantised latent actions (of ``count`` training clips) to the
    real ones and measure it on held-out clips.

    ``r2`` is that of a ridge regression, ``l1`` that of a layer trained by the L1 loss for 1,000
    steps of 512 samples (CoLA-World, section 4.2 and appendix C.1).
    """
    inputs, actions = _pairs(model, train, length, count)
    test_inputs, test_actions = _pairs(model, held_out, length, count // 4)
    error = (test_inputs @ _ridge(inputs, actions) - test_actions).square().mean(0)
    r2 = 1 - error / test_actions.var(0, correction=0).clamp_min(1e-8)
    l1 = (test_inputs @ _least_absolute(inputs, actions) - test_actions).abs().mean(0)
    return Probe(r2.tolist(), l1.tolist())


@torch.no_grad()
def _pairs(
    model: ColaWorldModel, clips: TrainingData, length: int, count: int
) -> tuple[Tensor, Tensor]:
    """Latent action vectors with a constant (N, D + 1) and real actions (N, A), float64."""
    batch = fixed_batch(clips, model, count, length)
    with autocast(model.device):
        vectors = model.quantizer(model.action_tokens(batch.frames, batch.latents)).vectors
    vectors = vectors.flatten(-2).flatten(0, 1).double()
    constant = torch.ones_like(vectors[:, :1])
    return torch.cat([vectors, constant], dim=1), batch.actions.flatten(0, 1).double()


def _ridge(inputs: Tensor, targets: Tensor, penalty: float = 1e-3) -> Tensor:
    """Least squares; the penalty is for latent actions that do not span their space."""
    gram = inputs.T @ inputs / len(inputs)
    gram += penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram, inputs.T @ targets / len(inputs))


@torch.enable_grad()
def _least_absolute(inputs: Tensor, targets: Tensor, steps: int = 1000) -> Tensor:
    weight = inputs.new_zeros(inputs.shape[1], targets.shape[1]).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (512,), generator=generator, device="cpu")
        optimizer.zero_grad()
        (inputs[rows] @ weight - targets[rows]).abs().mean().backward()
        optimizer.step()
        schedule.step()
    return weight.detach()
