"""Behaviour is cloned from episodes that solve their task, at several stages, and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cola_env.checkpoints import finished_phases
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_train.clone import CloneConfig, Cloning, clone, table
from cola_train.data.action_scale import ActionScale
from cola_train.data.demonstrations import (
    demonstrated_tasks,
    latent_actions,
    load_demonstrations,
    real_actions,
)
from cola_train.data.labelled_frames import JoinedDataset
from cola_train.data.lerobot import INTENDED
from cola_train.data.lerobot_writer import LeRobotWriter
from tests.train.demonstrated import SOLVED_AFTER, STEPS, square_at, write_demonstrations
from tests.train.small import Killed, small_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demonstrations(tmp_path_factory.mktemp("demonstrations"))


def config(data: Path, out: Path, **settings: object) -> CloneConfig:
    given = {"steps": 80, "batch": 32, "width": 8, "lr": 3e-3, "lr_warmup": 5, "log_every": 10}
    return CloneConfig(str(data), str(out), **(given | settings))  # type: ignore[arg-type]


def test_what_solves_its_task_is_learned_from_up_to_its_success(data: Path) -> None:
    dataset = JoinedDataset(str(data))
    tasks = demonstrated_tasks(dataset, None)
    assert tasks == ("open_slide", "push_red"), "in the world's order, without play"
    found = load_demonstrations(
        dataset, np.arange(36), tasks, 64, real_actions(dataset, ActionScale())
    )
    assert found is not None
    solving = [i for i in range(36) if i % 3 != 2 and i % 9 <= 5]
    assert found.episodes.unique().tolist() == solving
    assert (found.episodes.bincount()[solving] == SOLVED_AFTER).all()
    assert not found.actions[:, 1].any(), "no action of a failure, or after a success"
    place = (found.frames[:, 32, :, 0] > 150).float().argmax(1) / 24 - 1
    signs = torch.where(found.heads == tasks.index("push_red"), 1, -1)
    assert (found.actions[:, 0] * signs - place).abs().max() < 0.1
    chances = found.probabilities()
    assert float(chances[found.heads == 0].sum()) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "mixture", [{"pilot": "policy"}, {"pilot": "policy", "teacher": "pilot"}, {"pilot": None}]
)
def test_a_corrected_policy_is_learned_from_where_it_failed(
    tmp_path: Path, mixture: dict[str, str | None]
) -> None:
    dataset = JoinedDataset(str(write_demonstrations(tmp_path, 9, mixture=mixture)))
    tasks = demonstrated_tasks(dataset, None)
    found = load_demonstrations(
        dataset, np.arange(9), tasks, 64, real_actions(dataset, ActionScale())
    )
    failed = (found.episodes == 6).sum() + (found.episodes == 7).sum()
    assert failed == (2 * STEPS if mixture == {"pilot": "policy"} else 0)


def test_all_of_an_episode_is_learned_from_where_nothing_tells_success(tmp_path: Path) -> None:
    features = {
        "observation.image": {"dtype": "video", "shape": [48, 64, 3]},
        "action": {"dtype": "float32", "shape": [2]},
    }
    with LeRobotWriter(tmp_path, features=features, fps=10, robot_type="mine") as writer:
        for task in ("sweep", "wipe"):
            columns = {
                "observation.image": np.zeros((4, 48, 64, 3), np.uint8),
                "action": np.full((4, 2), 3, np.float32),
            }
            writer.add_episode(task, columns)
        writer.close()
    dataset = JoinedDataset(str(tmp_path))
    tasks = demonstrated_tasks(dataset, None)
    assert tasks == ("sweep", "wipe")
    with pytest.raises(ColaWorldError, match="action_range"):
        load_demonstrations(dataset, np.arange(2), tasks, 64, real_actions(dataset, ActionScale()))
    scale = ActionScale.of([-6, 6], {2})
    found = load_demonstrations(dataset, np.arange(2), tasks, 64, real_actions(dataset, scale))
    assert found.frames.shape == (6, 64, 64, 3) and (found.actions == 0.5).all()
    assert demonstrated_tasks(dataset, ["wipe"]) == ("wipe",)
    with pytest.raises(ColaWorldError, match="is of \\['fold'\\].*sweep, wipe"):
        demonstrated_tasks(dataset, ["fold"])


@pytest.mark.parametrize(
    ("ends", "action_range"), [((0, 1), [0, 1]), ((-180, 90), [-180, 180]), ((-0.5, 1), None)]
)
def test_actions_within_the_range_that_is_given_are_cloned_in_minus_one_to_one(
    ends: tuple[float, float], action_range: list[float] | None, tmp_path: Path
) -> None:
    dataset = JoinedDataset(str(write_actions(tmp_path, *ends)))
    scale = ActionScale.of(action_range, {2})
    found = load_demonstrations(dataset, np.arange(1), ("sweep",), 64, real_actions(dataset, scale))
    low, high = action_range or (-1, 1)
    expected = 2 * (np.linspace(*ends, 4) - low) / (high - low) - 1
    np.testing.assert_allclose(found.actions[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("ends", "action_range"), [((-9000, 9000), [-180, 180]), ((-0.5, 1), [0, 1]), ((0, 3), None)]
)
def test_actions_beyond_the_range_that_is_given_are_refused(
    ends: tuple[float, float], action_range: list[float] | None, tmp_path: Path
) -> None:
    dataset = JoinedDataset(str(write_actions(tmp_path, *ends)))
    scale = ActionScale.of(action_range, {2})
    told = rf"go beyond .*at least \[{ends[0]}, .*at most \[{ends[1]}, .*action_range"
    with pytest.raises(ColaWorldError, match=told):
        load_demonstrations(dataset, np.arange(1), ("sweep",), 64, real_actions(dataset, scale))


def write_actions(folder: Path, low: float, high: float) -> Path:
    """An episode of four actions of two components, from ``low`` to ``high``."""
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [2]},
    }
    with LeRobotWriter(folder, features=features, fps=10, robot_type="mine") as writer:
        actions = np.append(np.linspace(low, high, 4), 0)
        columns = {
            "observation.image": np.zeros((5, 64, 64, 3), np.uint8),
            "action": np.stack([actions, actions], 1).astype(np.float32),
        }
        writer.add_episode("sweep", columns)
        writer.close()
    return folder


def test_intended_actions_are_learned_where_the_data_has_them(tmp_path: Path) -> None:
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [2]},
        INTENDED: {"dtype": "float32", "shape": [2]},
        "next.successes": {"dtype": "bool", "shape": [2]},
    }
    with LeRobotWriter(tmp_path, features=features, fps=10, robot_type="mine") as writer:
        for solved in (4, 1):
            columns = {
                "observation.image": np.zeros((4, 64, 64, 3), np.uint8),
                "action": np.full((4, 2), 0.9, np.float32),
                INTENDED: np.full((4, 2), 0.2, np.float32),
                "next.successes": np.stack([np.arange(4) >= solved, np.ones(4, bool)], 1),
            }
            writer.add_episode("sweep", columns)
        writer.close(tasks=["sweep", "wipe"])
    dataset = JoinedDataset(str(tmp_path))
    found = load_demonstrations(
        dataset, np.arange(2), ("sweep",), 64, real_actions(dataset, ActionScale())
    )
    assert (found.actions == np.float32(0.2)).all()
    assert found.episodes.tolist() == [1, 1], "no episode that does not solve its task"


def test_a_policy_learns_and_is_kept_at_three_stages(data: Path, tmp_path: Path) -> None:
    found = clone(config(data, tmp_path, steps=120))
    assert list(found) == ["early", "middle", "late"] == finished_phases(tmp_path)
    for task in ("push_red", "open_slide"):
        assert found["late"][task] < 0.5 * found["early"][task]
    policy = load_policy(tmp_path, "cpu")
    frames = torch.from_numpy(np.stack([square_at(0), square_at(48)]))
    left, right = policy.act(frames, "push_red")[:, 0].tolist()
    assert left < -0.5 and right > 0.5
    assert policy.act(frames, "open_slide")[0, 0] > 0.5
    with pytest.raises(ColaWorldError, match="does not know the task 'stack'"):
        policy.act(frames, "stack")
    card = json.loads((tmp_path / "early" / "model_card.json").read_text())
    assert card["stage"] == "early" and card["data"]["actions"].keys() == set(policy.tasks)
    assert table(found).count("\n") == 2
    logs = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [log["step"] for log in logs if log["phase"] == "late"][-1] == 120
    assert logs[-1]["loss"] < logs[0]["loss"]


def test_a_policy_goes_on_from_another_of_the_same_tasks(data: Path, tmp_path: Path) -> None:
    first = clone(config(data, tmp_path / "first", steps=120))["late"]
    begun = str(tmp_path / "first")
    more = config(
        data, tmp_path / "more", steps=20, lr=1e-5, lr_warmup=0, init=begun, stages={"late": 1.0}
    )
    for task, error in clone(more)["late"].items():
        assert error == pytest.approx(first[task], abs=0.02)
    assert begun not in (tmp_path / "more" / "late" / "config.json").read_text()
    with pytest.raises(ColaWorldError, match="is a policy of .*push_red.*leave out init="):
        clone(config(data, tmp_path / "other", tasks=["open_slide"], init=begun))


def test_a_policy_learns_nothing_of_the_datas_own_test_split(tmp_path: Path) -> None:
    splits = {"train": "0:27", "test": "27:36"}
    data = write_demonstrations(tmp_path / "data", splits=splits)
    clone(config(data, tmp_path / "out", steps=2, stages={"late": 1.0}, held_out=0.5))
    card = json.loads((tmp_path / "out" / "late" / "model_card.json").read_text())
    assert card["data"]["episodes"] == 12, "four of nine solve their task"


def test_where_no_held_out_episode_solves_its_task_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_demonstrations(tmp_path / "data", splits={"train": "0:33", "test": "33:36"})
    assert clone(config(data, tmp_path / "out", steps=2, stages={"late": 1.0})) == {"late": {}}
    assert "None of 3 held-out episodes solves its task" in capsys.readouterr().out
    assert (tmp_path / "out" / "late" / "config.json").is_file()


def test_latent_actions_are_cloned_from_frames_alone(data: Path) -> None:
    dataset, model = JoinedDataset(str(data)), small_model().eval()
    tasks = demonstrated_tasks(dataset, None)
    found = load_demonstrations(dataset, np.arange(3), tasks, 64, latent_actions(model))
    frames = torch.from_numpy(dataset.episode(0).frames)
    vectors = model.infer_actions(frames[None]).vectors[0].flatten(1)
    torch.testing.assert_close(found.actions[:SOLVED_AFTER], vectors[:SOLVED_AFTER])
    assert found.actions.shape == (2 * SOLVED_AFTER, vectors.shape[1])
    with pytest.raises(ColaWorldError, match="needs a world model with latent actions"):
        latent_actions(small_model(conditioning="direct"))


def test_a_policy_with_latent_actions_gets_real_ones_from_few_episodes(
    data: Path, tmp_path: Path
) -> None:
    small_model().save_pretrained(tmp_path / "model")
    latent = {"latent": str(tmp_path / "model"), "steps": 10, "stages": {"late": 1.0}}
    clone(config(data, tmp_path / "latent", **latent))
    begun = str(tmp_path / "latent")
    frame = torch.from_numpy(square_at(0))[None]
    with pytest.raises(ColaWorldError, match="latent actions alone.*cola clone init="):
        load_policy(begun, "cpu").act(frame, "push_red")
    few = {"init": begun, "episodes": 5, "steps": 300}
    for learns in ("heads", "all"):
        clone(config(data, tmp_path / learns, learns=learns, **few))
        policy = load_policy(tmp_path / learns, "cpu")
        kept = [
            torch.equal(one, other)
            for one, other in zip(
                policy.trunk.state_dict().values(),
                load_policy(begun, "cpu").trunk.state_dict().values(),
                strict=True,
            )
        ]
        assert all(kept) == (learns == "heads")
        card = json.loads((tmp_path / learns / "late" / "model_card.json").read_text())
        assert card["data"]["episodes"] == 5
        assert sorted(card["data"]["actions"].values()) == [2 * SOLVED_AFTER, 3 * SOLVED_AFTER]
    ends = torch.from_numpy(np.stack([square_at(0), square_at(48)]))
    left, right = policy.act(ends, "push_red")[:, 0].tolist()
    assert left < right - 0.2


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return VisualPolicy.from_pretrained(folder).state_dict()


def test_a_killed_cloning_ends_with_the_same_weights_and_logs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"steps": 12, "log_every": 4, "stages": {"first": 0.5, "last": 1.0}}
    clone(config(data, tmp_path / "whole", **short))
    learn = Cloning._learn

    def killed(self: Cloning, step: int, *rest: object) -> torch.Tensor:
        if step == 10:
            raise Killed
        return learn(self, step, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Cloning, "_learn", killed)
        clone(config(data, tmp_path / "killed", **short))
    assert finished_phases(tmp_path / "killed") == ["first"]
    with pytest.raises(ColaWorldError, match="other settings .*lr: 0.003 there, 1.0 here"):
        clone(config(data, tmp_path / "killed", **short, lr=1.0))
    clone(config(data, tmp_path / "killed", **short))
    for stage in ("first", "last"):
        one, other = (weights(tmp_path / name / stage) for name in ("whole", "killed"))
        assert all(torch.equal(one[key], other[key]) for key in one)
    logs = [(tmp_path / name / "history.jsonl").read_text() for name in ("whole", "killed")]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [4, 6, 8, 12]
    assert [json.loads(line)["step"] for line in logs[1].splitlines()] == [4, 6, 8, 12]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stages": {"a": 0.5}}, "shares that rise to 1"),
        ({"stages": {"a": 0.001, "b": 1.0}}, "shares that rise to 1"),
        ({"tasks": ["stack"]}, r"is of \['stack'\].*push_red, open_slide, play"),
        ({"logger": "paper"}, "logger"),
        ({"learns": "trunk"}, "all or heads"),
        ({"learns": "heads"}, "name it by init="),
        ({"episodes": 0}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_told_early(
    settings: dict[str, object], told: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ColaWorldError, match=told):
        clone(config(data, tmp_path, **settings))
    assert not list(tmp_path.glob("*/config.json"))
