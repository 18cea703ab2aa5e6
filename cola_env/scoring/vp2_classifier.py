"""VP2's own success classifiers, unchanged: `<task>.pt`, a network a task.

Source: Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023), repository
s-tian/vp2; the layout is that of its `cost_classifiers/<task>.pt`.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.worlds import ROBODESK_TASKS

IMAGE_SIZE = 64
WIDTH = 32
RENDERING = "vp2"
SUFFIX = ".pt"
DAMAGE = (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError, OSError)


class Residual(nn.Module):
    """x + Conv(ReLU(Conv(x)))."""

    def __init__(self) -> None:
        super().__init__()
        self.cnv = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's features."""
        return x + self.cnv(x)


class VP2Network(nn.Module):
    """One task's network; the names of its weights are VP2's."""

    def __init__(self) -> None:
        super().__init__()
        blocks = (layer for _ in range(3) for layer in (Residual(), nn.ReLU()))
        self.net = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1),
            *blocks,
            nn.Conv2d(WIDTH, 3, 3, padding=1),
            nn.Flatten(),
            nn.Linear(3 * IMAGE_SIZE**2, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of float images (B, 3, 64, 64) in [0, 1]."""
        return self.net(images)[:, 0]


class VP2Classifier(nn.Module):
    """VP2's networks of some tasks, as a `TaskClassifier`. They run in float32, as in VP2."""

    rendering = RENDERING
    discount = 0.0
    threshold = 0.5

    def __init__(self, networks: dict[str, VP2Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that there are weights for."""
        return tuple(self.networks)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def logit(self, frames: Tensor, task: str, chunk: int = 64) -> Tensor:
        """Success logit (...) of float frames (..., 64, 64, 3) in [0, 1] for one of `tasks`."""
        images = frames.reshape(-1, *frames.shape[-3:]).movedim(-1, 1).float()
        with torch.autocast(frames.device.type, enabled=False):
            logits = [self.networks[task](part) for part in images.split(chunk)]
        return torch.cat(logits).reshape(frames.shape[:-3])


def classifier_files(folder: Path) -> dict[str, Path]:
    """{task: file} of the VP2 classifiers in a folder; {} when there are none."""
    files = {task: folder / f"{task}{SUFFIX}" for task in ROBODESK_TASKS}
    return {task: file for task, file in files.items() if file.is_file()}


def load_vp2_classifier(folder: Path) -> VP2Classifier:
    """The classifiers of all tasks in the folder, ready for inference.

    Raises ColaWorldError for a file that is damaged or holds another network.
    """
    networks = {task: _load(file) for task, file in classifier_files(folder).items()}
    return VP2Classifier(networks).eval().requires_grad_(False)


def _load(file: Path) -> VP2Network:
    network = VP2Network()
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except DAMAGE as error:
        told = (str(error).split("\n")[0] or type(error).__name__).rstrip(":. ")
        raise ColaWorldError(
            f"{file} is no classifier of VP2 or is damaged ({told}); it needs the state_dict of "
            "its ConvPredictor, from net.0.weight to net.11.bias."
        ) from error
    return network
