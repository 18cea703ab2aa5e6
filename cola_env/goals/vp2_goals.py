"""VP2's own goal files, unchanged: `robodesk_<task>/goals.hdf5`.

Source: Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023), repository
s-tian/vp2. A file is robomimic's HDF5: `data/demo_<i>/states` (T, 73 or 76), `actions` (T, 5),
`obs/camera_image` (T, H, W, 3) of 0 to 255 and optionally `start_index`. The problem starts in
`states[start_index]`; its goal is the last image.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cola_env.errors import ColaWorldError, in_short
from cola_env.goals.goal_set import GoalPair, GoalSet
from cola_env.hdf5 import READING, env_args, has, member, names_robodesk, open_file
from cola_env.simulators.robodesk.env import RoboDeskEnv
from cola_env.worlds import ROBODESK_TASKS

FILE = "goals.hdf5"
PREFIX = "robodesk_"
RENDERING = "vp2"
ACTION_REPEAT = 50
IMAGES = "obs/camera_image"
IMAGE_SIZE = 64
SOURCE = "vp2"


def is_vp2_goals(path: Path) -> bool:
    """Whether `path` is a VP2 goal file, or a folder, as our own goals never are."""
    return path.is_dir() or path.suffix in (".hdf5", ".h5")


def goal_files(path: Path) -> dict[str, Path]:
    """{task: file} of one goal file, of a `robodesk_<task>` folder or of a folder of such folders.

    Raises ColaWorldError when there are none or when a file does not tell its task.
    """
    if path.is_file():
        files = [path]
    elif (path / FILE).is_file():
        files = [path / FILE]
    else:
        files = sorted(path.glob(f"{PREFIX}*/{FILE}"))
    if not files:
        raise ColaWorldError(
            f"There are no goals of VP2 in {path}; give a {FILE} or a folder that holds "
            f"{PREFIX}<task>/{FILE}."
        )
    return {_task_of(file): file for file in files}


def load_vp2_goals(path: Path) -> GoalSet:
    """All pairs of VP2's file or folder, their states as snapshots of our simulator.

    Raises ColaWorldError for files of another layout or another simulator, ImportError when
    RoboDesk or h5py is missing.
    """
    pairs: list[GoalPair] = []
    for task, file in goal_files(path).items():
        env = RoboDeskEnv(task, rendering=RENDERING, action_repeat=ACTION_REPEAT)
        try:
            pairs += _read(file, task, env)
        finally:
            env.close()
    try:
        return GoalSet(RENDERING, ACTION_REPEAT, tuple(pairs), source=SOURCE)
    except ColaWorldError as error:
        raise ColaWorldError(f"{path}: {error}") from error


def _task_of(file: Path) -> str:
    task = file.resolve().parent.name.removeprefix(PREFIX)
    if task not in ROBODESK_TASKS:
        raise ColaWorldError(
            f"{file} does not tell its task: as in VP2, put it into a folder {PREFIX}<task> of one "
            f"of the tasks {', '.join(ROBODESK_TASKS)}."
        )
    return task


def _read(file: Path, task: str, env: RoboDeskEnv) -> list[GoalPair]:
    try:
        with open_file(file) as opened:
            data = member(opened, "data")
            environment = env_args(data)
            if environment and not names_robodesk(environment):
                raise ColaWorldError(
                    f"Its env_args name the environment {environment.get('env_name')}: give goals "
                    "of RoboDesk."
                )
            names = sorted(data, key=lambda name: int(name.rpartition("_")[2]))
            return [_pair(member(data, name), i, task, env) for i, name in enumerate(names)]
    except ColaWorldError as error:
        raise ColaWorldError(f"{file}: {error}") from error
    except ImportError as error:
        raise ImportError(
            "Goals of VP2 need the package h5py: pip install 'colaworld[train]'"
        ) from error
    except READING as error:
        told = in_short(error)
        raise ColaWorldError(
            f"{file} is no goal file of VP2 or is damaged ({told}); it needs data/demo_<i>/ with "
            f"states, actions and {IMAGES}."
        ) from error


def _pair(demo: Any, index: int, task: str, env: RoboDeskEnv) -> GoalPair:
    from cola_env.simulators.robodesk.vp2_state import from_vp2_state

    start = int(member(demo, "start_index")[()]) if has(demo, "start_index") else 0
    states, images, actions = (member(demo, name) for name in ("states", IMAGES, "actions"))
    if not 0 <= start < len(states) or len(images) != len(states):
        raise ColaWorldError(
            f"Demonstration {index} has {len(states)} states, {len(images)} images and the "
            f"start_index {start}."
        )
    return GoalPair(
        task=task,
        initial_state=env.to_vector(from_vp2_state(env, states[start])),
        initial_frame=_frame(images[start]),
        goal_state=env.to_vector(from_vp2_state(env, states[-1])),
        goal_frame=_frame(images[-1]),
        expert_actions=np.asarray(actions[start : len(states) - 1], np.float32),
        start_index=start,
        seed=index,
    )


def _frame(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image of 0 to 255 (H, W, 3) as uint8 (64, 64, 3)."""
    if not np.isfinite(image).all():
        raise ColaWorldError("An image is not finite.")
    pixels = np.asarray(image).round().clip(0, 255).astype(np.uint8)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ColaWorldError(f"An image has shape {pixels.shape}, not (H, W, 3).")
    if pixels.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return pixels
    resized = Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized)
