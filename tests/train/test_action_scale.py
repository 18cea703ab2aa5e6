"""Actions in degrees or pixels: refused as they are, scaled as the settings say."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.trained_models import data_of
from tests.train.conftest import write_demos, write_lerobot
from tests.train.runs import settings

LENGTHS = [9, 10, 11]


def degrees(tmp_path: Path, kind: str) -> Path:
    """Data whose actions go from (0, 0, 90, ...) to (1000, 2, 90, ...)."""
    if kind == "hdf5":
        path = write_demos(tmp_path / "degrees.hdf5", LENGTHS)
        with h5py.File(path, "r+") as file:
            for demo in file["data"].values():
                actions = demo["actions"]
                actions[:] = degrees_of(actions[:])
        return path
    path = write_lerobot(tmp_path / "degrees", LENGTHS)
    return in_degrees(path)


def degrees_of(actions: np.ndarray) -> np.ndarray:
    return np.concatenate([actions[:, :1] * 1e4, actions[:, 1:2] * 100, actions[:, 2:] + 90], 1)


def in_degrees(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    highest = []
    for file in (folder / "data").glob("*/*.parquet"):
        table = pq.read_table(file)
        actions = degrees_of(np.stack(table["action"].to_numpy())).astype(np.float32)
        column = table.column_names.index("action")
        values = pa.array(actions.tolist(), table.schema.field("action").type)
        pq.write_table(table.set_column(column, table.schema.field("action"), values), file)
        highest.append(actions.max(0))
    stats = json.loads((folder / "meta/stats.json").read_text())
    stats["action"] |= {"min": [0, 0, 90, 90, 90], "max": np.max(highest, 0).tolist()}
    (folder / "meta/stats.json").write_text(json.dumps(stats))
    return folder


@pytest.mark.parametrize("kind", ["hdf5", "lerobot", "lerobot without statistics"])
def test_actions_that_no_environment_sends_are_refused_before_anything_trains(
    kind: str, tmp_path: Path
) -> None:
    path = degrees(tmp_path, kind)
    if kind.endswith("statistics"):
        (path / "meta/stats.json").unlink()
    recipe = f"data={path}", f"out={tmp_path / 'run'}"
    told = (
        rf"{path} go beyond .*at least \[0, 0, 90.*at most \[\d+, 2, 90.*loading.action_range=\[LOW"
    )
    with pytest.raises(ColaWorldError, match=told):
        cli.train(settings("recipe=joint_mini", *recipe))
    assert not (tmp_path / "run").exists()
    cli.train(settings("recipe=video_mini", "order=[pretrain]", *recipe))


@pytest.mark.parametrize("kind", ["hdf5", "lerobot"])
@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_the_range_that_is_given_becomes_minus_one_to_one(
    kind: str, memory: float, tmp_path: Path
) -> None:
    path = str(degrees(tmp_path, kind))
    ends = [[0, -2, 0, 80, 90], [1000, 2, 180, 100, 100]]
    config = LoadingConfig(memory_gb=memory, workers=0, action_range=ends)
    sources = DataSources(path, config)
    sources.check_actions()
    actions = sources.split("train", 16).sample(8, 4, torch.Generator().manual_seed(0)).actions
    first = actions[..., 0]
    assert (first >= -1).all() and (first <= 1).all()
    torch.testing.assert_close(first[:, 1:] - first[:, :-1], torch.full((8, 2), 0.2))
    assert set(actions[..., 1].unique().tolist()) <= {0.0, 0.5, 1.0}
    expected = torch.tensor([0.0, 0.0, -1.0]).expand(8, 3, 3)
    torch.testing.assert_close(actions[..., 2:], expected)


def test_one_number_serves_all_components_and_too_narrow_a_range_is_told(tmp_path: Path) -> None:
    path = str(degrees(tmp_path, "hdf5"))
    DataSources(path, LoadingConfig(action_range=[-1000, 1000])).check_actions()
    with pytest.raises(ColaWorldError, match="go beyond"):
        DataSources(path, LoadingConfig(action_range=[-180, 180])).check_actions()


@pytest.mark.parametrize("wrong", [3, "wide", [0], [1, 0], [0, [1, 2]], [[0] * 4, [1] * 4]])
def test_a_range_that_is_none_is_told(wrong: object, tmp_path: Path) -> None:
    path = str(write_demos(tmp_path / "demos.hdf5", LENGTHS))
    with pytest.raises(
        ColaWorldError, match=r"loading.action_range=.*give loading.action_range=\["
    ):
        DataSources(path, LoadingConfig(action_range=wrong))


def test_a_run_is_measured_on_actions_scaled_as_it_was_trained(tmp_path: Path) -> None:
    path = str(degrees(tmp_path, "hdf5"))
    loading = {"action_range": [0, [1000, 2, 90.5, 90.5, 90.5]]}
    OmegaConf.save({"data": path, "fps": None, "loading": loading}, tmp_path / "recipe.yaml")
    data_of(tmp_path).check_actions()
