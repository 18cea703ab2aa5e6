"""Several dataset folders as one."""

from collections.abc import Sequence
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


def write(
    folder: Path,
    values: Sequence[float],
    rendering: str = "fast",
    splits: dict[str, str] | None = None,
) -> str:
    """Every third episode shows another task. splits: without any, all is "train"."""
    with LeRobotWriter(folder, features=FEATURES, fps=10, robot_type="stub") as writer:
        for number, value in enumerate(values):
            frames = np.full((4, 32, 32, 3), 128, np.uint8)
            actions = np.full((4, 2), value, np.float32)
            task = "rare" if number % 3 == 2 else "task"
            writer.add_episode(task, {"observation.image": frames, "action": actions}, {})
        writer.close(splits, rendering=rendering)
    return str(folder)


def test_episodes_of_all_folders_follow_one_another(tmp_path: Path) -> None:
    both = JoinedDataset(
        [write(tmp_path / "a", [0.1, 0.2]), write(tmp_path / "b", [0.3, 0.4, 0.5])]
    )
    assert both.num_episodes == 5
    values = [both.episode(i).actions[0, 0] for i in range(5)]
    assert values == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def held_out(*folders: str, share: float = 0.25) -> list[int]:
    return JoinedDataset(folders).hold_out(share, seed=0)[1].tolist()


def test_a_folders_own_test_split_is_what_is_held_out_of_it(tmp_path: Path) -> None:
    a = write(tmp_path / "a", range(6), splits={"test": "0:2", "train": "2:6"})
    b = write(tmp_path / "b", range(5), splits={"train": "0:4", "validation": "4:5"})
    assert held_out(a, b) == [0, 1, 10]
    assert held_out(a, b, share=0.9) == [0, 1, 10], "whatever is held out of other folders"
    trained, _ = JoinedDataset([a, b]).hold_out(0.25, seed=0)
    assert trained.tolist() == [2, 3, 4, 5, 6, 7, 8, 9]


def test_without_one_the_same_share_of_each_policys_is_held_out_of_every_folder(
    tmp_path: Path,
) -> None:
    a, b = (write(tmp_path / name, range(count)) for name, count in (("a", 24), ("b", 12)))
    for numbers in (held_out(a), [n - 24 for n in held_out(a, b) if n >= 24]):
        rare = [number for number in numbers if number % 3 == 2]
        assert len(numbers) == 3 * len(rare) > 0
    assert len(held_out(a, b)) == 9


def test_what_is_held_out_of_a_folder_stays_so_when_others_are_added(tmp_path: Path) -> None:
    a, b = (write(tmp_path / name, range(count)) for name, count in (("a", 24), ("b", 12)))
    c = write(tmp_path / "c", range(6), splits={"train": "0:5", "test": "5:6"})
    alone = held_out(a)
    assert [number for number in held_out(a, b, c) if number < 24] == alone
    assert [number - 18 for number in held_out(c, b, a) if number >= 18] == alone
    assert [number - 6 for number in held_out(c, a) if number >= 6] == alone


def test_episodes_of_a_split_that_does_not_tell_are_in_neither(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", range(12), splits={"unseen": "0:4", "train": "4:12"})
    with pytest.warns(UserWarning, match="in unseen are left out"):
        trained, numbers = JoinedDataset(folder).hold_out(0.25, seed=0)
    assert len(numbers) == 2 and sorted([*trained, *numbers]) == list(range(4, 12))


def test_none_to_train_on_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", range(4), splits={"test": "0:4"})
    with pytest.raises(ColaWorldError, match="none to train on"):
        held_out(folder)


def test_rendering_profiles_do_not_mix(tmp_path: Path) -> None:
    folders = [write(tmp_path / "a", [0, 0]), write(tmp_path / "b", [0, 0], rendering="vp2")]
    with pytest.raises(ColaWorldError, match="cannot be mixed"):
        JoinedDataset(folders)
