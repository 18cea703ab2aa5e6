"""benchmarks/classifiers.py: classifiers on frames that a model imagines, and on real ones."""

import json
from pathlib import Path

import pytest

from benchmarks.classifiers import compare, main
from cola_env.classifier import SuccessClassifier
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_env.simulators.robodesk import VP2_TASKS
from cola_train.classifier import ClassifierConfig, hold_out, train_classifier
from cola_train.data.imagined_frames import CLIPS, HORIZON
from cola_train.data.joined import open_dataset
from tests.env.labelled import write_dataset
from tests.train.small import SMALL


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A dataset, an untrained world model, a trained classifier, and one of other tasks."""
    root = tmp_path_factory.mktemp("classifiers")
    data = str(write_dataset(root / "data"))
    model = ColaWorldModel(**SMALL, conditioning="direct", action_dim=2, rendering="fast")
    model.save_pretrained(root / "model")
    settings = {"steps": 120, "batch": 64, "width": 8, "lr": 3e-3}
    train_classifier(ClassifierConfig(data, str(root / "trained"), **settings))
    SuccessClassifier(tasks=("push_red",), width=4).save_pretrained(root / "other")
    return {"data": data} | {name: str(root / name) for name in ("model", "trained", "other")}


def test_imagined_and_real_frames_of_held_out_episodes(folders: dict[str, str]) -> None:
    found = compare(folders["data"], folders["trained"], folders["model"])[folders["trained"]]
    episodes = len(hold_out(open_dataset(folders["data"]), ClassifierConfig.held_out, 0))
    for kind, frames in {"real": episodes * 10, "imagined": episodes * CLIPS * HORIZON}.items():
        assert set(found[kind]) == set(VP2_TASKS)
        assert all(m["successes"] + m["failures"] == frames for m in found[kind].values())
    means = {
        kind: sum(values) / len(values)
        for kind, of in found.items()
        if (values := [m["auc"] for m in of.values() if m["auc"] is not None])
    }
    assert means["real"] > 0.9 > means["imagined"]


def test_the_command_keeps_what_it_found(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"data={folders['data']}", f"model={folders['model']}"]
    main([*given, f"classifiers={folders['trained']}", f"out={tmp_path}/found.json"])
    kept = json.loads((tmp_path / "found.json").read_text())
    assert list(kept["classifiers"]) == [folders["trained"]]
    assert kept["classifiers"] == json.loads(capsys.readouterr().out)["classifiers"]


def test_classifiers_of_other_tasks_are_refused(folders: dict[str, str]) -> None:
    with pytest.raises(ColaWorldError, match="no classifiers of the tasks of RoboDesk"):
        compare(folders["data"], folders["other"], folders["model"])
    with pytest.raises(SystemExit, match="There is no setting dataset"):
        main(["dataset=here"])


def test_a_folder_without_classifiers_is_not_taken_for_the_shipped_ones(
    folders: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ColaWorldError, match="no classifier in"):
        compare(folders["data"], str(tmp_path), folders["model"])
