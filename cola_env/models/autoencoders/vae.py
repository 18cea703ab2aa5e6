"""Open-Sora v1.2's VAE: a 2D SDXL-type autoencoder, then the temporal VAE on its latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.from_diffusers import from_diffusers
from cola_env.models.autoencoders.temporal_vae import TemporalVAE, TemporalVAEConfig

SCALING_FACTOR = 0.18215
SHIFT = (-0.10, 0.34, 0.27, 0.98)
SCALE = (3.85, 2.32, 2.33, 3.06)
VAE_PIXELS = 8  # that a latent stands for, along each side
AT_ONCE = 4  # frames that the 2D autoencoder takes at once


@dataclass(frozen=True)
class VAEConfig:
    """``micro_frame_size``: frames that are encoded together. 1, the default and what Open-Sora
    does with images: one latent for each frame and action, and no frame sees a later one. 17, for
    its videos: 4k + 1 frames give k + 1 latents, of which latent i > 0 stands for the frames
    4i - 3 to 4i, and so for the four actions that lead to them (``group_actions``).
    ``spatial``, ``temporal``: settings of the two parts that differ from the published ones.
    """

    micro_frame_size: int = 1
    spatial: dict[str, Any] = field(default_factory=dict)
    temporal: dict[str, Any] = field(default_factory=dict)

    @property
    def frames_per_latent(self) -> int:
        """Frames, and actions, that a latent stands for."""
        return 1 if self.micro_frame_size == 1 else TemporalVAEConfig().frames_per_latent


class OpenSoraVAE(nn.Module):
    """Frames in [0, 1] <-> latents of about unit variance, 8 times smaller.

    Encodes to the mean of the posterior where Open-Sora draws from it, so that latents can be kept.
    Source: hpcai-tech/OpenSora-VAE-v1.2. 83,653,863 and 309,687,144 parameters.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        if config.micro_frame_size not in (1, 17):
            raise ColaWorldError(
                f"vae_config.micro_frame_size must be 1 or 17, not {config.micro_frame_size}."
            )
        widths = config.spatial.get("block_out_channels", (128, 256, 512, 512))
        sizes = {"layers_per_block": 2, "latent_channels": 4, "scaling_factor": SCALING_FACTOR}
        self.spatial_vae = from_diffusers("models.autoencoders").AutoencoderKL(
            **(sizes | config.spatial | {"block_out_channels": tuple(widths)}),
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
        )
        self.temporal_vae = TemporalVAE(TemporalVAEConfig(**config.temporal))

    def encode(self, frames: Tensor) -> Tensor:
        """Single frames (N, 3, S, S) in [0, 1] -> latents (N, 4, S / 8, S / 8) float32."""
        return self.encode_clip(frames[:, :, None])[:, :, 0]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, 4, h, w) of single frames -> frames (N, 3, 8h, 8w), about [0, 1]."""
        return self.decode_clip(latents[:, :, None], frames=1)[:, :, 0]

    def encode_clip(self, clip: Tensor) -> Tensor:
        """clip (B, 3, T, S, S) in [0, 1] -> latents (B, 4, T', S / 8, S / 8) float32.

        T' is T for ``micro_frame_size`` 1, else (T - 1) / 4 + 1.

        Raises:
            ColaWorldError: clips that give no whole latents.
        """
        self.check_length(clip.shape[2])
        images = rearrange(clip, "b c t h w -> (b t) c h w") * 2 - 1
        images = images.to(self.spatial_vae.dtype)
        parts = [self.spatial_vae.encode(x).latent_dist.mode() for x in images.split(AT_ONCE)]
        z = rearrange(torch.cat(parts), "(b t) c h w -> b c t h w", b=len(clip)) * SCALING_FACTOR
        chunks = z.split(self.config.micro_frame_size, dim=2)
        latents = torch.cat([self.temporal_vae.encode(x).mode() for x in chunks], dim=2).float()
        return (latents - per_channel(latents, SHIFT)) / per_channel(latents, SCALE)

    def decode_clip(self, latents: Tensor, frames: int) -> Tensor:
        """latents (B, 4, T', h, w) of ``frames`` frames -> clip (B, 3, frames, 8h, 8w).

        Raises:
            ColaWorldError: clips that no whole latents stand for.
        """
        self.check_length(frames)
        latents = latents * per_channel(latents, SCALE) + per_channel(latents, SHIFT)
        latents = latents.to(self.spatial_vae.dtype)
        micro, parts = self.config.micro_frame_size, []
        chunk = -(-micro // self.temporal_vae.config.frames_per_latent)
        for i, z in enumerate(latents.split(chunk, dim=2)):
            parts.append(self.temporal_vae.decode(z, min(micro, frames - i * micro)))
        images = rearrange(torch.cat(parts, dim=2), "b c t h w -> (b t) c h w") / SCALING_FACTOR
        decoded = torch.cat([self.spatial_vae.decode(x).sample for x in images.split(AT_ONCE)])
        return (rearrange(decoded, "(b t) c h w -> b c t h w", b=len(latents)).float() + 1) / 2

    def check_length(self, frames: int) -> None:
        """Under compression in time, raises ColaWorldError but for 4k + 1 <= 33 frames."""
        if self.config.frames_per_latent > 1 and (frames % 4 != 1 or frames > 33):
            raise ColaWorldError(
                f"Under compression in time clips have 4k + 1 <= 33 frames, not {frames}."
            )


def per_channel(latents: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=latents.device)[:, None, None, None]


def group_actions(actions: Tensor, frames_per_latent: int) -> Tensor:
    """Actions between the frames of a clip -> actions between its latents.

    actions (B, T - 1, D), T = frames_per_latent * k + 1 -> (B, k, frames_per_latent * D).

    Raises:
        ColaWorldError: another number of frames.
    """
    if actions.shape[1] % frames_per_latent:
        raise ColaWorldError(
            f"A clip whose latents stand for {frames_per_latent} frames each has "
            f"{frames_per_latent}k + 1 frames, not {actions.shape[1] + 1}."
        )
    return rearrange(actions, "b (k n) d -> b k (n d)", n=frames_per_latent)
