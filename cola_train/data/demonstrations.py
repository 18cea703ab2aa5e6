"""Frames and the actions that demonstrations of tasks took there, for cloning their behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.worlds import WORLDS
from cola_train.console import progress_bar
from cola_train.data.action_scale import ActionScale
from cola_train.data.labelled_frames import JoinedDataset
from cola_train.data.lerobot import RecordedEpisode
from cola_train.data.video import square


@dataclass(frozen=True)
class Demonstrations:
    """frames: uint8 (n, S, S, 3), each before its action; actions: float32 (n, A) in [-1, 1];
    heads: int64 (n,), the number of its task; episodes: int64 (n,), the number of its episode."""

    frames: Tensor
    actions: Tensor
    heads: Tensor
    episodes: Tensor

    def probabilities(self) -> Tensor:
        """Chance (n,) of each frame under: a random task, then a random frame of it."""
        counts = self.heads.bincount()
        return 1 / (counts.count_nonzero() * counts[self.heads])


def demonstrated_tasks(dataset: JoinedDataset, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks to clone: `tasks`, or those that the episodes are of.

    Of a world of ours these are its tasks alone: an episode of "play" shows none. Raises
    ColaWorldError for a task that no episode is of.
    """
    there = tuple(dict.fromkeys(map(dataset.task, range(dataset.num_episodes))))
    if tasks is None:
        world = WORLDS.get(str(dataset.info.get("robot_type")))
        tasks = there if world is None else [task for task in world.tasks if task in there]
    if missing := [task for task in tasks if task not in there] or not tasks:
        raise ColaWorldError(
            f"No episode of {dataset.path} is of {missing if tasks else 'a task of its world'}: "
            f"choose tasks= among {', '.join(there)}."
        )
    return tuple(tasks)


def load_demonstrations(
    dataset: JoinedDataset,
    episodes: NDArray[np.int64],
    tasks: Sequence[str],
    size: int,
    scale: ActionScale,
) -> Demonstrations:
    """The episodes of `tasks`, as square frames of `size` pixels, with the actions that were
    intended where the dataset has them: without the noise that moved the arm off its way.

    Where the dataset says which states fulfil a task, an episode counts if it solves its own, up to
    the action that does; else the whole episode counts. Raises ColaWorldError for episodes without
    actions, or actions that leave [-1, 1], and where no episode counts.
    """
    columns = [str(task) for task in dataset.info.get("tasks", [])]
    frames, actions, heads, numbers = [], [], [], []
    chosen = [int(i) for i in episodes if dataset.task(int(i)) in tasks]
    for index in progress_bar(chosen, "reading", unit="episode", leave=False):
        episode = dataset.episode(index)
        if episode.actions is None:
            raise ColaWorldError(f"{dataset.path} has no actions to clone.")
        length = demonstrated(episode, columns)
        if length:
            shown = episode.actions if episode.intended is None else episode.intended
            scaled = scale(shown[:length])
            scale.check(dataset.parts[0].path, (scaled.min(0), scaled.max(0)))
            frames.append(square(episode.frames[:length], size))
            actions.append(torch.from_numpy(scaled))
            heads.append(torch.full((length,), list(tasks).index(episode.task)))
            numbers.append(torch.full((length,), index))
    if not heads:
        raise ColaWorldError(
            f"None of {len(episodes)} episodes of {dataset.path} solves its task: collect more."
        )
    return Demonstrations(*map(torch.cat, (frames, actions, heads, numbers)))


def demonstrated(episode: RecordedEpisode, tasks: Sequence[str]) -> int:
    """How many of an episode's actions show its task: up to its success, 0 without one; all where
    nothing tells. tasks: whose successes the episode holds, in order."""
    assert episode.actions is not None
    if episode.successes is None or episode.task not in tasks:
        return len(episode.actions)
    solved = episode.successes[:, tasks.index(episode.task)]
    return int(solved.argmax()) + 1 if solved.any() else 0
