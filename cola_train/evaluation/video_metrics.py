"""Measures of pictures and videos: PSNR, structural similarity (Wang et al., TIP 2004), what moves.

And the Fréchet video distance (Unterthiner et al., arXiv 1812.01717) by StyleGAN-V's I3D network.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from cola_env.errors import ColaWorldError
from cola_env.files import find_user_file

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # of frames in [0, 1]


def moving_pixels(before: Tensor, after: Tensor, threshold: float = 0.05) -> Tensor:
    """Where a picture changed: frames (..., S, S, 3) in [0, 1] -> bool (..., S, S)."""
    return (after - before).abs().amax(-1) > threshold


def ssim_map(frames: Tensor, truth: Tensor) -> Tensor:
    """SSIM around every pixel that is at least 5 from the border, the mean of the channels.

    Local means and variances are those under a Gaussian window of 11 x 11, sigma 1.5.

    Args:
        frames, truth: (..., S, S, 3) in [0, 1].

    Returns:
        (..., S - 10, S - 10) in [-1, 1].
    """
    shape = frames.shape[:-3]
    x, y = (each.flatten(0, -4).movedim(-1, 1).double() for each in (frames, truth))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (luminance * structure).mean(1).unflatten(0, shape)


def _blur(images: Tensor) -> Tensor:
    """images (B, C, H, W) -> (B, C, H - 10, W - 10)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=images.dtype, device=images.device) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    channels = images.shape[1]
    kernel = weights.expand(channels, 1, -1)
    images = conv2d(images, kernel[:, :, :, None], groups=channels)
    return conv2d(images, kernel[:, :, None, :], groups=channels)


I3D_SIZE = 224


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians that fit two sets of features.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau, 1982). Few samples bias it up:
    state how many there were.

    Args:
        first, second: features (N, D) and (M, D), N, M >= 2.

    Raises:
        ColaWorldError: fewer than two samples, or features that are not finite.
    """
    for features in (first, second):
        if features.ndim != 2 or len(features) < 2 or not features.isfinite().all():
            raise ColaWorldError(
                "A Fréchet distance takes at least 2 samples of finite features (N, D), "
                f"not {tuple(features.shape)}."
            )
    first, second = first.double(), second.double()
    difference = first.mean(0) - second.mean(0)
    cov1, cov2 = first.T.cov(), second.T.cov()
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # (C1 C2) has the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2).
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp_min(0).sqrt().sum()
    return float(difference.square().sum() + cov1.trace() + cov2.trace() - 2 * cross)


class VideoFeatures:
    """The features of clips by the I3D network of StyleGAN-V, from a TorchScript file of the user.

    Args:
        path: the file ``i3d_torchscript.pt``.
        sha256: what its SHA-256 must begin with; None: any file.

    Raises:
        ColaWorldError: no such file, another hash, or no TorchScript.
    """

    def __init__(self, path: str | Path, sha256: str | None = None) -> None:
        what = "FVD needs the I3D network of StyleGAN-V (i3d_torchscript.pt)"
        file = find_user_file(path, what, sha256)
        try:
            self.network = torch.jit.load(str(file), map_location="cpu").eval()
        except RuntimeError as error:
            raise ColaWorldError(
                f"{file} is no TorchScript ({str(error).splitlines()[0]}): download it again."
            ) from error

    @torch.no_grad()
    def __call__(self, clips: Tensor, batch: int = 8) -> Tensor:
        """clips (B, T, S, S, 3) in [0, 1], T >= 9 -> features (B, 400) float32."""
        return torch.cat([self._features(part) for part in clips.split(batch)])

    def _features(self, clips: Tensor) -> Tensor:
        images = clips.flatten(0, 1).movedim(-1, 1).cpu()
        images = interpolate(images, (I3D_SIZE, I3D_SIZE), mode="bilinear", align_corners=False)
        video = images.unflatten(0, clips.shape[:2]).transpose(1, 2) * 2 - 1
        features = self.network(video, rescale=False, resize=False, return_features=True)
        return features.float().cpu()


def frechet_video_distance(frames: Tensor, truth: Tensor, features: VideoFeatures) -> float:
    """FVD between two sets of clips (N, T, S, S, 3) in [0, 1]."""
    return frechet_distance(features(frames), features(truth))
