"""A policy of many tasks: the action that a frame asks for, by one small convolutional network."""

from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from cola_env.checkpoints import POLICY, find_checkpoint, load_weights
from cola_env.errors import ColaWorldError
from cola_env.models.image_trunk import TRUNK_FEATURES, image_trunk, trunk_input
from cola_env.models.loading import pick_device
from cola_env.models.precision import autocast
from cola_env.worlds import ROBODESK, WorldInfo


class VisualPolicy(ModelMixin, ConfigMixin):
    """One shared trunk, one head of actions a task, on 64 x 64 RGB. It sees no goal image.

    tasks: names of the heads, in order.
    action_dim: A.
    rendering: profile of the frames it was trained on.
    latent: whether its actions are latent ones, which no robot takes (`cola clone latent=`).
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        tasks: tuple[str, ...],
        action_dim: int = 5,
        rendering: str = "fast",
        width: int = 32,
        latent: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = image_trunk(width)
        self.heads = nn.Linear(TRUNK_FEATURES * width, len(tasks) * action_dim)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.config["tasks"])

    def head(self, task: str) -> int:
        """Index of a task's head; ColaWorldError when the task has none."""
        if task not in self.tasks:
            raise ColaWorldError(
                f"This policy does not know the task '{task}', only {', '.join(self.tasks)}: train "
                "one with 'cola clone data=FOLDER out=FOLDER'."
            )
        return self.tasks.index(task)

    def forward(self, frames: Tensor) -> Tensor:
        """Actions (B, tasks, A) of float frames (B, 64, 64, 3) in [0, 1], not yet clipped."""
        found: Tensor = self.heads(self.trunk(trunk_input(frames.to(self.dtype))))
        return found.unflatten(-1, (len(self.tasks), -1))

    @torch.no_grad()
    def act(self, frames: Tensor, task: str) -> Tensor:
        """Actions float32 (B, A) in [-1, 1] for a task, of uint8 frames (B, 64, 64, 3).

        Raises ColaWorldError for a policy whose actions are latent ones."""
        if self.config.latent:
            raise ColaWorldError(
                "This policy knows latent actions alone: give it real ones by 'cola clone "
                "init=FOLDER data=LABELLED episodes=50'."
            )
        with autocast(self.device):
            actions = self(frames.to(self.device).float() / 255)[:, self.head(task)]
        return actions.float().clamp(-1, 1)


def load_policy(
    checkpoint: str | Path = POLICY,
    device: str | torch.device = "auto",
    world: str | WorldInfo = ROBODESK,
) -> VisualPolicy:
    """Load a policy for inference: "policy", the shipped one of `world`, a folder, the `out` of
    `cola clone` (its last stage), or a hub id.

    Raises ColaWorldError when there is none, or its files are damaged.
    """
    policy = load_weights(VisualPolicy, find_checkpoint(checkpoint, world))
    return policy.eval().requires_grad_(False).to(pick_device(device))
