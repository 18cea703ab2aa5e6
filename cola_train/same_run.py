"""Is the training that goes on in a folder the one that was begun there?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cola_env.checkpoints import RECIPE
from cola_env.errors import ColaWorldError
from cola_train.checkpoints import Checkpoints, place

Settings = Mapping[str, Any]
HARMLESS = {
    "out",
    "device",
    "threads",
    "loading.workers",
    "loading.memory_gb",
    "loading.index",
    "order",  # of what has begun, it is compared with `start` taken off
    "start",
    "phases",
    "trainer",
}
"""Settings, and groups of them, that a training need not keep to the end."""
TOLD = 5
"""At most so many differences are named."""


def phases_to_run(order: Sequence[str], start: str | None) -> list[str]:
    """Those of ``order`` from the phase ``start`` on; None: all."""
    return list(order[order.index(start) :] if start else order)


def check_same_run(out: Path, recipe: Settings) -> None:
    """Raises ColaWorldError when ``out`` holds checkpoints of a training that ``recipe`` (as it is
    stored in recipe.yaml) cannot go on with: one with other settings than ``HARMLESS`` ones, or of
    phases that have begun. Those of later phases may differ: they have left nothing yet."""
    file = out / RECIPE
    if not file.exists():
        return
    stored: Any = OmegaConf.to_container(OmegaConf.load(file))
    names = phases_to_run(stored["order"], stored["start"])
    checkpoints = Checkpoints(out / "checkpoints", names).files()
    if not checkpoints:
        return
    begun = names[: names.index(place(checkpoints[-1])[0]) + 1]
    there, here = (dict(_settings(each, begun)) for each in (stored, recipe))
    wrong = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if wrong:
        told = [f"{key}: {there.get(key)} there, {here.get(key)} here" for key in wrong[:TOLD]]
        more = f"; and {len(wrong) - TOLD} more" if len(wrong) > TOLD else ""
        raise ColaWorldError(
            f"{out} holds a training with other settings ({'; '.join(told)}{more}): choose another "
            "out=FOLDER, or the same settings to go on with it."
        )


def _settings(recipe: Settings, begun: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """What must stay, given which phases have ``begun``."""
    yield "order", phases_to_run(recipe["order"], recipe["start"])[: len(begun)]
    for key, value in _flat(recipe, ""):
        if not {key, key.partition(".")[0]} & HARMLESS:
            yield key, value
    yield "trainer.max_gradient_norm", recipe["trainer"]["max_gradient_norm"]
    for name in begun:
        yield from _flat(recipe["phases"].get(name, {}), f"phases.{name}.")


def _flat(settings: Settings, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; `data`, whose keys are paths, is one value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and key != "data":
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
