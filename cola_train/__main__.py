"""Trains a world model: `cola train recipe=joint_mini data=FOLDER out=FOLDER`."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from cola_env.checkpoints import RECIPE
from cola_env.files import write_atomically
from cola_env.models.loading import pick_device
from cola_train.collapse import CollapseConfig
from cola_train.command import command, cpu_threads
from cola_train.data.clips import TrainingData
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.phases import Phase
from cola_train.preconditions import check_same_run, require_actions
from cola_train.recipes import (
    build_model,
    chosen_phases,
    make_phase,
    name_teachers,
    scaled,
    stored_recipe,
)
from cola_train.trained_models import has_codes
from cola_train.trainer import Trainer, TrainerConfig


def train(cfg: DictConfig, sources: DataSources | None = None) -> None:
    """Run the recipe's phases. Raises ColaWorldError for settings or data that do not fit.

    sources: what ``cfg.data`` names, where it is open already.
    """
    cfg = scaled(cfg)
    with cpu_threads(cfg.threads):
        _train(cfg, sources)


def _train(cfg: DictConfig, sources: DataSources | None) -> None:
    torch.manual_seed(cfg.seed)
    phases = [make_phase(cfg, name) for name in chosen_phases(cfg)]
    name_teachers(phases, cfg)
    out, recipe = Path(cfg.out), stored_recipe(cfg)
    check_same_run(out, recipe)
    sources = sources or DataSources(cfg.data, LoadingConfig(**cfg.loading))
    require_actions(phases, sources.has_actions)
    if needs := any(phase.needs_actions for phase in phases):
        sources.check_actions()
    action_dim = sources.action_dim if needs else None
    model = build_model(cfg, sources.rendering, action_dim, sources.fps)
    data, held_out = (sources.split(name, model.config.image_size) for name in ("train", "test"))
    if cfg.max_episodes:
        data = data.first(cfg.max_episodes)
    out.mkdir(parents=True, exist_ok=True)
    config = TrainerConfig(**{**cfg.trainer, "collapse": CollapseConfig(**cfg.trainer.collapse)})
    device = pick_device(cfg.device)
    trainer = Trainer(model, phases, data, held_out, out, cfg.seed, config, device)
    if trainer.accelerator.is_main_process:
        write_atomically(out / RECIPE, lambda target: OmegaConf.save(recipe, target))
        print(*sources.other_rates, plan(phases, data, held_out, out), sep="\n")
    try:
        trainer.run()
    finally:
        if sources.damage_report.files:
            print(sources.damage_report.summary())
    if trainer.accelerator.is_main_process:
        print(f"Finished: the model is {out / phases[-1].name}.")
        if has_codes(model):
            print(f"What it has learned: python -m cola_train.show run={out}")


def plan(phases: list[Phase], data: TrainingData, held_out: TrainingData, out: Path) -> str:
    """What is about to happen, for the user."""
    steps = ", ".join(f"{phase.name} {phase.steps:,}" for phase in phases)
    return (
        f"Training on {data.num_frames:,} frames; {held_out.num_frames:,} are held out.\n"
        f"Steps: {steps}. Models, checkpoints and logs: {out}"
    )


@command("train", "Stopped; the same command goes on from the last checkpoint.")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
