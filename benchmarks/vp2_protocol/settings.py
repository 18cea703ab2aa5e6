"""What a run is asked to do, checked before anything is loaded."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cola_env.errors import ColaWorldError
from cola_env.rewards import RewardName, check_reward

SHIPPED_MODELS = ("cola", "direct", "random")
WITHOUT_CHECKPOINT = ("simulator", "random", "copy")
JUDGES = ("tick", "vp2")
ADDED = ("warmup_steps", "idle_steps", "sum_over_time", "judge")

ModelSpec = str | Mapping[str, Any]
"""A name, a folder, a hub id, several of them joined by "+", or {"_target_": ..., **arguments}."""


@dataclass(frozen=True)
class Rules:
    """The rules that hold for every model of a run.

    reward: its name, or {name: weight}.
    steps: real steps an episode may take.
    replan_every: actions that are executed of each plan.
    context: real frames that the model sees, at most.
    final_weight: the weight in [0, 1] of the last imagined frame's reward in a candidate's score;
        the mean (or sum) over the horizon has the rest.
    batch_size: episodes that are planned for in one rollout. It is part of a run's identity, since
        the planner's random numbers belong to a batch.
    warmup_steps: zero actions before the first step, which do not count.
    idle_steps: zero actions that the episode's own steps begin with.
    sum_over_time: a candidate's score is the sum of its frames' rewards, not their mean.
    judge: "tick", success at any of the simulator's control ticks, by RoboDesk's rule mended (other
        blocks must lie where the episode began); or "vp2", VP2's: in the state after a step,
        wherever the other blocks are.
    """

    reward: RewardName
    episodes: int
    seed: int
    steps: int = 15
    replan_every: int = 3
    context: int = 2
    final_weight: float = 0.0
    batch_size: int = 5
    warmup_steps: int = 0
    idle_steps: int = 0
    sum_over_time: bool = False
    judge: str = "tick"

    def __post_init__(self) -> None:
        check_reward(self.reward)
        for name in ("episodes", "steps", "replan_every", "context", "batch_size"):
            if getattr(self, name) < 1:
                raise ColaWorldError(f"{name} must be at least 1, but it is {getattr(self, name)}.")
        for name in ("warmup_steps", "idle_steps", "seed"):
            if getattr(self, name) < 0:
                raise ColaWorldError(f"{name} must be at least 0, but it is {getattr(self, name)}.")
        if not 0 <= self.final_weight <= 1:
            raise ColaWorldError(f"final_weight must be in [0, 1], not {self.final_weight}.")
        if self.judge not in JUDGES:
            raise ColaWorldError(
                f"Unknown judge '{self.judge}'; choose one of {', '.join(JUDGES)}."
            )

    @property
    def executed(self) -> int:
        """How many actions of a plan are executed: no more than the episode has."""
        return max(1, min(self.replan_every, self.steps - self.idle_steps))

    def identity(self) -> dict[str, Any]:
        """The rules as JSON values; those of ADDED only where they differ from their default, so
        that the folders of earlier runs stay theirs."""
        defaults = {name: type(self).__dataclass_fields__[name].default for name in ADDED}
        return {k: v for k, v in asdict(self).items() if k not in ADDED or v != defaults[k]}


def names(value: str | Mapping[str, Any] | Sequence[ModelSpec] | None) -> dict[str, ModelSpec]:
    """{label: model} of names, folders, hub ids, "label:folder" and {label: ...}, one or several.

    None means SHIPPED_MODELS. Without a label of its own a folder is labelled with its path, the
    slashes replaced, so that the label can name a folder again. Raises ColaWorldError for none, or
    two of one label.
    """
    value = SHIPPED_MODELS if value is None else value
    listed = [value] if isinstance(value, str | Mapping) else list(value)
    pairs = [pair for given in listed for pair in _labelled(given)]
    found = dict(pairs)
    if not found or len(found) != len(pairs):
        raise ColaWorldError(
            f"model={listed} must name at least one model, and each under a label of its own: "
            "model=[label:folder,label:folder]."
        )
    return found


def _labelled(given: ModelSpec) -> list[tuple[str, ModelSpec]]:
    if isinstance(given, Mapping):
        if "_target_" in given:
            raise ColaWorldError(
                "A model of your own needs a label: model=[{mine:{_target_:my_package.Model}}]."
            )
        return [(str(label), model) for label, model in given.items()]
    label, colon, name = given.partition(":")
    return [(label.strip("/").replace("/", "--"), name if colon else given)]


def members(name: str) -> list[str]:
    """The models of an ensemble "first+second", or the one model of that name."""
    return [name] if Path(name).exists() else name.split("+")


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


def fingerprint(*paths: Path) -> str:
    """First 12 hex digits of the SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]
