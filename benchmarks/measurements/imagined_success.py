"""Do classifiers see imagined successes? python -m benchmarks.measurements.imagined_success

Episodes that aim at a task and solve it are imagined from STEPS actions before the success, behind
two true frames and under their true actions; of those that do not solve it, the last STEPS actions.
An imagined clip counts as solved when the classifier says so of one of its frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.harness import command_line, machine, plain, report
from cola_env.checkpoints import find_checkpoint
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.success_classifier import TaskClassifier, load_classifier
from cola_env.worlds import find_world
from cola_train.command import command
from cola_train.console import progress_bar
from cola_train.data.labelled_frames import JoinedDataset, find_tasks
from cola_train.data.lerobot import RecordedEpisode

STEPS = 6


@dataclass(frozen=True)
class Clip:
    """frames uint8 (2 + STEPS, S, S, 3), two of context; actions float32 (1 + STEPS, A)."""

    frames: Tensor
    actions: Tensor

    @classmethod
    def until(cls, episode: RecordedEpisode, end: int) -> Clip:
        """That whose last frame is the one before action ``end``."""
        assert episode.actions is not None
        first = end - STEPS - 1
        frames, actions = episode.frames[first : end + 1], episode.actions[first:end]
        return cls(torch.from_numpy(frames), torch.from_numpy(actions))

    def shown(self, model: ColaWorldModel | None) -> Tensor:
        """The last STEPS frames (STEPS, S, S, 3) float in [0, 1], as ``model`` imagines them; None:
        the true ones."""
        if model is None:
            return self.frames[2:].float() / 255
        state = model.begin(self.frames[None, :2], self.actions[None, :1])
        return model.rollout(state, self.actions[None, None, 1:], seed=0)[0, 0].float()


def clips_of(
    dataset: JoinedDataset, tasks: Sequence[str], at_most: int
) -> dict[str, dict[str, list[Clip]]]:
    """Clips "solved" and "failed" of every task, of its first ``at_most`` episodes of each."""
    columns = dict(zip(tasks, find_tasks(dataset, tuple(tasks)), strict=True))
    found: dict[str, dict[str, list[Clip]]] = {t: {"solved": [], "failed": []} for t in tasks}
    for index in progress_bar(range(dataset.num_episodes), "reading", unit="episode"):
        episode = dataset.episode(index)
        if episode.task not in columns or episode.successes is None:
            continue
        solved = np.flatnonzero(episode.successes[:, columns[episode.task]])
        end = int(solved[0]) + 1 if len(solved) else len(episode.successes)
        kept = found[episode.task]["solved" if len(solved) else "failed"]
        if end > STEPS and len(kept) < at_most:
            kept.append(Clip.until(episode, end))
    return found


def verdicts(
    model: ColaWorldModel | None, classifier: TaskClassifier, task: str, clips: Sequence[Clip]
) -> Iterator[bool]:
    """Whether each clip, as ``model`` imagines it, counts as solved; None: its true frames."""
    limit = torch.logit(torch.tensor(classifier.threshold))
    for clip in clips:
        with torch.no_grad():
            yield bool((classifier.logit(clip.shown(model), task) >= limit).any())


def measure(config: DictConfig) -> dict[str, Any]:
    world = find_world(config.env)
    names = plain(config.model)
    models = {name: load_model(find_checkpoint(name, world), "cpu") for name in names}
    classifier = load_classifier(config.classifier, world)
    found = clips_of(JoinedDataset(plain(config.data)), classifier.tasks, config.clips)
    results: dict[str, Any] = {}
    for name, model in {"true frames": None, **models}.items():
        results[name] = {}
        for task, kinds in progress_bar(found.items(), name, unit="task"):
            results[name][task] = {
                kind: [sum(verdicts(model, classifier, task, clips)), len(clips)]
                for kind, clips in kinds.items()
            }
    return {
        "command": command_line("benchmarks.measurements.imagined_success"),
        "machine": machine(torch.device("cpu")),
        "steps": STEPS,
        "said_to_be_solved": results,
    }


@command("imagined_success")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    report(measure(config), config.out)


if __name__ == "__main__":
    main()
