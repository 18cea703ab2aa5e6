"""Makes a checkpoint to ship: `cola publish run=runs/mine out=FOLDER`.

Writes the last finished phase of a run in half precision, with a model card that says what it was
trained on, by which recipe and commit, and what it measures on held-out episodes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cola_env.checkpoints import RECIPE, finished_phases
from cola_env.files import write_json
from cola_env.models.autoencoders.autoencoder import Pixels
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import OWN, ROBODESK, WorldInfo, find_world
from cola_train.command import command, cpu_threads
from cola_train.data.mixture import check_length
from cola_train.data.sources import OTHER_RENDERING, DataSources
from cola_train.evaluation.controllability import controllability
from cola_train.run_folder import write_folder
from cola_train.trained_models import data_of, fits_actions, has_codes, held_out_of, recipe_of

PRIVATE = ("data", "out", "init", "averaged", "loading.index", "trainer.latent_cache")
"""What a published recipe leaves out: paths of the machine it was trained on."""

CARD = """\
---
library_name: colaworld
license: mit
tags: [world-model, latent-actions, gymnasium, {world}]
---
# ColaWorld {conditioning}, {size} ({parameters:.1f} M parameters)

A world model of {scene}, conditioned on {actions}.
It predicts the next frame from the past and an action in {steps} sampling step(s). Load it with
`ColaWorldModel.from_pretrained(folder)` or
`gym.make("ColaWorld-{simulator}-v0", checkpoint=folder{mode})`.

## Training

Commit {commit}; {data}.
Optimiser steps: {phases}.{origin} The full recipe is in `recipe.yaml`.

## Held-out measures ({clips} clips of {length} frames of {held_out} held-out episodes)

PSNR in dB of the next frame on the pixels that move (changes above 0.05), one sampling step:

| condition | PSNR |
|---|---|
{measures}

`own - shuffled` = {gap:.2f} dB is what the model owes to its actions. {codes}
Weights are stored in float16. Limits: {limits}.
"""

ROWS = {
    "copy": "last frame repeated",
    "none": "no action",
    "shuffled": "actions of another clip",
    "adapter": "real actions through the adapter",
    "own": "own actions",
    "autoencoder": "ceiling: the autoencoder's reconstruction",
}


def publish(
    run: Path, data: Any, out: Path, length: int | None = None, clips: int = 256
) -> dict[str, float]:
    """Write the checkpoint and its card to ``out``; returns the held-out measures.

    ``data``: as for training; None: that of the run. ``length``: frames of a measured clip; None:
    the model's window.

    Raises ColaWorldError when ``run`` has no finished phase, or the data does not fit the model.
    """
    finished = finished_phases(run)
    sources, recipe = data_of(run, data), recipe_of(run)
    model = ColaWorldModel.from_pretrained(run / finished[-1]).float().eval()
    length = length or model.window
    adapter = has_codes(model) and fits_actions(sources, model)
    acted = adapter or model.config.conditioning == "direct"
    held_out = held_out_of(sources, model, acted)
    check_length(held_out, length)
    measures = controllability(model, held_out, length, adapter, clips)
    count = sources.num_episodes("test", acted)
    card = model_card(model, recipe, finished, sources, measures, count, clips, length)

    def write(folder: Path) -> None:
        model.half().save_pretrained(folder)
        forget_origin(folder / "config.json")
        (folder / "README.md").write_text(card)
        write_json(folder / "measures.json", measures)
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


def model_card(
    model: ColaWorldModel,
    recipe: Mapping[str, Any],
    phases: Sequence[str],
    sources: DataSources,
    measures: Mapping[str, float],
    held_out: int,
    clips: int,
    length: int,
) -> str:
    """The text of README.md.

    ``phases``: the finished ones of the ``recipe``; ``measures``: ``controllability`` on so many
    ``clips`` of ``length`` frames of ``held_out`` episodes.
    """
    config, world = model.config, world_of(model, sources)
    actions, mode = "real actions", ""
    if config.conditioning == "latent":
        adapted = "adapter" in measures
        actions = "latent actions" + " (real ones go through an adapter)" * adapted
        mode = "" if adapted else ', action_mode="latent"'
    rendered = f"{world.simulator} at {config.image_size} px ({config.rendering} rendering)"
    rows = [
        f"| {title} | {measures[key]:.2f} |"
        for key, title in ROWS.items()
        if key in measures and not (key == "autoencoder" and isinstance(model.coder, Pixels))
    ]
    return CARD.format(
        world=world.name,
        simulator=world.simulator,
        scene=f"video at {config.image_size} px" if world is OWN else rendered,
        conditioning=config.conditioning,
        size=recipe.get("size", "mini"),
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        actions=actions,
        mode=mode,
        steps=config.num_inference_steps,
        commit=commit(),
        data=describe_data(sources, recipe.get("max_episodes")),
        phases=steps_of(recipe, phases),
        origin=origin(recipe.get("init")),
        held_out=held_out,
        clips=clips,
        length=length,
        measures="\n".join(rows),
        gap=measures["gap"],
        codes=describe_codes(measures, model),
        limits="it knows the scenes of its data alone"
        if world is OWN
        else "one simulated scene, one camera, one rendering profile",
    )


def world_of(model: ColaWorldModel, sources: DataSources) -> WorldInfo:
    """The world that a model dreams of, by its rendering profile and by what its data says."""
    if model.config.rendering == OTHER_RENDERING:
        return OWN
    named = [str(info["env"]) for info in sources.infos if "env" in info]
    return find_world(named[0]) if named else ROBODESK


def describe_data(sources: DataSources, at_most: int | None) -> str:
    """How many episodes of what; ``at_most``: so many of each source were trained on."""
    count = sources.num_episodes("train")
    text = f"{count} training episodes"
    if at_most and at_most < count:
        text += f", of each source at most the first {at_most},"
    repeats = [info["action_repeat"] for info in sources.infos if "action_repeat" in info]
    if repeats:
        text += f" of scripted and random actions in the simulator (action repeat {repeats[0]})"
    if sources.config.fps:
        text += f" at {sources.config.fps:g} frames a second"
    return text


def steps_of(recipe: Mapping[str, Any], phases: Sequence[str]) -> str:
    """ "warm_up 1000, end_to_end 6000"."""
    return ", ".join(f"{name} {recipe['phases'][name]['steps']}" for name in phases)


def origin(init: str | None) -> str:
    """A sentence on the model that a training went on from; none for one from scratch."""
    if not init:
        return ""
    folder = Path(init).expanduser()
    recipe = recipe_of(folder)
    if "phases" not in recipe:
        return " It went on from another model."
    phases, start = list(recipe["phases"]), recipe.get("start")
    if folder.name in phases:
        phases = phases[: phases.index(folder.name) + 1]
    if start in phases:
        phases = phases[phases.index(start) :]
    return f" It went on from a model of {steps_of(recipe, phases)}."


def describe_codes(measures: Mapping[str, float], model: ColaWorldModel) -> str:
    """How well the codes are used; nothing of a model without them."""
    parts = []
    for name, title in (("lam", "The IDM's codes"), ("adapter", "the adapter's")):
        if f"{name}_entropy" in measures:
            used, top, entropy = (
                measures[f"{name}_{key}"] for key in ("utilisation", "max_usage", "entropy")
            )
            quantizer = model.quantizer.config
            codes = quantizer.num_codes**quantizer.num_tokens
            parts.append(
                f"{title}: utilisation {used:.2f} of {codes:,}, maximal usage {top:.3f}, "
                f"entropy {entropy:.2f} nats"
            )
    return "; ".join(parts) + "." if parts else ""


def commit() -> str:
    """Of this code; "unknown" where it lies in no git checkout or there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return result.stdout.strip() or "unknown"


@command("publish")
def main(config: DictConfig) -> None:
    if config.env is not None:
        find_world(config.env)
    with cpu_threads(config.threads):
        measures = publish(Path(config.run), config.data, Path(config.out))
    print("  ".join(f"{key} {value:.3g}" for key, value in measures.items()))
    print(f"The checkpoint is in {config.out}.")


if __name__ == "__main__":
    main()
