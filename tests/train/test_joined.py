"""Several dataset folders as one."""

from pathlib import Path

import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_train.data.labelled_frames import JoinedDataset
from cola_train.data.lerobot_writer import LeRobotWriter

FEATURES = {
    "observation.image": {"dtype": "video", "shape": [32, 32, 3]},
    "action": {"dtype": "float32", "shape": [2]},
}


def write(folder: Path, values: list[float], rendering: str = "fast") -> str:
    with LeRobotWriter(folder, features=FEATURES, fps=10, robot_type="stub") as writer:
        for value in values:
            frames = np.full((4, 32, 32, 3), 128, np.uint8)
            actions = np.full((4, 2), value, np.float32)
            writer.add_episode("task", {"observation.image": frames, "action": actions}, {})
        writer.close({"train": "0:1", "test": f"1:{len(values)}"}, rendering=rendering)
    return str(folder)


def test_episodes_and_splits_of_all_folders_follow_one_another(tmp_path: Path) -> None:
    both = JoinedDataset(
        [write(tmp_path / "a", [0.1, 0.2]), write(tmp_path / "b", [0.3, 0.4, 0.5])]
    )
    assert both.num_episodes == 5
    values = [both.episode(i).actions[0, 0] for i in range(5)]
    assert values == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert both.split("train") == [0, 2]
    assert both.split("test") == [1, 3, 4]


def test_rendering_profiles_do_not_mix(tmp_path: Path) -> None:
    folders = [write(tmp_path / "a", [0, 0]), write(tmp_path / "b", [0, 0], rendering="vp2")]
    with pytest.raises(ColaWorldError, match="cannot be mixed"):
        JoinedDataset(folders)
