"""Importing the package libero without its questions, and finding its assets."""

import functools
import importlib
import json
import logging
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from cola_env.errors import ColaWorldError
from cola_env.simulators.libero_tasks import NOT_INSTALLED, package_folder
from cola_env.simulators.rendering import needs_opengl, set_headless_defaults

ASSETS_VARIABLE = "LIBERO_ASSETS"
CONFIG_VARIABLE = "LIBERO_CONFIG_PATH"
ASSET_FOLDERS = ("scenes", "articulated_objects", "stable_scanned_objects", "textures")


def find_assets(folder: str | Path | None = None) -> Path:
    """The folder of LIBERO's meshes, textures and scenes.

    folder: the folder itself; None takes the environment variable LIBERO_ASSETS, else where the
    package installs or downloads them. Raises ColaWorldError when they are not there.
    """
    named = folder or os.environ.get(ASSETS_VARIABLE)
    own = (package_folder() / "assets", Path.home() / ".cache" / "libero" / "assets")
    places = (Path(named).expanduser(),) if named else own
    for place in places:
        if all((place / part).is_dir() for part in ASSET_FOLDERS):
            return place.resolve()
    raise ColaWorldError(
        f"The assets of LIBERO are not in {' or '.join(map(str, places))}: get the folder "
        "libero/libero/assets of the repository Lifelong-Robot-Learning/LIBERO and name it with "
        f"assets= or the environment variable {ASSETS_VARIABLE}."
    )


def use_assets(folder: Path) -> None:
    """Lets the package build its next scenes from `folder`."""
    import_libero()
    package: Any = importlib.import_module("libero.libero")
    package._assets_path_cache = str(folder)


@functools.cache
def import_libero() -> ModuleType:
    """The module `libero.libero.envs`.

    At its first import the package asks on the terminal where to keep its data, unless there is a
    config file. A user's own file is left alone; without one the import reads a file of ours, in a
    folder that lives as long as this process. Raises ImportError when packages are missing and
    RuntimeError without OpenGL.
    """
    set_headless_defaults()
    package = package_folder()
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    users = os.environ.get(CONFIG_VARIABLE)
    if not (Path(users or Path.home() / ".libero") / "config.yaml").exists():
        os.environ[CONFIG_VARIABLE] = _write_config(package)
    try:
        with needs_opengl():
            return importlib.import_module("libero.libero.envs")
    except RuntimeError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise ImportError(f"{NOT_INSTALLED} ({error.__cause__})") from error
        raise
    finally:
        os.environ.pop(CONFIG_VARIABLE, None)
        if users is not None:
            os.environ[CONFIG_VARIABLE] = users


_private_folders: list["tempfile.TemporaryDirectory[str]"] = []


def _write_config(package: Path) -> str:
    """A private folder with a config file; JSON is YAML."""
    folder = tempfile.TemporaryDirectory(prefix="colaworld-libero-")
    _private_folders.append(folder)
    paths = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": package / "assets",
    }
    text = json.dumps({name: str(path) for name, path in paths.items()})
    (Path(folder.name) / "config.yaml").write_text(text)
    return folder.name
