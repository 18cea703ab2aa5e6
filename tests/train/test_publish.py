"""A run becomes a checkpoint to ship: small, loadable, with a card that tells what it measures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from cola_env.checkpoints import load_model
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.publish import publish

FEATURES = {
    "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
    "action": {"dtype": "float32", "shape": [5]},
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    with LeRobotWriter(folder, features=FEATURES, fps=10, robot_type="stub") as writer:
        for _ in range(3):
            frames = rng.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
            actions = rng.uniform(-1, 1, (9, 5)).astype(np.float32)
            writer.add_episode("task", {"observation.image": frames, "action": actions}, {})
        writer.close({"train": "0:2", "test": "2:3"}, rendering="fast")
    return str(folder)


def test_a_published_run_loads_and_its_card_tells_the_measures(data: str, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    torch.manual_seed(0)
    model = ColaWorldModel(
        rendering="fast",
        stdit_config={"hidden_size": 32, "depth": 1, "num_heads": 2},
        conditioner_config={"hidden_size": 32, "num_heads": 2},
    )
    model.save_pretrained(run / "finetune")
    recipe = {
        "data": data,
        "seed": 3,
        "phases": {"pretrain": {"steps": 5}, "finetune": {"steps": 7}},
    }
    OmegaConf.save(recipe, run / "recipe.yaml")
    measures = publish(run, data, out, clips=4)
    card = (out / "README.md").read_text()
    assert f"| {measures['own']:.2f} |" in card
    assert "finetune 7" in card
    assert not any(str(tmp_path) in (out / f).read_text() for f in ("recipe.yaml", "config.json"))
    loaded = load_model(out, "cpu")
    assert loaded.dtype == torch.float32
    for name, weight in model.float().state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    weights = out / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 2.2 * sum(p.numel() for p in model.parameters()) + 1e5


def test_an_unfinished_run_is_refused(data: str, tmp_path: Path) -> None:
    OmegaConf.save({"phases": {"pretrain": {"steps": 5}}}, tmp_path / "recipe.yaml")
    with pytest.raises(ColaWorldError, match="No phase"):
        publish(tmp_path, data, tmp_path / "out")
