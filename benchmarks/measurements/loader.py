"""Can the data keep up with training here? `python -m benchmarks.measurements.loader`

Makes small files of every kind, draws clips from them as training does, in memory and decoded on
demand, and compares with the clips a second that a step of end-to-end training takes in. Above 1 in
the last column, training never waits. out=FILE.json keeps it, and a table beside it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from benchmarks.harness import command_line, machine
from cola_env.files import write_json, write_text
from cola_env.models.loading import pick_device
from cola_env.models.precision import autocast
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command
from cola_train.data.batches import batches
from cola_train.data.clips import TrainingData
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.data.video import VideoWriter
from cola_train.phases import FlowMatching, Step

LEARNS = ["stdit", "conditioner", "idm", "quantizer"]


def moving_disc(frames: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """uint8 RGB (frames, height, width, 3): a disc that bounces over a still noisy picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    video = np.broadcast_to(coarse.repeat(8, 0).repeat(8, 1), (frames, height, width, 3)).copy()
    y, x = np.mgrid[:height, :width]
    place, speed = rng.uniform(0, 1, 2), rng.uniform(0.01, 0.03, 2)
    for t, picture in enumerate(video):
        row, column = np.abs((place + t * speed) % 2 - 1) * (height, width)
        picture[(y - row) ** 2 + (x - column) ** 2 < (height / 8) ** 2] = 255, 40, 40
    return video


def write_lerobot(folder: Path, episodes: int) -> Path:
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [5]},
    }
    with LeRobotWriter(folder, features=features, fps=10, robot_type="disc") as writer:
        for seed in range(episodes):
            frames, actions = moving_disc(41, 64, 64, seed), np.zeros((41, 5), np.float32)
            writer.add_episode("task", {"observation.image": frames, "action": actions}, {})
        cut = max(1, episodes // 10)
        writer.close({"train": f"{cut}:{episodes}", "test": f"0:{cut}"})
    return folder


def write_demos(path: Path, episodes: int) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        for seed in range(episodes):
            demo = file.create_group(f"data/demo_{seed}")
            demo["obs/camera_image"] = moving_disc(41, 64, 64, seed)
            demo["actions"] = np.zeros((41, 5))
    return path


def write_videos(folder: Path, episodes: int) -> Path:
    for seed in range(episodes):
        with VideoWriter(folder / f"{seed:03d}.mp4", 240, 320, 30, crf=20) as writer:
            writer.append(moving_disc(300, 240, 320, seed))
    return folder


def clips_a_second(data: TrainingData, phase: FlowMatching, count: int) -> float:
    """Of ``count`` batches, after one that starts the reader processes."""
    draw = partial(phase.draw, count=phase.batch_size)
    drawn: Iterator[Any] = batches(data, draw, 0, phase.name, range(count + 1))
    next(drawn)
    start = time.perf_counter()
    for _ in drawn:
        pass
    return phase.batch_size * count / (time.perf_counter() - start)


def trained_clips_a_second(data: TrainingData, model: ColaWorldModel, phase: FlowMatching) -> float:
    """Of optimiser steps on clips that are there already; the best of three, after one."""
    parameters = [p for part in phase.components(model).values() for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    batch = phase.draw(data, torch.Generator().manual_seed(0), phase.batch_size)
    batch = batch.to(model.device).encoded(model)
    prepared, times = phase.prepare(data), []
    for step in range(4):
        start = time.perf_counter()
        with autocast(model.device):
            generator = torch.Generator().manual_seed(step)
            loss = phase.loss(model, batch, Step(step, generator, prepared)).value
        model.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        float(loss.detach())  # waits for the device
        times.append(time.perf_counter() - start)
    return phase.batch_size / min(times[1:])


def measure(settings: DictConfig, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    model = ColaWorldModel(**MODEL_SIZES[settings.size]).to(pick_device("auto"))
    phase = FlowMatching("end_to_end", 1, LEARNS, actions="latent", batch_size=16, clip=8)
    sources = {
        "LeRobot v3, 64 x 64": write_lerobot(folder / "lerobot", settings.episodes),
        "HDF5 (VP2), 64 x 64": write_demos(folder / "demos.hdf5", settings.episodes),
        "mp4, 320 x 240": write_videos(folder / "videos", settings.episodes),
    }
    kinds = {"in memory": (4.0, 0), "on demand": (0.0, 0)}
    if settings.workers:
        kinds[f"on demand, {settings.workers} readers"] = (0.0, settings.workers)
    rates: dict[str, dict[str, float]] = {}
    for name, path in sources.items():
        for kind, (memory, workers) in kinds.items():
            config = LoadingConfig(settings.fps, memory, workers, str(folder / "index"))
            data = DataSources(str(path), config).split("train", model.config.image_size)
            count = settings.batches * (10 if memory else 1)
            rates.setdefault(name, {})[kind] = clips_a_second(data, phase, count)
            last = data
    return {
        "machine": machine(model.device),
        "settings": {"size": settings.size, "batch": phase.batch_size, "clip": phase.clip},
        "training_clips_per_second": trained_clips_a_second(last, model, phase),
        "loader_clips_per_second": rates,
    }


def table(results: dict[str, Any]) -> str:
    """Markdown: a line a source and way of loading."""
    training = results["training_clips_per_second"]
    where, settings = results["machine"], results["settings"]
    lines = [
        f"`{results['command']}` on {where['processor']}, {where['threads']} thread(s), device "
        f"{where['device']}: clips of {settings['clip']} frames, batches of {settings['batch']}; "
        f"training (`{settings['size']}`, end-to-end) takes {training:.1f} clips/s.",
        "",
        "| source | frames | clips/s | times training |",
        "|---|---|---|---|",
    ]
    for source, kinds in results["loader_clips_per_second"].items():
        for kind, rate in kinds.items():
            lines.append(f"| {source} | {kind} | {rate:.0f} | {rate / training:.1f} |")
    return "\n".join(lines) + "\n"


@command("loader")
def main(config: DictConfig) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(config, Path(folder))
    results = {"command": command_line("benchmarks.measurements.loader"), **measured}
    print(table(results))
    if config.out:
        write_json(Path(config.out), results)
        write_text(Path(config.out).with_suffix(".md"), table(results))


if __name__ == "__main__":
    main()
