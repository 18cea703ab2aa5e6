"""Success classifiers on imagined frames: python -m benchmarks.classifiers data=FOLDER [key=value]

classifiers=first,second: folders; default: the shipped ones. model=: the world model that imagines,
of the real actions of the episodes that classifiers are not trained on (the share and seed of
`cola_train.classifier`). The labels are of what truly happened. out= keeps the results as JSON.
"""

import sys
from dataclasses import dataclass

from benchmarks.arguments import read_arguments
from benchmarks.machine import processor
from benchmarks.report import report
from benchmarks.vp2_protocol.judges import classifier_places
from cola_env.checkpoints import find_checkpoint, load_model
from cola_env.classifier import SuccessClassifier, load_classifier
from cola_env.errors import ColaWorldError
from cola_env.worlds import find_world
from cola_train.classifier import ClassifierConfig, hold_out
from cola_train.data.imagined_frames import imagine_frames
from cola_train.data.joined import open_dataset
from cola_train.data.labelled_frames import LabelledFrames, load_labelled_frames
from cola_train.ending import ending
from cola_train.evaluation.detection import as_json, measure


def compare(data: str, classifiers: str | None, model: str) -> dict[str, object]:
    """{folder: {"imagined" or "real": {task: measures}}}."""
    dataset = open_dataset(data)
    world = find_world(str(dataset.info["robot_type"]))
    given = classifiers or str(world.assets / "classifiers")
    episodes = hold_out(dataset, ClassifierConfig.held_out, ClassifierConfig.seed)
    dreamer = load_model(find_checkpoint(model, world), "cpu")
    frames: dict[str, LabelledFrames] = {
        "imagined": imagine_frames(dreamer, dataset, episodes, world.goal_tasks, 0.0, seed=0),
        "real": load_labelled_frames(dataset, episodes, world.goal_tasks),
    }
    found: dict[str, object] = {}
    for folder in given.split(","):
        (place,) = classifier_places(folder, None, world)
        classifier = load_classifier(place)
        if not isinstance(classifier, SuccessClassifier) or classifier.tasks != world.goal_tasks:
            raise ColaWorldError(
                f"{folder} holds no classifiers of the tasks of {world.simulator}."
            )
        found[folder] = {kind: as_json(measure(classifier, of)) for kind, of in frames.items()}
    return found


@dataclass
class Settings:
    data: str | None = None
    classifiers: str | None = None
    model: str = "cola"
    out: str | None = None


def main(arguments: list[str]) -> None:
    with ending():
        settings = read_arguments(Settings, arguments, __doc__)
        if settings.data is None:
            raise ColaWorldError("Give data=FOLDER.")
        found = compare(settings.data, settings.classifiers, settings.model)
        command = " ".join(["python -m benchmarks.classifiers", *arguments])
        results = {"command": command, "processor": processor(), "classifiers": found}
        report(results, settings.out)


if __name__ == "__main__":
    main(sys.argv[1:])
