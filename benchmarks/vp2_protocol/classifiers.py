"""The success classifiers that a run judges imagined frames with: found, loaded, and combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.vp2_protocol.records import fingerprint
from cola_env.errors import ColaWorldError
from cola_env.scoring.ensembles import ClassifierEnsemble, Combination
from cola_env.scoring.success_classifier import (
    TaskClassifier,
    classifier_weights,
    find_classifier,
    load_classifier,
)
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo

VALUES = "values"
"""As a name in classifier=: the shipped value function of the world."""


def ensemble(config: DictConfig) -> Combination:
    """How a run combines the members of its ensembles."""
    return Combination(str(config.ensemble.how), float(config.ensemble.penalty))


@dataclass(frozen=True)
class Judge:
    """classifier: one, or several as one. weights: a fingerprint of each one's files."""

    classifier: TaskClassifier
    weights: list[str]

    @classmethod
    def load(
        cls,
        given: str | Sequence[str] | None,
        folder: Path | None,
        world: WorldInfo,
        rendering: str,
        device: torch.device,
        combine: Combination | None = None,
    ) -> Judge:
        """The classifiers of the folders `given`; None: those that belong to the model in `folder`.

        Raises ColaWorldError where there is none, for files that are damaged, and for classifiers
        of another rendering profile than `rendering`, that of the goals.
        """
        places = _places(given, folder, world)
        loaded: list[TaskClassifier] = [load_classifier(place) for place in places]
        one = (
            loaded[0] if len(loaded) == 1 else ClassifierEnsemble(loaded, combine or Combination())
        )
        check_same_profile(rendering, one.rendering, "goals and the classifier")
        weights = [fingerprint(*classifier_weights(place)) for place in places]
        return cls(one.to(device), weights)


def _places(given: str | Sequence[str] | None, folder: Path | None, world: WorldInfo) -> list[Path]:
    """Folders of the classifiers that were asked for, or of the one that belongs to the model in
    `folder`; ColaWorldError when there is none."""
    if given is None:
        place = find_classifier(folder, world)
        if place is None:
            raise ColaWorldError(
                f"There are no shipped classifiers of {world.simulator}; give classifier=FOLDER or "
                "reward=mse."
            )
        return [place]
    named = [given] if isinstance(given, str) else given
    listed = [_shipped_values(world) if n == VALUES else Path(n).expanduser() for n in named]
    places = [find_classifier(place) for place in listed]
    for place, found in zip(listed, places, strict=True):
        if found is None or not found.is_relative_to(place.parent):
            raise ColaWorldError(
                f"There is no classifier in {place}; classifier= takes a folder that holds one of "
                "ours or VP2's <task>.pt files."
            )
    return [place for place in places if place is not None]


def _shipped_values(world: WorldInfo) -> Path:
    place = world.assets / VALUES
    if not place.is_dir():
        raise ColaWorldError(
            f"{world.simulator} has no shipped value function: train one with 'python -m "
            "cola_train.classifier data=FOLDER out=FOLDER discount=0.8' and give classifier=FOLDER."
        )
    return place
