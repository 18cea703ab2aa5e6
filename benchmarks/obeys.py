"""How well do latent actions control a world model? `cola obeys data=FOLDER`.

One command for everything that a joint run is judged by, on held-out episodes: next-frame PSNR
under own, shuffled, no and adapter actions beside a reference on real actions; codebook health
under the IDM and the adapter; a linear probe; PSNR over a rollout; and planning success in the
real simulator (planning=null leaves that out). Writes OUT/obeys.json and pictures of an imagined
rollout; prints a table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.harness import command_line, plain
from benchmarks.vp2 import play
from benchmarks.vp2_protocol.results import CONF, ROW_KEYS, make_rows, terminal
from benchmarks.vp2_protocol.run import Run
from cola_env.checkpoints import find_checkpoint
from cola_env.envs.starts import CONTEXT
from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import CommandSettings, command
from cola_train.data.clips import TrainingData
from cola_train.data.latent_cache import encoded
from cola_train.data.mixture import check_length
from cola_train.evaluation.controllability import controllability, linear_probe
from cola_train.evaluation.rollout_quality import (
    Networks,
    multi_step_psnr,
    rollout_picture,
    video_quality,
)
from cola_train.trained_models import data_of, has_codes, held_out_of

PROBE_EPISODES = 256
LATE = (5, 10)
"""Imagined steps whose PSNR under the adapter has a key of its own."""

GROUPS = ("env", "planner", "protocol")
"""What settings of benchmarks/vp2.py stand for many others."""

ALIKE = ("action_dim", "image_size", "rendering")
"""Settings that a model shares with its reference, which sees the same data."""


def check_models(model: ColaWorldModel, reference: ColaWorldModel, config: DictConfig) -> None:
    """ColaWorldError for a model without codes or an adapter, or a reference that takes no real
    actions or does not fit the model's data."""
    if not (has_codes(model) and "real" in model.action_modes):
        raise ColaWorldError(
            f"model={config.model} lacks the codes of latent actions or the adapter that are "
            "measured here: give model=cola, or a run of recipe=joint_mini."
        )
    if reference.action_modes == ("latent",):
        raise ColaWorldError(
            f"reference={config.reference} takes no real actions: give reference=direct, or a run "
            "of recipe=direct_mini."
        )
    for name in ALIKE:
        ours, theirs = (each.config[name] for each in (model, reference))
        if ours != theirs:
            raise ColaWorldError(
                f"reference={config.reference} has {name}={theirs}, but model={config.model} has "
                f"{name}={ours}: give a reference of the same data as the model."
            )


def measure(
    model: ColaWorldModel,
    reference: ColaWorldModel,
    train: TrainingData,
    test: TrainingData,
    config: DictConfig,
) -> dict[str, Any]:
    """The flat keys of docs/results/obeys.json, PSNR in dB on moving pixels."""
    clips, of_reference = (encoded(test, each, cache=None) for each in (model, reference))
    cola = controllability(model, clips, config.length, adapter=True, count=config.clips)
    direct = controllability(reference, of_reference, config.length, False, config.clips)
    probed = encoded(train.first(PROBE_EPISODES), model, cache=None)
    probe = linear_probe(model, probed, clips, config.length, 2 * config.clips)
    networks = Networks.of_files(config.lpips, config.fvd)
    by_step = multi_step_psnr(model, clips, config.horizon)
    late = {f"adapter_{n}": by_step["adapter"][n - 1] for n in LATE if n <= config.horizon}
    shown = ("copy", "autoencoder", "own", "shuffled", "none", "adapter", "own_all")
    return {
        **{key: cola[key] for key in shown},
        **late,
        "direct_own": direct["own"],
        "direct_shuffled": direct["shuffled"],
        "gap": cola["gap"],
        "adapter_gap": cola["adapter"] - cola["adapter_shuffled"],
        "direct_gap": direct["gap"],
        **{
            name: {source: cola[f"{source}_{name}"] for source in ("lam", "adapter")}
            for name in ("utilisation", "max_usage", "entropy")
        },
        "quality": video_quality(model, clips, config.horizon, networks, config.rollouts),
        "probe_r2": probe.r2,
        "probe_l1": probe.l1,
        "psnr_by_step": {
            "cola": by_step,
            "direct": multi_step_psnr(reference, of_reference, config.horizon),
        },
    }


def planning_run(config: DictConfig) -> Run:
    """benchmarks/vp2.py with the models that are measured, under the settings `planning`."""
    given = plain(config.planning)
    groups = [f"{name}={given.pop(name)}" for name in GROUPS if isinstance(given.get(name), str)]
    named = {
        "model": [config.model, config.reference, "random"],
        "out": f"{config.out}/planning",
        "device": config.device,
    }
    try:
        settings = CommandSettings(CONF, "vp2", ("planner",)).composed(groups)
        merged: Any = OmegaConf.merge(settings, named | given)
        return Run(merged)
    except OmegaConfBaseException as error:
        raise ColaWorldError(f"planning does not fit benchmarks/vp2.py: {error}") from error


def plan(run: Run) -> list[dict[str, Any]]:
    """Success in the real simulator, a row a model and task, as benchmarks/vp2.py counts it."""
    play(run)
    rows = make_rows(run.finished(), run.folder.settings())
    return [{key: row[key] for key in ROW_KEYS} for row in rows]


def report(results: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("measure", "value", title="Controllability on held-out episodes")
    for key, value in results.items():
        if isinstance(value, float):
            table.add_row(key, f"{value:.3f}")
        elif key in ("utilisation", "max_usage", "entropy"):
            table.add_row(key, "  ".join(f"{k} {v:.3f}" for k, v in value.items()))
        elif key.startswith("probe"):
            table.add_row(key, "  ".join(f"{v:.3f}" for v in value))
    for name, values in results["quality"].items():
        told = "  ".join(f"{k} {v:.2f}" for k, v in values.items())
        table.add_row(f"imagined, {name}", told)
    for model, rows in results["psnr_by_step"].items():
        for name, values in rows.items():
            table.add_row(f"{model} {name} by step", " ".join(f"{v:.1f}" for v in values))
    terminal().print(table)


@command("obeys")
def main(config: DictConfig) -> None:
    torch.set_num_threads(1)
    model, reference = (load_model(config[k], config.device) for k in ("model", "reference"))
    check_models(model, reference, config)
    config.length = config.length or model.window
    sources = data_of(find_checkpoint(config.model), config.data)
    test = held_out_of(sources, model, with_actions=True)
    check_length(test, CONTEXT + config.horizon)
    train = sources.split("train", model.config.image_size).with_actions()
    planned = planning_run(config) if config.planning else None
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "command": command_line("benchmarks.obeys"),
        "held_out_episodes": sources.num_episodes("test", with_actions=True),
        **measure(model, reference, train, test, config),
    }
    rollout_picture(model, test, out / "rollout.png", config.horizon)
    write_json(out / "obeys.json", results)
    report(results)
    if planned:
        results["planning"] = plan(planned)
        write_json(out / "obeys.json", results)
    print(f"Results: {out / 'obeys.json'}, picture: {out / 'rollout.png'}")


if __name__ == "__main__":
    main()
