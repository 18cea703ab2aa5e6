"""Frames that a world model imagines, with the labels of what truly happened.

A classifier that only knows real frames trusts blurred ones too much, and a planner finds them.
Source: Talvitie 2018, "Learning the Reward Function for a Misspecified Model" (hallucinated states
with the rewards of the real ones).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.joined import JoinedDataset
from cola_train.data.labelled_frames import LabelledFrames, find_tasks, label
from cola_train.progress import progress_bar

HORIZON = 6
CLIPS = 3
"""Clips an episode."""
BATCH = 24
"""Clips that are imagined at once."""


def imagine_frames(
    model: ColaWorldModel,
    dataset: JoinedDataset,
    episodes: NDArray[np.int64],
    tasks: tuple[str, ...],
    discount: float,
    seed: int,
) -> LabelledFrames:
    """What `model` expects of the real actions after two real frames, CLIPS times an episode.

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
        if actions is None or successes is None or len(actions) <= HORIZON:
            raise ColaWorldError(
                f"Episode {index} of {dataset.path} cannot be imagined: it needs {HORIZON + 1} "
                "actions or more, with successes."
            )
        known = label(successes[:, columns], discount)
        for start in rng.integers(1, len(actions) - HORIZON + 1, CLIPS):
            context.append(episode.frames[start - 1 : start + 1])
            past.append(actions[start - 1 : start])
            future.append(actions[start : start + HORIZON])
            labels.append(known[start : start + HORIZON])
    frames = []
    for first in progress_bar(range(0, len(context), BATCH), "imagining", leave=False):
        rows = slice(first, first + BATCH)
        with torch.no_grad():
            state = model.begin(_tensor(context[rows]), _tensor(past[rows]))
            plans = _tensor(future[rows])[:, None]
            clips = model.rollout(state, plans, action_mode=modes[0], seed=seed + first)
        frames.append((clips[:, 0].clamp(0, 1) * 255).round().to("cpu", torch.uint8))
    return LabelledFrames(torch.cat(frames).flatten(0, 1), torch.from_numpy(np.concatenate(labels)))


def _tensor(arrays: list[NDArray[np.uint8]] | list[NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))
