"""What a run is asked to do, and its finished episodes on disk, from which a killed run goes on."""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cola_env.errors import ColaWorldError
from cola_env.files import write_text
from cola_env.scoring.rewards import RewardName, check_reward

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


def plain(config: Any) -> Any:
    """A setting without OmegaConf's wrapping."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


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


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode.

    pair: index of the goal pair among its task's.
    steps: real steps taken; success ends an episode.
    costs: cost of every plan by the model's own reckoning; empty for a model without one.
    imagined_psnr: dB between the imagined and the real frames of the executed actions, or None.
    seconds: this episode's share of the time that deciding took.
    spent: its share of the seconds by what they were spent on, waiting for the simulator too.
    """

    task: str
    model: str
    pair: int
    success: bool
    steps: int
    costs: tuple[float, ...]
    imagined_psnr: float | None
    seconds: float
    spent: Mapping[str, float] = field(default_factory=dict)


class RunFolder:
    """The folder of one run: `settings.json`, and `episodes/MODEL/TASK/PAIR.{json,mp4}`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, common: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> None:
        """Record the settings that decide results; models may be added to a run later.

        Raises ColaWorldError when the folder holds a run of other settings.
        """
        known = self.settings()
        for name, wanted in {"": common, **models}.items():
            before = known.get("models", {}).get(name) if name else known.get("common")
            if before is not None and before != (now := json.loads(json.dumps(wanted))):
                keys = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
                told = ", ".join(f"{k}={before.get(k)} (now {now.get(k)})" for k in keys)
                whose = f" of model '{name}'" if name else ""
                raise ColaWorldError(
                    f"{self.path} holds a run with other settings{whose}: {told}; choose another "
                    "out=FOLDER, or the same settings to go on with that run."
                )
        merged = {"common": common, "models": {**known.get("models", {}), **models}}
        write_text(self.path / "settings.json", json.dumps(merged, indent=1))

    def settings(self) -> dict[str, Any]:
        """What `claim` recorded: {"common": ..., "models": {name: ...}}, or {} for a new folder."""
        path = self.path / "settings.json"
        if not path.is_file():
            return {}
        try:
            known: dict[str, Any] = json.loads(path.read_text())
            if not all(isinstance(known[key], dict) for key in ("common", "models")):
                raise ValueError("no settings")
        except (ValueError, LookupError, TypeError) as error:
            raise ColaWorldError(f"{path} is damaged: choose another out=FOLDER.") from error
        return known

    def episode(self, model: str, task: str, pair: int, suffix: str = ".json") -> Path:
        return self.path / "episodes" / model / task / f"{pair:03d}{suffix}"

    def save(self, record: EpisodeRecord) -> None:
        """Write the record, atomically: only whole episodes are ever seen."""
        path = self.episode(record.model, record.task, record.pair)
        write_text(path, json.dumps(asdict(record), indent=1))

    def load(self, model: str, task: str, pair: int) -> EpisodeRecord | None:
        """The finished episode, or None: also where the record is damaged, of which it warns."""
        path = self.episode(model, task, pair)
        if not path.is_file():
            return None
        try:
            return _record(json.loads(path.read_text()), model, task, pair)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            warnings.warn(
                f"{path} is damaged ({error}) and left out: its episode is played again by the "
                "command that played it.",
                stacklevel=2,
            )
            return None


def _record(data: dict[str, Any], model: str, task: str, pair: int) -> EpisodeRecord:
    """Raises an exception of some kind for what is no record of that episode."""
    known = {each.name for each in fields(EpisodeRecord)}
    record = EpisodeRecord(**{key: value for key, value in data.items() if key in known})
    numbers = [record.steps, record.seconds, *record.costs, *record.spent.values()]
    if (record.model, record.task, record.pair) != (model, task, pair):
        raise ValueError("it is of another episode")
    if not isinstance(record.success, bool) or not all(map(math.isfinite, numbers)):
        raise ValueError("it holds no measures")
    return replace(record, costs=tuple(record.costs))
