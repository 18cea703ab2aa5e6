"""The success classifiers that a run judges imagined frames with: found, loaded, and combined."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from cola_env.errors import ColaWorldError
from cola_env.scoring.ensembles import ClassifierEnsemble, Combination
from cola_env.scoring.success_classifier import TaskClassifier, find_classifier, load_classifier
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import WorldInfo

VALUES = "values"
"""As a name in classifier=: the shipped value function of the world."""


def ensemble(config: DictConfig) -> Combination:
    """How a run combines the members of its ensembles."""
    return Combination(str(config.ensemble.how), float(config.ensemble.penalty))


def classifier_places(
    given: str | Sequence[str] | None, folder: Path | None, world: WorldInfo
) -> list[Path]:
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


def load_classifiers(
    places: Sequence[Path], combine: Combination, rendering: str
) -> TaskClassifier:
    """The classifiers of these folders as one; ColaWorldError for any of another rendering profile
    than that of the goals."""
    loaded: list[TaskClassifier] = [load_classifier(place) for place in places]
    judge = loaded[0] if len(loaded) == 1 else ClassifierEnsemble(loaded, combine)
    check_same_profile(rendering, judge.rendering, "goals and the classifier")
    return judge
