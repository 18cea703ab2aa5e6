"""A small image autoencoder: the mini model's stand-in for Open-Sora's VAE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError


@dataclass(frozen=True)
class AutoencoderConfig:
    """A frame (3, S, S) becomes a latent (latent_channels, S / 8, S / 8).

    ``kind``: "convolutions", or "pixels": the latents are the frame itself, (3, S, S) in [-1, 1],
    and there is nothing to train.
    ``channels``: of the features at S / 2, S / 4 and S / 8. ``decoder_blocks``: residual blocks of
    the decoder at S / 8, where they cost least.
    """

    kind: str = "convolutions"
    latent_channels: int = 16
    channels: tuple[int, int, int] = (32, 64, 96)
    decoder_blocks: int = 2

    def __post_init__(self) -> None:
        if self.kind not in ("convolutions", "pixels"):
            raise ColaWorldError(
                f"autoencoder_config.kind must be convolutions or pixels, not {self.kind!r}."
            )

    @property
    def pixels_per_latent(self) -> int:
        """Along each side."""
        return 1 if self.kind == "pixels" else 8


class ResidualBlock(nn.Module):
    """Two convolutions over 3 x 3 beside the identity, (B, channels, h, w) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Autoencoder(nn.Module):
    """Convolutional autoencoder with 8x spatial compression and unit-variance latents.

    The latents are standardised per channel with statistics measured after training (the role of a
    VAE's scaling factor), so that noise of unit variance suits them.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        low, mid, high = config.channels
        latent = config.latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, low, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(low, mid, 4, stride=2, padding=1),
            ResidualBlock(mid),
            nn.Conv2d(mid, high, 4, stride=2, padding=1),
            ResidualBlock(high),
            nn.Conv2d(high, latent, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, high, 3, padding=1),
            *(ResidualBlock(high) for _ in range(config.decoder_blocks)),
            nn.Conv2d(high, 4 * mid, 1),
            nn.PixelShuffle(2),
            ResidualBlock(mid),
            nn.Conv2d(mid, 4 * low, 3, padding=1),
            nn.PixelShuffle(2),
            ResidualBlock(low),
            nn.Conv2d(low, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(latent))
        self.register_buffer("latent_std", torch.ones(latent))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, frames: Tensor) -> Tensor:
        """frames (B, 3, S, S) in [0, 1] -> standardised latents (B, C, S / 8, S / 8)."""
        images = frames.contiguous(memory_format=torch.channels_last) * 2 - 1
        latents = self.encoder(images.to(self.latent_mean.dtype))
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B, C, S / 8, S / 8) -> frames (B, 3, S, S), about [0, 1]."""
        latents = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        latents = latents.contiguous(memory_format=torch.channels_last)
        latents = latents.to(self.latent_mean.dtype)
        return (self.decoder(latents) + 1) / 2


class Pixels(nn.Module):
    """In the place of an autoencoder: frames in [0, 1] as latents in [-1, 1], of the same shape."""

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, S, S) as latents."""
        return frames * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, 3, S, S) as frames."""
        return (latents + 1) / 2
