"""Does a frame show that a task is solved? One small convolutional network for all VP2 tasks."""

import json
from pathlib import Path
from typing import Protocol, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.image_trunk import TRUNK_FEATURES, image_trunk, trunk_input
from cola_env.models.precision import autocast
from cola_env.scoring.vp2_classifier import (
    IMAGE_SIZE,
    VP2Classifier,
    classifier_files,
    load_vp2_classifier,
)
from cola_env.worlds import ROBODESK, VP2_TASKS, WorldInfo, find_world


class TaskClassifier(Protocol):
    """Whatever tells how likely frames show that a task is solved: ours, VP2's, or several.

    rendering: profile of the frames that it knows.
    discount: in [0, 1). Above 0 the logits are not those of success but of
        discount ** (actions until success): a value function.
    threshold: in [0, 1), the probability above which a dream takes a task for solved.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it knows."""

    @property
    def rendering(self) -> str:
        """The rendering profile of the frames that it knows."""

    @property
    def discount(self) -> float:
        """0 for success; above 0 for a value function."""

    @property
    def threshold(self) -> float:
        """The probability from which on a frame counts as a success."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def to(self, device: torch.device, /) -> Self:
        """Move it."""

    def logit(self, frames: Tensor, task: str) -> Tensor:
        """Success logit (...) of float frames (..., 64, 64, 3) in [0, 1] for one of `tasks`."""
        ...


def check_task(classifier: TaskClassifier, task: str) -> None:
    """Raises ColaWorldError when the classifier does not know the task."""
    if task not in classifier.tasks:
        raise ColaWorldError(
            f"There is no success classifier for task '{task}' (only for "
            f"{', '.join(classifier.tasks)}); pass reward='mse' or a Reward of your own."
        )


def check_frames(classifier: TaskClassifier, rendering: str, image_size: int) -> None:
    """Raises ColaWorldError when the classifier knows frames of another profile or size."""
    if (classifier.rendering, IMAGE_SIZE) != (rendering, image_size):
        raise ColaWorldError(
            f"The success classifier knows frames of rendering profile {classifier.rendering!r} "
            f"and {IMAGE_SIZE} px, not of {rendering!r} and {image_size} px: use those, or pass "
            "reward='mse' or a Reward of your own."
        )


class SuccessClassifier(ModelMixin, ConfigMixin):
    """One shared trunk, one success logit a task, on 64 x 64 RGB.

    The role of VP2's per-task cost classifiers (s-tian/vp2), a fiftieth of their size.

    tasks: names of the logits, in order.
    rendering: profile of the frames it was trained on ("fast" or "vp2").
    discount, threshold: see TaskClassifier.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        tasks: tuple[str, ...] = VP2_TASKS,
        rendering: str = "fast",
        width: int = 32,
        discount: float = 0.0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.trunk = image_trunk(width)
        self.heads = nn.Linear(TRUNK_FEATURES * width, len(tasks))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it knows."""
        return tuple(self.config["tasks"])

    @property
    def rendering(self) -> str:
        """The rendering profile of the frames that it knows."""
        return str(self.config["rendering"])

    @property
    def discount(self) -> float:
        """0 for success; above 0 for a value function."""
        return float(self.config["discount"])

    @property
    def threshold(self) -> float:
        """The probability from which on a frame counts as a success."""
        return float(self.config["threshold"])

    def head(self, task: str) -> int:
        """Index of a task's logit; ColaWorldError when the task has none."""
        check_task(self, task)
        return self.tasks.index(task)

    def logit(self, frames: Tensor, task: str) -> Tensor:
        """Success logit (...) of float frames (..., 64, 64, 3) in [0, 1] for one task."""
        with autocast(frames.device):
            logits: Tensor = self(frames)
        return logits[..., self.head(task)].to(frames.dtype)

    def forward(self, frames: Tensor, chunk: int = 64) -> Tensor:
        """Logits (..., tasks) of float frames (..., 64, 64, 3) in [0, 1], `chunk` at a time: on a
        CPU so few that their features stay in its cache."""
        images = frames.reshape(-1, *frames.shape[-3:]).to(self.dtype)
        logits = [self.heads(self.trunk(trunk_input(part))) for part in images.split(chunk)]
        return torch.cat(logits).reshape(*frames.shape[:-3], -1)


def find_classifier(
    checkpoint: str | Path | None = None, world: str | WorldInfo = ROBODESK
) -> Path | None:
    """Folder of the classifiers that belong to a checkpoint, or None when there are none.

    checkpoint: the classifiers' own folder (ours, or VP2's `<task>.pt`), or a world model's folder
        that holds `classifiers/` or lies beside it; with None, or with none there, the shipped
        ones of `world` (a name or a WorldInfo).
    Raises ColaWorldError when `checkpoint` is no folder.
    """
    shipped = find_world(world).assets / "classifiers"
    places = [shipped]
    if checkpoint is not None:
        folder = Path(checkpoint).expanduser()
        if not folder.is_dir():
            raise ColaWorldError(
                f"There is no folder {folder} to take success classifiers from; give one that "
                "holds them, or none for the shipped ones."
            )
        places = [folder, folder / "classifiers", folder.parent / "classifiers", shipped]
    return next((place for place in places if is_classifier(place)), None)


def load_classifier(
    checkpoint: str | Path | None = None, world: str | WorldInfo = ROBODESK
) -> SuccessClassifier | VP2Classifier:
    """Load the classifiers of a checkpoint and world (see find_classifier), ready for inference.

    Raises ColaWorldError when there is no such folder, when it holds none and none are shipped, or
    when their files are damaged.
    """
    from cola_env.checkpoints import load_weights

    world = find_world(world)
    folder = find_classifier(checkpoint, world)
    if folder is None:
        raise ColaWorldError(
            f"There are no success classifiers in {checkpoint or world.assets}; train them with "
            "'python -m cola_train.classifier data=FOLDER out=FOLDER' or pass reward='mse'."
        )
    if classifier_files(folder):
        return load_vp2_classifier(folder)
    return load_weights(SuccessClassifier, folder).eval().requires_grad_(False)


def classifier_weights(folder: Path) -> list[Path]:
    """The files that hold the weights of a classifier's folder."""
    return [*classifier_files(folder).values()] or sorted(folder.glob("*.safetensors"))


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds classifiers, of ours or of VP2's."""
    if classifier_files(folder):
        return True
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") == SuccessClassifier.__name__
