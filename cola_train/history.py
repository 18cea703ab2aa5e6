"""The logs of a run: history.jsonl, and TensorBoard or Weights & Biases."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cola_env.errors import ColaWorldError
from cola_env.files import sync

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
