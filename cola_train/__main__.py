"""`python -m cola_train recipe=joint_mini data=FOLDER out=FOLDER`: train a world model."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cola_env.checkpoints import pick_device
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import load_clips
from cola_train.trainer import Trainer, TrainerConfig


def build_model(cfg: DictConfig, rendering: str) -> ColaWorldModel:
    """The recipe's model; ``cfg.init`` (a model folder) gives the components it shares."""
    settings = {str(key): value for key, value in cfg.model.items()}
    model = ColaWorldModel(**settings, rendering=rendering)
    if cfg.init:
        state = ColaWorldModel.from_pretrained(cfg.init).state_dict()
        unknown = model.load_state_dict(state, strict=False).missing_keys
        print(f"Took {len(state)} tensors from {cfg.init}; {len(unknown)} start fresh.")
    return model


def train(cfg: DictConfig) -> None:
    """Run the recipe's phases. Raises ColaWorldError for settings or data that do not fit."""
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(cfg.threads)
    names = list(cfg.phases)
    if cfg.start and cfg.start not in names:
        raise ColaWorldError(f"start={cfg.start} is no phase of this recipe: {', '.join(names)}.")
    names = names[names.index(cfg.start) :] if cfg.start else names
    phases = [instantiate(cfg.phases[name], name=name) for name in names]
    clips, info = load_clips(cfg.data, "train")
    held_out, _ = load_clips(cfg.data, "test")
    model = build_model(cfg, info["rendering"]).to(pick_device(cfg.device))
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, out / "recipe.yaml", resolve=True)
    Trainer(model, phases, clips, held_out, out, cfg.seed, TrainerConfig(**cfg.trainer)).run()


@hydra.main(config_path="conf", config_name="train", version_base=None)
def main(cfg: DictConfig) -> None:
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        if missing:
            raise ColaWorldError(f"Give {' and '.join(f'{name}=FOLDER' for name in missing)}.")
        train(cfg)
    except ColaWorldError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command goes on from the last checkpoint.")


if __name__ == "__main__":
    main()
