"""Frames, real or imagined, with the tasks that each fulfils, for training the success classifiers.

A classifier that only knows real frames trusts blurred ones too much, and a planner finds them. So
frames that a world model imagines are given the labels of what truly happened (Talvitie 2018,
"Learning the Reward Function for a Misspecified Model": hallucinated states with the rewards of the
real ones).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, pad

from cola_env.errors import ColaWorldError
from cola_env.inputs import to_bytes
from cola_env.models.world_model import ColaWorldModel
from cola_env.simulators.rendering import check_same_profile
from cola_train.console import progress_bar
from cola_train.data.lerobot import LeRobotDataset, RecordedEpisode


class JoinedDataset:
    """The episodes of a LeRobot folder, or of several, one folder after the other.

    Raises ColaWorldError for folders of different rendering profiles, tasks or action repeats.
    """

    def __init__(self, data: str | Sequence[str]) -> None:
        self.parts = [LeRobotDataset(path) for path in ([data] if isinstance(data, str) else data)]
        self.path = ", ".join(str(part.path) for part in self.parts)
        self.info: dict[str, Any] = self.parts[0].info
        for part in self.parts[1:]:
            here, there = str(self.info.get("rendering")), str(part.info.get("rendering"))
            check_same_profile(here, there, f"{self.parts[0].path} and {part.path}")
            for key in ("tasks", "action_repeat"):
                if part.info.get(key) != self.info.get(key):
                    raise ColaWorldError(
                        f"{self.parts[0].path} and {part.path} differ in {key}: train on one."
                    )
        self.episodes = [row for part in self.parts for row in part.episodes]
        self._starts = [0, *accumulate(part.num_episodes for part in self.parts)]

    @property
    def num_episodes(self) -> int:
        return self._starts[-1]

    def episode(self, index: int) -> RecordedEpisode:
        part = bisect_right(self._starts, index) - 1
        return self.parts[part].episode(index - self._starts[part])

    def task(self, index: int) -> str:
        """What an episode shows, in words."""
        part = bisect_right(self._starts, index) - 1
        return self.parts[part].task(index - self._starts[part])

    def info_of(self, index: int) -> dict[str, Any]:
        """The info.json of an episode's folder."""
        return self.parts[bisect_right(self._starts, index) - 1].info

    def hold_out(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the episodes to train on, and of those to measure on, see ``set_apart``.

        Raises ColaWorldError where there are none for one of them.
        """
        uses = np.array([use for part in self.parts for use in set_apart(part, share, seed)])
        train, test = (np.flatnonzero(uses == name) for name in ("train", "test"))
        if not (len(train) and len(test)):
            raise ColaWorldError(
                f"held_out={share} and the splits of {self.path} leave none of its "
                f"{self.num_episodes} episodes to measure on or none to train on; choose a share "
                "between 0 and 1 that leaves some for both, or name more data."
            )
        return train, test


def set_apart(folder: LeRobotDataset, share: float, seed: int) -> list[str]:
    """What each episode of a folder is for: "train", "test", or neither.

    Those of its own test split are for testing, which no other training learns from. Where it has
    none, ``share`` of its episodes is, the same of those of each policy, whatever other folders
    there are.
    """
    uses = [use or "train" for use in folder.purposes]
    if "test" in uses:
        return uses
    numbers = [number for number, use in enumerate(uses) if use == "train"]
    shuffled = np.random.default_rng(seed).permutation(numbers)
    order = sorted(shuffled, key=lambda number: str(folder.episodes[number].get("tasks")))
    quota = np.floor(np.arange(len(order) + 1) * share + 0.5)
    for place in np.flatnonzero(np.diff(quota) > 0):
        uses[order[place]] = "test"
    return uses


@dataclass(frozen=True)
class LabelledFrames:
    """frames: uint8 (n, 64, 64, 3); labels: float32 (n, tasks) in [0, 1], see `label`."""

    frames: Tensor
    labels: Tensor

    def __add__(self, other: "LabelledFrames") -> "LabelledFrames":
        return LabelledFrames(
            torch.cat([self.frames, other.frames]), torch.cat([self.labels, other.labels])
        )

    def probabilities(self) -> Tensor:
        """Chance (n,) of each frame under: a random task, then a random one of its labels.

        A label that a task does not have (no success at all) leaves its share to the other.
        """
        parts = []
        for column in self.labels.float().T:
            groups = [group for group in (column, 1 - column) if group.any()]
            parts += [group / group.sum() / len(groups) for group in groups]
        return torch.stack(parts).sum(0) / self.labels.shape[1]

    def label_weights(self) -> tuple[Tensor, Tensor]:
        """Loss weights (tasks,) of success and failure that balance them under probabilities()."""
        positive = self.probabilities() @ self.labels.float()
        return 0.5 / positive.clamp_min(1e-6), 0.5 / (1 - positive).clamp_min(1e-6)


def label(successes: NDArray[np.bool_], discount: float) -> NDArray[np.float32]:
    """discount ** (actions until the next success), 0 where none comes: float32 (T, tasks).

    successes: (T, tasks), after each action of an episode. At discount 0 they are the labels.
    """
    value = np.zeros(successes.shape[1:], np.float32)
    found = np.empty(successes.shape, np.float32)
    for t in reversed(range(len(successes))):
        value = np.where(successes[t], np.float32(1), np.float32(discount) * value)
        found[t] = value
    return found


def find_tasks(dataset: JoinedDataset, tasks: tuple[str, ...]) -> list[int]:
    """Columns of the tasks; ColaWorldError for a dataset that has none for one of them."""
    known = [str(task) for task in dataset.info.get("tasks", [])]
    missing = [task for task in tasks if task not in known]
    if missing:
        raise ColaWorldError(
            f"{dataset.path} does not say which frames fulfil {', '.join(missing)}; collect one "
            "with 'python -m cola_train.collect'."
        )
    return [known.index(task) for task in tasks]


def load_labelled_frames(
    dataset: JoinedDataset,
    episodes: NDArray[np.int64],
    tasks: tuple[str, ...],
    discount: float = 0.0,
) -> LabelledFrames:
    """The frames after each action of some episodes, with their labels.

    Raises ColaWorldError for a dataset without a column of successes for each of `tasks`.
    """
    columns = find_tasks(dataset, tasks)
    frames, labels = [], []
    for index in progress_bar(episodes, "reading", unit="episode", leave=False):
        episode = dataset.episode(int(index))
        if episode.successes is None:
            raise ColaWorldError(f"Episode {index} of {dataset.path} has no successes.")
        frames.append(torch.from_numpy(episode.frames[1:]))
        labels.append(torch.from_numpy(label(episode.successes[:, columns], discount)))
    return LabelledFrames(torch.cat(frames), torch.cat(labels))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Frames (n, 64, 64, 3) in [0, 1] as a world model might draw them.

    Each is blurred (half of them, sigma up to 1.5 pixels), shifted by up to 1 pixel, and changed
    in brightness and contrast by up to 15 %.
    """
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    sigma = uniform(-1.5, 1.5).clamp_min(0.05)
    offsets = torch.arange(-3, 4)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    shift = torch.randint(-1, 2, (2, n), generator=generator)
    rows, columns = (torch.arange(64) + shift[..., None]).clamp(0, 63)
    images = images[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    planes = pad(images.permute(0, 3, 1, 2).reshape(1, 3 * n, 64, 64), (3, 3, 3, 3), "replicate")
    planes = conv2d(planes, kernel[:, None, :, None], groups=3 * n)
    planes = conv2d(planes, kernel[:, None, None, :], groups=3 * n)
    blurred = planes.reshape(n, 3, 64, 64).permute(0, 2, 3, 1)
    contrast, brightness = uniform(0.85, 1.15, 1, 1, 1), uniform(-0.15, 0.15, 1, 1, 1)
    return ((blurred - 0.5) * contrast + 0.5 + 0.5 * brightness).clamp(0, 1)


IMAGINED_STEPS = 6
IMAGINED_CLIPS = 3
"""Clips an episode."""
IMAGINED_AT_ONCE = 24
"""Clips that are imagined at once."""


def imagine_frames(
    model: ColaWorldModel,
    dataset: JoinedDataset,
    episodes: NDArray[np.int64],
    tasks: tuple[str, ...],
    discount: float,
    seed: int,
) -> LabelledFrames:
    """What `model` expects of the real actions after two real frames, in some clips of an episode.

    Raises ColaWorldError for a model without real actions, or episodes too short to imagine.
    """
    columns = find_tasks(dataset, tasks)
    modes = [mode for mode in model.action_modes if mode != "latent"]
    if not modes:
        raise ColaWorldError("imagined= needs a world model that takes real actions.")
    rng = np.random.default_rng(seed)
    context, past, future, labels = [], [], [], []
    for index in progress_bar(episodes, "reading", unit="episode", leave=False):
        episode = dataset.episode(int(index))
        actions, successes = episode.actions, episode.successes
        if actions is None or successes is None or len(actions) <= IMAGINED_STEPS:
            raise ColaWorldError(
                f"Episode {index} of {dataset.path} cannot be imagined: it needs "
                f"{IMAGINED_STEPS + 1} actions or more, with successes."
            )
        known = label(successes[:, columns], discount)
        for start in rng.integers(1, len(actions) - IMAGINED_STEPS + 1, IMAGINED_CLIPS):
            context.append(episode.frames[start - 1 : start + 1])
            past.append(actions[start - 1 : start])
            future.append(actions[start : start + IMAGINED_STEPS])
            labels.append(known[start : start + IMAGINED_STEPS])
    frames = []
    for first in progress_bar(range(0, len(context), IMAGINED_AT_ONCE), "imagining", leave=False):
        rows = slice(first, first + IMAGINED_AT_ONCE)
        with torch.no_grad():
            state = model.begin(_tensor(context[rows]), _tensor(past[rows]))
            plans = _tensor(future[rows])[:, None]
            clips = model.rollout(state, plans, action_mode=modes[0], seed=seed + first)
        frames.append(to_bytes(clips[:, 0]).cpu())
    return LabelledFrames(torch.cat(frames).flatten(0, 1), torch.from_numpy(np.concatenate(labels)))


def _tensor(arrays: list[NDArray[np.uint8]] | list[NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))
