"""Finished episodes on disk: what a run that was killed goes on from, and what its results are."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cola_env.errors import ColaWorldError
from cola_env.files import write_text


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
