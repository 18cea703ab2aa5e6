"""The small convolutional network that looks at one frame: for success classifiers and policies."""

from torch import Tensor, nn

TRUNK_FEATURES = 3
"""Times the width are the features that come out."""


def image_trunk(width: int) -> nn.Sequential:
    """64 x 64 RGB in [-1, 1], (B, 3, 64, 64), to features (B, 3 * width).

    The last feature map is flattened, not pooled: what is seen is about where things are.
    """
    return nn.Sequential(
        nn.Conv2d(3, width, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(width, width + width // 2, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width + width // 2, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * width, TRUNK_FEATURES * width),
        nn.ReLU(),
    )


def trunk_input(frames: Tensor) -> Tensor:
    """Frames (B, 64, 64, 3) in [0, 1] as the trunk takes them."""
    return (2 * frames - 1).permute(0, 3, 1, 2)
