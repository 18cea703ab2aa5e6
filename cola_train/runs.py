"""What a training has left in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cola_env.checkpoints import load_model
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.training_data import DataSources, LoadingConfig

RECIPE = "recipe.yaml"


def named_run(config: DictConfig) -> Path:
    """``config.run``; raises ColaWorldError where it is not given."""
    if OmegaConf.is_missing(config, "run"):
        raise ColaWorldError("Give run=FOLDER: the `out` of a training, or a model's folder.")
    return Path(config.run)


def finished_phases(run: Path) -> list[str]:
    """Of a training's ``out``, in order; their models lie in the folders of these names.

    Raises ColaWorldError when there is none.
    """
    recipe = run / RECIPE
    names = OmegaConf.load(recipe).phases if recipe.exists() else []
    finished = [str(name) for name in names if (run / str(name) / "config.json").exists()]
    if not finished:
        raise ColaWorldError(f"No phase of {run} is finished yet: train it to the end first.")
    return finished


def model_folder(run: Path) -> Path:
    """``run`` itself if it is a model's folder, else that of the last finished phase."""
    return run if (run / "config.json").exists() else run / finished_phases(run)[-1]


def has_codes(model: ColaWorldModel) -> bool:
    """Whether its actions are codes of a codebook."""
    config = model.config
    return config.conditioning == "latent" and config.quantizer_config["kind"] == "codes"


def coded_model(run: Path, device: str = "auto") -> ColaWorldModel:
    """The model of ``run`` (see ``model_folder``), in float32 for inference.

    Raises ColaWorldError when its actions are not codes of a codebook.
    """
    model = load_model(model_folder(run), device).float()
    if not has_codes(model):
        raise ColaWorldError(f"{run} has no codebook: its actions are continuous.")
    return model


def data_of(run: Path, data: Any = None, fps: float | None = None) -> DataSources:
    """``data`` (as for training) at ``fps``; where they are None, those that ``run``, a training's
    ``out`` or a model's folder in it, was trained with.

    Raises ColaWorldError when nothing says which.
    """
    recipes = [file for folder in (run, run.resolve().parent) if (file := folder / RECIPE).exists()]
    recipe: Any = OmegaConf.to_container(OmegaConf.load(recipes[0])) if recipes else {}
    data, fps = data or recipe.get("data"), fps or recipe.get("fps")
    if not data:
        raise ColaWorldError(f"{run} does not say what it was trained on: give data=FOLDER.")
    return DataSources(data, LoadingConfig(fps=fps, workers=0))
