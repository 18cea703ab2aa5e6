"""How long do dreams stay true? python -m benchmarks.measurements.dream_psnr data=FOLDER

Several models imagine the same held-out clips of each folder behind two true frames: PSNR by
imagined step on the pixels that move, and measures over all steps and pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.harness import command_line, machine, plain, report
from cola_env.checkpoints import find_checkpoint
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import find_world
from cola_train.command import command
from cola_train.console import progress_bar
from cola_train.data.clips import TrainingData
from cola_train.data.latent_cache import encoded
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.evaluation.rollout_quality import Networks, multi_step_psnr, video_quality
from cola_train.trained_models import held_out_of


def dream_quality(
    model: ColaWorldModel, clips: TrainingData, horizon: int, count: int
) -> dict[str, dict[str, Any]]:
    """By kind of action, as in ``multi_step_psnr``: ``moving_by_step``, dB of frames 1 to
    ``horizon`` where pixels move, and the measures of ``video_quality``."""
    latents = encoded(clips, model, cache=None)
    by_step = multi_step_psnr(model, latents, horizon, count)
    quality = video_quality(model, latents, horizon, Networks(), count)
    return {
        name: {"moving_by_step": [round(value, 2) for value in by_step[name]]}
        | {key: round(value, 2) for key, value in quality[name].items()}
        for name in by_step
    }


def measure(config: DictConfig) -> dict[str, Any]:
    world = find_world(config.env)
    names, folders = plain(config.model), plain(config.data)
    models = {name: load_model(find_checkpoint(name, world), "cpu") for name in names}
    results: dict[str, Any] = {}
    for folder in [folders] if isinstance(folders, str) else folders:
        sources = DataSources(folder, LoadingConfig(workers=0))
        results[folder] = {
            name: dream_quality(
                model, held_out_of(sources, model, with_actions=True), config.horizon, config.clips
            )
            for name, model in progress_bar(models.items(), folder, unit="model")
        }
    return {
        "command": command_line("benchmarks.measurements.dream_psnr"),
        "machine": machine(torch.device("cpu")),
        "held_out": results,
    }


@command("dream_psnr")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    report(measure(config), config.out)


if __name__ == "__main__":
    main()
