"""`python -m cola_train.publish run=runs/mine data=FOLDER out=FOLDER`: a checkpoint to ship.

Writes the last finished phase of a run in half precision, with a model card that says what it was
trained on, by which recipe and commit, and what it measures on held-out episodes.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import ROBODESK, find_world
from cola_train.data.clips import load_clips
from cola_train.evaluation.obedience import obedience
from cola_train.files import replace_files
from cola_train.runs import finished_phases

CARD = """\
---
library_name: colaworld
license: mit
tags: [world-model, latent-actions, gymnasium, {world}]
---
# ColaWorld {conditioning}, mini ({parameters:.1f} M parameters)

A world model of {simulator} at {size} px ({rendering} rendering), conditioned on {actions}.
It predicts the next frame from the past and an action in {steps} sampling step(s). Load it with
`ColaWorldModel.from_pretrained(folder)` or
`gym.make("ColaWorld-{simulator}-v0", checkpoint=folder)`.

## Training

Commit {commit}; {episodes} training episodes of scripted and random actions in the simulator
({data}). Optimiser steps: {phases}. The full recipe is in `recipe.yaml`.

## Held-out measures ({held_out} episodes that training did not see, {clips} clips of {length})

PSNR in dB of the next frame on the pixels that move (changes above 0.05), one sampling step:

| condition | PSNR |
|---|---|
{measures}

`own - shuffled` = {gap:.2f} dB is what the model owes to its actions. {codes}
Weights are stored in float16. Limits: one simulated scene, one camera, one rendering profile.
"""

ROWS = {
    "copy": "last frame repeated",
    "none": "no action",
    "shuffled": "actions of another clip",
    "adapter": "real actions through the adapter",
    "own": "own actions",
    "autoencoder": "ceiling: the autoencoder's reconstruction",
}


def commit() -> str:
    result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return result.stdout.strip()[:12] or "unknown"


def forget_origin(config: Path) -> None:
    """Drop the path of the run that diffusers notes in a saved config."""
    settings = json.loads(config.read_text())
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2) + "\n")


def describe_codes(measures: dict[str, float]) -> str:
    parts = []
    for name, title in (("lam", "The IDM's codes"), ("adapter", "the adapter's")):
        if f"{name}_entropy" in measures:
            used, top, entropy = (
                measures[f"{name}_{key}"] for key in ("utilisation", "max_usage", "entropy")
            )
            parts.append(
                f"{title}: utilisation {used:.2f} of 1,024, maximal usage {top:.3f}, "
                f"entropy {entropy:.2f} nats"
            )
    return "; ".join(parts) + "." if parts else ""


def publish(run: Path, data: Any, out: Path, length: int = 8, clips: int = 256) -> dict[str, float]:
    """Write the checkpoint and its card to ``out``; returns the held-out measures.

    Raises ColaWorldError when ``run`` has no finished phase.
    """
    finished = finished_phases(run)
    recipe = OmegaConf.load(run / "recipe.yaml")
    assert isinstance(recipe, DictConfig)
    model = ColaWorldModel.from_pretrained(run / finished[-1]).float().eval()
    train, info = load_clips(data, "train")
    held_out = load_clips(data, "test")[0]
    encoded = held_out.encode(model)
    latent = model.config.conditioning == "latent"
    measures = obedience(model, encoded, length, adapter=latent, count=clips)
    rows = [f"| {title} | {measures[key]:.2f} |" for key, title in ROWS.items() if key in measures]
    world = find_world(str(info.get("env", ROBODESK.name)))
    text = CARD.format(
        world=world.name,
        simulator=world.simulator,
        conditioning=model.config.conditioning,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        size=model.config.image_size,
        rendering=model.config.rendering,
        actions="latent actions (real ones go through an adapter)" if latent else "real actions",
        steps=model.config.num_inference_steps,
        commit=commit(),
        episodes=train.episodes,
        data=f"action repeat {info.get('action_repeat')}",
        phases=", ".join(f"{name} {recipe.phases[name].steps}" for name in finished),
        held_out=held_out.episodes,
        clips=clips,
        length=length,
        measures="\n".join(rows),
        gap=measures["gap"],
        codes=describe_codes(measures),
    )
    shown = OmegaConf.masked_copy(
        recipe, [str(key) for key in recipe if key not in ("data", "out", "init")]
    )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as partial:
        model.half().save_pretrained(partial)
        forget_origin(Path(partial) / "config.json")
        (Path(partial) / "README.md").write_text(text)
        (Path(partial) / "measures.json").write_text(json.dumps(measures, indent=1) + "\n")
        OmegaConf.save(shown, Path(partial) / "recipe.yaml")
        replace_files(Path(partial), out)
    return measures


@hydra.main(version_base=None, config_path="conf", config_name="publish")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    measures = publish(Path(config.run), config.data, Path(config.out))
    print("  ".join(f"{key} {value:.3g}" for key, value in measures.items()))
    print(f"The checkpoint is in {config.out}.")


if __name__ == "__main__":
    main()
