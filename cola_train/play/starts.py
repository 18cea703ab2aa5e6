"""Where an episode can begin: at a shipped pair of start and goal, or in held-out video."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from cola_env.envs.dream import Dream
from cola_env.envs.starts import CONTEXT
from cola_env.errors import ColaWorldError
from cola_env.goals.loading import load_goals
from cola_env.worlds import OWN
from cola_train.trained_models import data_of

CLIPS, LENGTH = 12, 8
"""Of held-out video: how many starts, and frames from start to goal."""


class Starts(Protocol):
    """tasks: those of the menu. count: of the present task's starts."""

    tasks: tuple[str, ...]
    count: int

    def options(self, index: int) -> dict[str, Any]:
        """Reset options of the dream, and where there is a twin of the twin."""
        ...


class Pairs:
    """The shipped pairs of a task."""

    def __init__(self, dream: Dream) -> None:
        goals = load_goals(str(dream.config["rendering"]), world=dream.world)
        self.tasks = goals.tasks
        self.count = len(goals.of(dream.task))

    def options(self, index: int) -> dict[str, Any]:
        return {"pair": index}


class Clips:
    """Held-out clips of the data that a model was trained on, or of other `data`."""

    tasks: tuple[str, ...] = OWN.goal_tasks

    def __init__(self, dream: Dream, checkpoint: str | None, data: Any) -> None:
        """Raises ColaWorldError where nothing says which data."""
        if checkpoint is None:
            raise ColaWorldError("Playing in a video of your own needs its model: checkpoint=RUN.")
        held_out = data_of(Path(checkpoint), data).split("test", dream.image_size)
        batch = held_out.sample(CLIPS, LENGTH, torch.Generator().manual_seed(0))
        self.frames = batch.frames.numpy()
        self.actions = batch.actions.numpy() if dream.action_mode == "direct" else None
        self.count = len(self.frames)

    def options(self, index: int) -> dict[str, Any]:
        clip = self.frames[index]
        start = {"frame": clip[:CONTEXT], "goal": clip[-1]}
        if self.actions is None:
            return start
        return start | {"actions": self.actions[index][: CONTEXT - 1]}
