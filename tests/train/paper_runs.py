"""The paper's recipes with models of a few weights, and data for them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import cola_train.__main__ as cli
from cola_train.data.episode_source import DamageReport
from tests.train.small import moving_square

CONF = Path(cli.__file__).parent / "conf"
TINY = {
    "image_size": 64,
    "vae_config": {
        "spatial": {
            "block_out_channels": [4, 4, 4, 4],
            "layers_per_block": 1,
            "norm_num_groups": 2,
        },
        "temporal": {"filters": 4, "num_res_blocks": 1, "num_groups": 2},
    },
    "stdit_config": {
        "input_size": 8,
        "hidden_size": 32,
        "depth": 1,
        "num_heads": 2,
        "window": 4,
    },
    "conditioner_config": {"hidden_size": 32, "num_layers": 1, "num_heads": 2},
    "idm_config": {"input_size": 28, "hidden_size": 32, "depth": 1, "num_heads": 2},
}
TINY_FDM = {"fdm_config": {"image_size": 28, "hidden_size": 32, "depth": 1, "num_heads": 2}}


def paper_settings(recipe: str, out: Path, *overrides: str, **model: object) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", [f"recipe={recipe}", "data=none", f"out={out}", *overrides])
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(config.model, TINY, model)
    for name in config.order:
        config.phases[name].update(steps=2, batch_size=2, clip=4, measured_clips=4)
    return config


def tiny_sources() -> Any:
    clips = moving_square(episodes=4, steps=4)
    return SimpleNamespace(
        fps=10.0,
        rendering="fast", action_dim=5, has_actions=True, damage_report=DamageReport(),
        split=lambda name, size: clips, check_actions=lambda: None, other_rates=[],
    )  # fmt: skip
