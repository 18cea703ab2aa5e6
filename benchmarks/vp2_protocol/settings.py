"""What a run is asked to do, checked before anything is loaded."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cola_env.errors import ColaWorldError

WITHOUT_CHECKPOINT = ("simulator", "random")


@dataclass(frozen=True)
class Rules:
    """The rules that hold for every model of a run.

    steps: real steps an episode may take.
    replan_every: actions that are executed of each plan.
    context: real frames that the model sees, at most.
    final_weight: the weight in [0, 1] of the last imagined frame's reward in a candidate's score;
        the mean over the horizon has the rest.
    batch_size: episodes that are planned for in one rollout. It is part of a run's identity, since
        the planner's random numbers belong to a batch.
    """

    reward: str
    episodes: int
    seed: int
    steps: int = 15
    replan_every: int = 3
    context: int = 2
    final_weight: float = 0.0
    batch_size: int = 5

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "replan_every", "context", "batch_size"):
            if getattr(self, name) < 1:
                raise ColaWorldError(f"{name} must be at least 1, but it is {getattr(self, name)}.")
        if not 0 <= self.final_weight <= 1:
            raise ColaWorldError(f"final_weight must be in [0, 1], not {self.final_weight}.")

    def identity(self) -> dict[str, Any]:
        """The rules as JSON values."""
        return asdict(self)


def names(value: str | Sequence[str]) -> dict[str, str]:
    """{label: name} of one model or several: names, folders, hub ids, or "label:folder".

    Without a label of its own a folder is labelled with its path, the slashes replaced, so that
    the label can name a folder again. Raises ColaWorldError for none, or two of one label.
    """
    listed = [value] if isinstance(value, str) else list(value)
    pairs = {}
    for given in listed:
        label, colon, name = given.partition(":")
        pairs[label.strip("/").replace("/", "--")] = name if colon else given
    if not pairs or len(pairs) != len(listed):
        raise ColaWorldError(
            f"model={listed} must name at least one model, and each under a label of its own: "
            "model=[label:folder,label:folder]."
        )
    return pairs


def choose_tasks(value: str | Sequence[str], available: tuple[str, ...]) -> list[str]:
    """The tasks asked for ("all" for every one); ColaWorldError for one without goals."""
    if value == "all":
        return list(available)
    tasks = list(dict.fromkeys([value] if isinstance(value, str) else value))
    if not tasks:
        raise ColaWorldError("tasks is empty; name at least one, or tasks=all.")
    for task in tasks:
        if task not in available:
            raise ColaWorldError(
                f"There are no goals for task '{task}'; choose tasks=all or some of "
                f"{', '.join(available)}."
            )
    return tasks


def fingerprint(path: Path) -> str:
    """First 12 hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
