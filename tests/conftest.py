"""Settings that must stand before the first import of mujoco or torch."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def libero_assets() -> Path:
    """LIBERO's assets: by the environment variable, else the folder beside the repository."""
    if not all(find_spec(name) for name in ("libero", "robosuite", "mujoco")):
        pytest.skip("the packages of colaworld[libero] are not installed")
    shared = Path(__file__).resolve().parents[2] / "shared" / "libero-assets"
    if "LIBERO_ASSETS" not in os.environ and not shared.is_dir():
        pytest.skip("LIBERO_ASSETS does not name LIBERO's assets")
    return Path(os.environ.setdefault("LIBERO_ASSETS", str(shared)))
