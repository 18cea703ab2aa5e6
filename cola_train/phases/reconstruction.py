"""Phase: train the image autoencoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import psnr
from cola_train.data.clips import ClipBatch, TrainingData
from cola_train.phases.phase import Logs, Loss, Phase, Prepared, Step

STILLS = 512
"""At most so many frames stand for the data when a statistic of it is taken."""


@dataclass
class Reconstruction(Phase):
    """Pixels that differ from the median picture of the data (the movable things) weigh
    ``object_weight`` times more; Gaussian noise of ``latent_noise`` standard deviations on the
    latents makes the decoder forgive small errors of the world model."""

    on_latents = False

    object_weight: float = 8.0
    latent_noise: float = 0.05
    latent_penalty: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("object_weight", "latent_noise", "latent_penalty"):
            value = getattr(self, name)
            self.check(name, 0 <= value < math.inf, "a number of at least 0")

    def prepare(self, train: TrainingData) -> Prepared:
        stills = some_frames(train, 0)
        return Prepared(train, background=stills.median(0).values.float() / 255)

    def draw(self, data: TrainingData, generator: torch.Generator, count: int) -> ClipBatch:
        frames = data.sample_frames(count, generator)
        return ClipBatch(frames[:, None], torch.empty(0), torch.zeros(len(frames), 0, 0))

    def loss(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> Loss:
        """The batch holds single frames (B, 1, S, S, 3)."""
        background = step.prepared.background
        assert background is not None
        frames = batch.frames[:, 0].float() / 255
        differs = (frames - background.to(frames)).abs().amax(-1, keepdim=True) > 0.1
        weight = 1 + (self.object_weight - 1) * differs.float()
        latents = model.autoencoder.encode(frames.movedim(-1, 1)).float()
        noise = torch.randn(latents.shape, generator=step.generator).to(latents)
        decoded = model.autoencoder.decode(latents + self.latent_noise * noise).movedim(1, -1)
        error = decoded.float() - frames
        loss = (weight * (error.abs() + 2 * error.square())).mean()
        loss = loss + self.latent_penalty * latents.square().mean()
        return Loss(loss, {"psnr": float(psnr(error.detach().square().mean()))})

    @torch.no_grad()
    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, prepared: Prepared) -> Logs:
        frames = some_frames(held_out, 0)[:256].to(model.device)
        error = model.decode(model.encode(frames)) - frames.float() / 255
        return {"held_out_psnr": float(psnr(error.square().mean()))}

    @torch.no_grad()
    def finish(self, model: ColaWorldModel, train: TrainingData) -> None:
        """Standardise the latents with the statistics of the data."""
        stills = some_frames(train, 1)
        latents = torch.cat([model.encode(part.to(model.device)) for part in stills.split(256)])
        coder = model.autoencoder
        coder.latent_mean += latents.mean((0, 2, 3)) * coder.latent_std
        coder.latent_std *= latents.std((0, 2, 3))


def some_frames(data: TrainingData, seed: int) -> Tensor:
    """Frames (n, S, S, 3) uint8, the same for every call."""
    count = min(STILLS, data.num_frames)
    return data.sample_frames(count, torch.Generator().manual_seed(seed))
