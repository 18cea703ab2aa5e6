"""Frames and the actions that demonstrations of tasks took there, for cloning their behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import WORLDS
from cola_train.console import progress_bar
from cola_train.data.action_scale import ActionScale
from cola_train.data.labelled_frames import JoinedDataset
from cola_train.data.lerobot import RecordedEpisode
from cola_train.data.video import square

Actions = Callable[[RecordedEpisode], Tensor]
"""What to clone of an episode: float32 (T, A) for its T + 1 frames."""


@dataclass(frozen=True)
class Demonstrations:
    """frames: uint8 (n, S, S, 3), each before its action; actions: float32 (n, A);
    heads: int64 (n,), the number of its task; episodes: int64 (n,), the number of its episode."""

    frames: Tensor
    actions: Tensor
    heads: Tensor
    episodes: Tensor

    def probabilities(self) -> Tensor:
        """Chance (n,) of each frame under: a random task, then a random frame of it."""
        counts = self.heads.bincount()
        return 1 / (counts.count_nonzero() * counts[self.heads])

    def fewer(self, count: int, seed: int) -> Demonstrations:
        """Of `count` episodes, the same number of each task, give or take one."""
        order = np.random.default_rng(seed).permutation(self.episodes.unique().numpy())
        task_of = dict(zip(self.episodes.tolist(), self.heads.tolist(), strict=True))
        seen, turns = dict.fromkeys(self.heads.tolist(), 0), dict[int, int]()
        for episode in order.tolist():
            turns[episode] = seen[task_of[episode]]
            seen[task_of[episode]] += 1
        chosen = sorted(order.tolist(), key=turns.__getitem__)[:count]
        rows = torch.isin(self.episodes, torch.tensor(chosen))
        parts = (self.frames, self.actions, self.heads, self.episodes)
        return Demonstrations(*(part[rows] for part in parts))


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


def real_actions(dataset: JoinedDataset, scale: ActionScale) -> Actions:
    """Those of the data in [-1, 1]; what was intended where it has that: without the noise that
    moved the arm off its way.

    They raise ColaWorldError for an episode without actions, or of actions that leave [-1, 1].
    """

    def read(episode: RecordedEpisode) -> Tensor:
        if episode.actions is None:
            raise ColaWorldError(f"{dataset.path} has no actions to clone: latent= needs none.")
        shown = episode.actions if episode.intended is None else episode.intended
        scale.check(dataset.path, (shown.min(0), shown.max(0)))
        return torch.from_numpy(scale(shown))

    return read


def latent_actions(model: ColaWorldModel) -> Actions:
    """The code vectors (T, tokens * code_size) that the model infers from the frames alone.

    Raises ColaWorldError for a model without latent actions.
    """
    if model.config.conditioning != "latent":
        raise ColaWorldError("latent= needs a world model with latent actions, such as cola.")

    def infer(episode: RecordedEpisode) -> Tensor:
        frames = square(episode.frames, model.config.image_size)
        with torch.no_grad():
            found = model.infer_actions(frames[None].to(model.device)).vectors[0]
        return found.flatten(1).float().cpu()

    return infer


def load_demonstrations(
    dataset: JoinedDataset,
    episodes: NDArray[np.int64],
    tasks: Sequence[str],
    size: int,
    actions_of: Actions,
    anywhere: bool = False,
) -> Demonstrations | None:
    """The episodes of `tasks`, as square frames of `size` pixels, with their actions; None where
    no episode counts.

    Where the dataset says which states fulfil a task, an episode counts if it solves its own, up to
    the action that does; else the whole episode counts. So does an unsolved one where the actions
    are right ``anywhere``, or a policy acted and a script told what it would do (DAgger,
    1011.0686).
    """
    columns = [str(task) for task in dataset.info.get("tasks", [])]
    frames, actions, heads, numbers = [], [], [], []
    chosen = [int(i) for i in episodes if dataset.task(int(i)) in tasks]
    for index in progress_bar(chosen, "reading", unit="episode", leave=False):
        episode = dataset.episode(index)
        right = anywhere or corrected(dataset.info_of(index))
        if length := demonstrated(episode, columns, right):
            frames.append(square(episode.frames[:length], size))
            actions.append(actions_of(episode)[:length])
            heads.append(torch.full((length,), list(tasks).index(episode.task)))
            numbers.append(torch.full((length,), index))
    if not heads:
        return None
    return Demonstrations(*map(torch.cat, (frames, actions, heads, numbers)))


def demonstrated(episode: RecordedEpisode, tasks: Sequence[str], anywhere: bool) -> int:
    """How many of an episode's actions show its task: up to its success, and without one 0 unless
    they are right ``anywhere``; all where nothing tells. tasks: whose successes the episode holds,
    in order."""
    every = len(episode.frames) - 1
    if episode.successes is None or episode.task not in tasks:
        return every
    solved = episode.successes[:, tasks.index(episode.task)]
    return int(solved.argmax()) + 1 if solved.any() else every * anywhere


def corrected(info: Mapping[str, Any]) -> bool:
    """Whether in a dataset of this info.json a policy acted, and a script was its teacher."""
    mixture = info.get("mixture") or {}
    return mixture.get("pilot") is not None and mixture.get("teacher", "script") == "script"
