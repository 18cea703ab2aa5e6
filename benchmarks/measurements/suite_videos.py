"""Videos that no model of ours has seen: `python -m benchmarks.measurements.suite_videos FOLDER`

Bodies of dm_control under smooth random actions, in several sizes and frame rates and in
subfolders, as a user might have filmed them: FOLDER/videos, for the trial of docs/own_video.md. The
episodes of one body, with their actions, become FOLDER/cheetah.hdf5.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_train.console import progress_bar


@dataclass(frozen=True)
class Body:
    domain: str
    task: str
    width: int
    height: int
    fps: int


BODIES = (
    Body("cheetah", "run", 320, 180, 30),
    Body("walker", "walk", 240, 180, 25),
    Body("hopper", "hop", 192, 144, 25),
    Body("finger", "spin", 256, 192, 30),
    Body("reacher", "easy", 160, 160, 30),
)
ACTED = BODIES[0]
SMOOTHING = 0.08
"""Seconds in which actions come near to their target."""


def film(
    body: Body, seed: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames (T, H, W, 3) uint8 of 5 to 8 seconds, and the actions (T - 1, A) that led from each to
    the next."""
    from dm_control import suite

    env = suite.load(body.domain, body.task, task_kwargs={"random": seed, "time_limit": 1e9})
    model = env.physics.model
    model.light_castshadow[:], model.mat_reflectance[:] = 0, 0
    model.vis.quality.offsamples = 0
    env.reset()
    spec, step = env.action_spec(), env.control_timestep()
    length = rng.uniform(5, 8) * body.fps
    action, target = np.zeros(spec.shape), rng.uniform(-1, 1, spec.shape)
    time, turn = 0.0, 0.0
    frames: list[Any] = []
    actions: list[Any] = []
    while len(frames) < length:
        if time >= len(frames) / body.fps - 1e-9:
            frames.append(env.physics.render(body.height, body.width, camera_id=0))
            actions.append(action.copy())
        if time >= turn:
            target, turn = rng.uniform(-1, 1, spec.shape), time + rng.uniform(0.15, 0.6)
        action = action + (target - action) * min(1, step / SMOOTHING)
        env.step(np.clip(action, spec.minimum, spec.maximum))
        time += step
    return np.stack(frames), np.stack(actions[1:]).astype(np.float32)


def write_video(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """An mp4 as cameras make them."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.thread_count, stream.options = "yuv420p", 1, {"crf": "20"}
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    import h5py

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=120)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(arguments.folder / f"{ACTED.domain}.hdf5", "w") as file:
        environment = f'{{"env_kwargs": {{"control_freq": {ACTED.fps}}}}}'
        file.create_group("data").attrs["env_args"] = environment
        for i in progress_bar(range(arguments.clips), "filming"):
            round_, body = i // len(BODIES), BODIES[i % len(BODIES)]
            frames, actions = film(body, i, rng)
            name = f"{body.domain}/session_{round_ % 3}/{body.domain}_{i:03d}.mp4"
            write_video(arguments.folder / "videos" / name, frames, body.fps)
            if body is ACTED:
                file[f"data/demo_{round_}/obs/camera_image"] = frames
                file[f"data/demo_{round_}/actions"] = actions


if __name__ == "__main__":
    main()
