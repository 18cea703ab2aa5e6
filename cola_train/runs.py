"""What a training has left in its folder."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from cola_env.errors import ColaWorldError


def finished_phases(run: Path) -> list[str]:
    """Of a training's ``out``, in order; their models lie in the folders of these names.

    Raises ColaWorldError when there is none.
    """
    recipe = run / "recipe.yaml"
    names = OmegaConf.load(recipe).phases if recipe.exists() else []
    finished = [str(name) for name in names if (run / str(name) / "config.json").exists()]
    if not finished:
        raise ColaWorldError(f"No phase of {run} is finished yet: train it to the end first.")
    return finished


def model_folder(run: Path) -> Path:
    """``run`` itself if it is a model's folder, else that of the last finished phase."""
    return run if (run / "config.json").exists() else run / finished_phases(run)[-1]
