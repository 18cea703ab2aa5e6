"""Controllability: next-frame PSNR under own, shuffled and no actions, and the gap between them."""

from __future__ import annotations

import torch
from torch import Tensor

from cola_env.models.latent_action.codebook import health_measures
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData
from cola_train.evaluation.pixels import moving_pixels, psnr


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
    batch = clips.sample(count, length, torch.Generator().manual_seed(0))
    batch = batch.to(model.device).encoded(model)
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
        vectors["adapter"] = model.adapter.vectors(logits, model.quantizer.code_vectors).flatten(-2)
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
