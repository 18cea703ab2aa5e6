"""Success classifiers on imagined frames: python -m benchmarks.classifiers data=FOLDER [key=value]

classifiers=first,second: folders; default: the shipped ones. model=: the world model that imagines,
of the real actions of the episodes that classifiers are not trained on (the share and seed of
`cola_train.classifier`). The labels are of what truly happened. out= keeps the results as JSON.
"""

import sys

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


def main(arguments: list[str]) -> None:
    options = dict(argument.split("=", 1) for argument in arguments)
    data, out = options.pop("data", None), options.pop("out", None)
    classifiers, model = options.pop("classifiers", None), options.pop("model", "cola")
    if options or data is None:
        sys.exit("The settings are data=FOLDER, classifiers=, model= and out=.")
    command = " ".join(["python -m benchmarks.classifiers", *arguments])
    try:
        found = compare(data, classifiers, model)
    except ColaWorldError as error:
        sys.exit(str(error))
    report({"command": command, "processor": processor(), "classifiers": found}, out)


if __name__ == "__main__":
    main(sys.argv[1:])
