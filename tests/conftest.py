"""Settings that must stand before the first import of mujoco or torch."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vp2_goals_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as VP2's: robodesk_push_red/goals.hdf5 with two short demonstrations, recorded in
    the real simulator; the second has a start_index."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("robodesk")
    from cola_env.simulators.robodesk.env import RoboDeskEnv
    from tests.vp2_states import to_vp2_state

    folder = tmp_path_factory.mktemp("vp2") / "robodesk_push_red"
    folder.mkdir()
    env = RoboDeskEnv("push_red", rendering="vp2")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "goals.hdf5", "w") as file:
        data = file.create_group("data")
        for number, start in ((1, None), (2, 2)):
            frame, _ = env.reset(seed=number)
            states, images, actions = [to_vp2_state(env)], [frame], []
            for _ in range(4):
                actions.append(rng.uniform(-0.5, 0.5, 5).astype(np.float32))
                images.append(env.step(actions[-1])[0])
                states.append(to_vp2_state(env))
            demo = data.create_group(f"demo_{number}")
            demo["states"] = np.stack(states)
            demo["actions"] = np.stack([*actions, np.zeros(5, np.float32)])
            demo["obs/camera_image"] = np.stack(images)
            if start is not None:
                demo["start_index"] = start
        data.attrs["env_args"] = json.dumps({"env_name": "robodesk", "type": 1, "env_kwargs": {}})
        data.attrs["total"] = 10
        file["mask/train"] = np.array([b"demo_1", b"demo_2"])
    env.close()
    return folder.parent


@pytest.fixture(scope="session")
def libero_assets() -> Path:
    """LIBERO's assets: by the environment variable, else the folder beside the repository."""
    if not all(find_spec(name) for name in ("libero", "robosuite", "mujoco")):
        pytest.skip("the packages of colaworld[libero] are not installed")
    shared = Path(__file__).resolve().parents[2] / "shared" / "libero-assets"
    if "LIBERO_ASSETS" not in os.environ and not shared.is_dir():
        pytest.skip("LIBERO_ASSETS does not name LIBERO's assets")
    return Path(os.environ.setdefault("LIBERO_ASSETS", str(shared)))
