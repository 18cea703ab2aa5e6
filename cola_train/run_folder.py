"""What a training writes, so that it may be killed at any moment.

Checkpoints to resume from are written atomically, thinned out, and read from the newest good one. A
model's folder that has a ``config.json`` is whole. The logs are history.jsonl, and TensorBoard or
Weights & Biases.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from accelerate import Accelerator
from diffusers.models.modeling_utils import ModelMixin

from cola_env.errors import ColaWorldError
from cola_env.files import sync, write_atomically, write_json

UNFINISHED = "unfinished.tmp"
MODEL_CARD = "model_card.json"


@dataclass(frozen=True)
class TrainingCheckpoints:
    """The files ``<phase>-<step>.pt`` of ``folder``.

    A file gets its name once all of it is on disk, so a process may be killed at any moment.

    Attributes:
        phases: names of the run's phases in order.
        keep_last: so many of the newest are kept,
        keep_every: and those whose step is a multiple of it; None: no others.
    """

    folder: Path
    phases: Sequence[str]
    keep_last: int = 2
    keep_every: int | None = None

    def __post_init__(self) -> None:
        for name, value in {"keep_last": self.keep_last, "keep_every": self.keep_every}.items():
            if value is not None and value < 1:
                raise ColaWorldError(f"trainer.{name}={value} must be at least 1.")

    def save(self, phase: str, step: int, state: dict[str, Any]) -> None:
        state = state | {"phase": phase, "step": step}
        file = self.folder / f"{phase}-{step:08d}.pt"
        write_atomically(file, lambda target: torch.save(state, target))
        for path in self.files()[: -self.keep_last]:
            if not self.keep_every or place(path)[1] % self.keep_every:
                path.unlink()

    def newest(self, say: Callable[[str], Any] = print) -> dict[str, Any] | None:
        """The newest checkpoint, on the CPU; None without any.

        ``say`` is told of damaged ones. Raises ColaWorldError when all are.
        """
        files = self.files()
        for path in reversed(files):
            try:
                return load(path)
            except Exception as error:
                reason = str(error).splitlines()[0]
                say(f"{path} is damaged ({reason}): going on from the checkpoint before it.")
        if files:
            raise ColaWorldError(
                f"No checkpoint in {self.folder} can be read: delete the folder to start anew, or "
                "choose another `out`."
            )
        return None

    def files(self) -> list[Path]:
        """Those of the run's phases, oldest first."""
        named = [path for path in self.folder.glob("*.pt") if re.fullmatch(r".+-\d+", path.stem)]
        found = [path for path in named if place(path)[0] in self.phases]
        return sorted(found, key=lambda p: (self.phases.index(place(p)[0]), place(p)[1]))


def load(path: Path) -> dict[str, Any]:
    """Raises an exception of some kind for a damaged file."""
    with ZipFile(path) as archive:
        if part := archive.testzip():
            raise ColaWorldError(f"{part} has changed")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def place(path: Path) -> tuple[str, int]:
    """The phase and step that a checkpoint's name tells."""
    phase, _, step = path.stem.rpartition("-")
    return phase, int(step)


def write_folder(out: Path, write: Callable[[Path], Any]) -> None:
    """``write`` files to a folder of their own, from where they move into ``out`` once all of them
    are on disk. Nothing of a write that fails stays behind."""
    partial = out / UNFINISHED
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        replace_files(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_with_card(model: ModelMixin, card: Mapping[str, Any], folder: Path) -> None:
    """Writes the model (safetensors) and MODEL_CARD, its card, as a folder, atomically."""

    def write(target: Path) -> None:
        model.save_pretrained(target)
        write_json(target / MODEL_CARD, card)

    write_folder(folder, write)


def replace_files(source: Path, out: Path) -> None:
    """Move the files of ``source`` into ``out``, each atomically, ``config.json`` last."""
    files = sorted(source.iterdir(), key=lambda file: file.name == "config.json")
    for file in files:
        sync(file)
    for file in files:
        os.replace(file, out / file.name)
    sync(out)


LOGGERS = {"tensorboard": "tensorboard", "wandb": "colaworld"}
"""Loggers, and what the run, or the project that it belongs to, is called in them."""


def check_logger(name: str) -> None:
    """Raises ColaWorldError for an unknown or missing logger."""
    if name not in (*LOGGERS, "none"):
        raise ColaWorldError(f"trainer.logger must be {', '.join(LOGGERS)} or none, not {name}.")
    if name != "none" and find_spec(name) is None:
        raise ColaWorldError(
            f"trainer.logger={name} needs a package that is not installed: pip install {name}"
        )


class History:
    """``folder/history.jsonl``, a line for every ``write``, and the logger ``name``.

    ``size`` is kept in checkpoints: a run that goes on from one forgets what was written after it,
    which it writes again. Only the main process writes.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, name: str) -> None:
        self.accelerator, self.path, self.name = accelerator, folder / "history.jsonl", name

    @property
    def size(self) -> int:
        """Bytes, all of them on disk."""
        if not self.path.exists():
            return 0
        sync(self.path)
        return self.path.stat().st_size

    def begin(self, size: int, position: int) -> None:
        """Go on from the state when the file had ``size`` bytes and the run ``position`` steps."""
        if not self.accelerator.is_main_process:
            return
        if self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)
        if self.name != "none":
            run = str(self.path.parent.resolve())
            settings: dict[str, dict[str, Any]] = {
                "tensorboard": {"purge_step": position + 1 if position else None},
                "wandb": {
                    "dir": run,
                    "name": self.path.parent.name,
                    "id": hashlib.sha256(run.encode()).hexdigest()[:12],
                    "resume": "allow",
                },
            }
            self.accelerator.init_trackers(LOGGERS[self.name], init_kwargs=settings)

    def write(self, phase: str, step: int, position: int, values: dict[str, float]) -> None:
        """``position``: steps of the whole run, those of earlier phases included."""
        if not self.accelerator.is_main_process:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"phase": phase, "step": step, **values}) + "\n")
        self.accelerator.log({f"{phase}/{k}": v for k, v in values.items()}, step=position)

    def end(self) -> None:
        self.accelerator.end_training()


def summary(measures: dict[str, float]) -> str:
    """The measures in one line; those of the codes of single tokens are left to the logs."""
    shown = {key: value for key, value in measures.items() if "token_" not in key}
    return "  ".join(f"{key} {value:.3g}" for key, value in shown.items())
