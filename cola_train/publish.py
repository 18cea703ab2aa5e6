"""`python -m cola_train.publish run=runs/mine out=FOLDER`: a checkpoint to ship.

Writes the last finished phase of a run in half precision, with a model card that says what it was
trained on, by which recipe and commit, and what it measures on held-out episodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from cola_env.checkpoints import RECIPE, finished_phases
from cola_env.models.world_model import ColaWorldModel
from cola_train.card import model_card
from cola_train.command import command
from cola_train.data.mixture import check_length
from cola_train.evaluation.obedience import obedience
from cola_train.files import write_folder
from cola_train.runs import (
    data_of,
    fits_actions,
    has_codes,
    held_out_of,
    recipe_of,
)

PRIVATE = ("data", "out", "init", "loading.index", "trainer.latent_cache")
"""What a published recipe leaves out: paths of the machine it was trained on."""


def publish(run: Path, data: Any, out: Path, length: int = 8, clips: int = 256) -> dict[str, float]:
    """Write the checkpoint and its card to ``out``; returns the held-out measures.

    ``data``: as for training; None: that of the run. Raises ColaWorldError when ``run`` has no
    finished phase, or the data does not fit the model.
    """
    finished = finished_phases(run)
    sources, recipe = data_of(run, data), recipe_of(run)
    model = ColaWorldModel.from_pretrained(run / finished[-1]).float().eval()
    adapter = has_codes(model) and fits_actions(sources, model)
    acted = adapter or model.config.conditioning == "direct"
    held_out = held_out_of(sources, model, acted)
    check_length(held_out, length)
    measures = obedience(model, held_out, length, adapter, clips)
    count = sources.num_episodes("test", acted)
    card = model_card(model, recipe, finished, sources, measures, count, clips, length)

    def write(folder: Path) -> None:
        model.half().save_pretrained(folder)
        forget_origin(folder / "config.json")
        (folder / "README.md").write_text(card)
        (folder / "measures.json").write_text(json.dumps(measures, indent=1) + "\n")
        OmegaConf.save(shareable(recipe), folder / RECIPE)

    write_folder(out, write)
    return measures


def shareable(recipe: Mapping[str, Any]) -> DictConfig:
    """The recipe without what is ``PRIVATE``."""
    config = OmegaConf.create(dict(recipe))
    for key in PRIVATE:
        group, _, name = key.rpartition(".")
        (config.get(group, {}) if group else config).pop(name, None)
    return config


def forget_origin(config: Path) -> None:
    """Drop the path of the run that diffusers notes in a saved config."""
    settings = json.loads(config.read_text())
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2) + "\n")


@command("publish")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    data: Any = OmegaConf.to_container(config)["data"]  # type: ignore[call-overload, index]
    measures = publish(Path(config.run), data, Path(config.out))
    print("  ".join(f"{key} {value:.3g}" for key, value in measures.items()))
    print(f"The checkpoint is in {config.out}.")


if __name__ == "__main__":
    main()
