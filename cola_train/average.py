"""Averages the weights of finetunings of one model: `cola average runs=[runs/a,runs/b] out=FOLDER`.

Models that were finetuned from the same weights, with other data, steps or seeds, lie in one valley
of the loss, and the mean of their weights is mostly better than each ("model soups", Wortsman et
al., arXiv 2203.05482). Models that were not have nothing in common, and their mean is noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch.optim.swa_utils import AveragedModel

from cola_env.checkpoints import RECIPE, find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command, cpu_threads
from cola_train.run_folder import write_folder
from cola_train.trained_models import recipe_of


def average(runs: Sequence[Path]) -> ColaWorldModel:
    """The mean of the last models of at least two trainings, in float32.

    Raises ColaWorldError for fewer, and for models of different configs.
    """
    if len(runs) < 2:
        raise ColaWorldError("runs= needs the folders of at least two trainings.")
    first = load_model(runs[0], "cpu").float()
    mean = AveragedModel(first)
    mean.update_parameters(first)
    for run in runs[1:]:
        model = load_model(run, "cpu").float()
        if differing := sorted(_differing(first, model)):
            raise ColaWorldError(
                f"{run} differs from {runs[0]} in {', '.join(differing)}: only finetunings of the "
                "same model can be averaged."
            )
        mean.update_parameters(model)
    assert isinstance(mean.module, ColaWorldModel)
    return mean.module


def _differing(one: ColaWorldModel, other: ColaWorldModel) -> set[str]:
    """The settings of two models that are not the same."""
    mine, theirs = dict(one.config), dict(other.config)
    names = {name for name in mine.keys() | theirs.keys() if not name.startswith("_")}
    return {name for name in names if mine.get(name) != theirs.get(name)}


@command("average")
def main(config: DictConfig) -> None:
    """`out` becomes a folder as the first of `runs`: of a training with its recipe, or a model."""
    runs, out = [Path(run) for run in config.runs], Path(config.out)
    if out.exists() and any(out.iterdir()):
        raise ColaWorldError(f"{out} is not empty: name a new folder as out=.")
    with cpu_threads(config.threads):
        model = average(runs)
    first = find_checkpoint(runs[0])
    if not (first.parent / RECIPE).is_file():
        write_folder(out, model.save_pretrained)
    else:
        write_folder(out / first.name, model.save_pretrained)
        recipe = recipe_of(first) | {"averaged": [str(run) for run in runs]}
        OmegaConf.save(OmegaConf.create(recipe), out / RECIPE)
    print(f"The mean of {len(runs)} models is in {out}.")


if __name__ == "__main__":
    main()
