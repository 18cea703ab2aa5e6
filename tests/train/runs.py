"""Settings of trainings with models of a few weights, and their results."""

import json
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import cola_train.__main__ as cli
from cola_env.models.world_model import ColaWorldModel
from tests.train.small import SMALL

CONF = Path(cli.__file__).parent / "conf"


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", list(overrides))
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(config.get("model", {}), SMALL)
    for name in config.order:
        config.phases[name].update(steps=2, batch_size=2, clip=4, lr_warmup=1, measured_clips=8)
    config.phases.warm_up.update(continuous_steps=1, restart_steps=1, restart_every=1)
    return config


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return ColaWorldModel.from_pretrained(folder).state_dict()


def losses(history: str) -> list[float]:
    """Of every step, from the text of history.jsonl."""
    return [line["loss"] for line in map(json.loads, history.splitlines()) if "loss" in line]
