"""Phase: train the image autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips
from cola_train.evaluation.pixels import psnr
from cola_train.phases.phase import Logs, Phase


@dataclass
class Reconstruction(Phase):
    """Pixels that differ from the median picture of the data (the movable things) weigh
    ``object_weight`` times more; Gaussian noise of ``latent_noise`` standard deviations on the
    latents makes the decoder forgive small errors of the world model."""

    object_weight: float = 8.0
    latent_noise: float = 0.05
    latent_penalty: float = 1e-3
    _background: Tensor | None = field(default=None, init=False, repr=False)

    def loss(
        self, model: ColaWorldModel, clips: Clips, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Logs]:
        if self._background is None:
            picks = clips.frames[:: max(1, clips.episodes // 64), ::5].flatten(0, 1)
            self._background = picks.float().median(0).values / 255
        frames = clips.sample_frames(self.batch_size, generator).float() / 255
        differs = ((frames - self._background).abs().amax(-1, keepdim=True) > 0.1).float()
        weight = 1 + (self.object_weight - 1) * differs
        frames, weight = frames.to(model.device), weight.to(model.device)
        latents = model.autoencoder.encode(frames.movedim(-1, 1)).float()
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        decoded = model.autoencoder.decode(latents + self.latent_noise * noise).movedim(1, -1)
        error = decoded.float() - frames
        loss = (weight * (error.abs() + 2 * error.square())).mean()
        loss = loss + self.latent_penalty * latents.square().mean()
        return loss, {"psnr": float(psnr(error.detach().square().mean()))}

    @torch.no_grad()
    def evaluate(self, model: ColaWorldModel, held_out: Clips) -> Logs:
        frames = held_out.frames[:, ::4].flatten(0, 1)[:256].to(model.device)
        error = model.decode(model.encode(frames)) - frames.float() / 255
        return {"held_out_psnr": float(psnr(error.square().mean()))}

    @torch.no_grad()
    def finish(self, model: ColaWorldModel, clips: Clips) -> None:
        """Standardise the latents with the statistics of the data."""
        frames = clips.frames[:, ::5].flatten(0, 1)[::8].to(model.device)
        latents = torch.cat([model.encode(part) for part in frames.split(256)])
        coder = model.autoencoder
        coder.latent_mean += latents.mean((0, 2, 3)) * coder.latent_std
        coder.latent_std *= latents.std((0, 2, 3))
