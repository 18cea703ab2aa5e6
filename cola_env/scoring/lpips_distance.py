"""Learned perceptual distance (Zhang et al., arXiv 1801.03924) by the package lpips."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.files import find_user_file

ALEXNET = "alexnet-owt-7be5be79.pth"
# (in channels, out channels, kernel, stride, padding) of AlexNet's convolutions; a max pool of 3,
# stride 2, stands before the second and the third.
CONVOLUTIONS = (
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)
TORCHVISION_PLACES = (0, 3, 6, 8, 10)  # of these layers in torchvision's `features`
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """LPIPS v0.1 on AlexNet, without torchvision.

    Its linear heads are those that lie in the package ``lpips`` (the extra ``metrics``), AlexNet's
    weights those of torchvision's file, which carries its hash in its name.

    Raises:
        ColaWorldError: no package lpips, no such file, or another hash.
    """

    def __init__(self, alexnet: str | Path) -> None:
        super().__init__()
        spec = importlib.util.find_spec("lpips")
        if spec is None or spec.origin is None:
            raise ColaWorldError("LPIPS needs the package lpips: pip install lpips==0.1.4.")
        heads = Path(spec.origin).parent / "weights" / "v0.1" / "alex.pth"
        self.convolutions = nn.ModuleList(
            nn.Conv2d(into, out, kernel, stride, padding)
            for into, out, kernel, stride, padding in CONVOLUTIONS
        )
        weights = torch.load(checked(alexnet), map_location="cpu", weights_only=True)
        for place, layer in zip(TORCHVISION_PLACES, self.convolutions, strict=True):
            prefix = f"features.{place}."
            layer.load_state_dict(
                {name: weights[prefix + name] for name in ("weight", "bias")}, strict=True
            )
        lines = torch.load(heads, map_location="cpu", weights_only=True)
        self.heads = [lines[f"lin{i}.model.1.weight"] for i in range(len(CONVOLUTIONS))]
        self.requires_grad_(False).eval()

    def forward(self, frames: Tensor, truth: Tensor) -> Tensor:
        """frames, truth (B, S, S, 3) in [0, 1] -> distances (B,), 0 for equal frames."""
        return self.distance(self.features(frames), self.features(truth))

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distances (B,) between what `features` made of B images each."""
        parts = (
            ((x - y).square() * head.to(x)).sum(1).mean((1, 2))
            for x, y, head in zip(first, second, self.heads, strict=True)
        )
        return torch.stack([*parts]).sum(0)

    def features(self, frames: Tensor) -> list[Tensor]:
        """Of images (B, S, S, 3) in [0, 1]: what every convolution sees, of unit length at every
        place."""
        x = frames.movedim(-1, 1) * 2 - 1
        shift, scale = (x.new_tensor(part)[:, None, None] for part in (MEAN, STD))
        x, found = (x - shift) / scale, []
        for i, layer in enumerate(self.convolutions):
            if i in (1, 2):
                x = nn.functional.max_pool2d(x, 3, 2)
            x = layer(x).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found


def checked(path: str | Path) -> Path:
    """``path`` if its SHA-256 begins as torchvision's file name says; else ColaWorldError."""
    sha256 = ALEXNET.removesuffix(".pth").rpartition("-")[2]
    return find_user_file(path, f"LPIPS needs torchvision's weights {ALEXNET}", sha256)
