"""The package libero: its 130 tasks by name ("libero_goal/turn_on_the_stove" and so on), its
assets, and its import without its questions.

Source: Liu et al., "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning"
(NeurIPS 2023); the names of tasks are read from the PyPI package libero.
"""

import difflib
import functools
import importlib
import importlib.util
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cola_env.errors import ColaWorldError
from cola_env.simulators.rendering import needs_opengl, set_headless_defaults

HORIZONS = {
    "libero_spatial": 280,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""The suites, and how many control steps an episode of each may take (lerobot's limits)."""


NOT_INSTALLED = (
    "The real LIBERO needs the packages libero, robosuite and mujoco: install them with: "
    "pip install 'colaworld[libero]'"
)


@dataclass(frozen=True)
class LiberoTask:
    """A task of a suite, and where the package keeps its files."""

    suite: str
    name: str
    package: Path

    @property
    def bddl_file(self) -> Path:
        """The scene, its starting regions and the goal predicates."""
        return self.package / "bddl_files" / self.suite / f"{self.name}.bddl"

    @property
    def starts_file(self) -> Path:
        """The benchmark's fixed starting states."""
        return self.package / "init_files" / self.suite / f"{self.name}.pruned_init"

    def siblings(self) -> "list[LiberoTask]":
        """All tasks of the suite."""
        names = _names(self.package)[self.suite]
        return [LiberoTask(self.suite, name, self.package) for name in names]

    @property
    def horizon(self) -> int:
        """Control steps (at 20 Hz) of an episode."""
        return HORIZONS[self.suite]


def libero_tasks(suite: str | None = None) -> tuple[str, ...]:
    """Names "suite/task", of one suite or of all five, in the benchmark's order.

    Raises ColaWorldError for an unknown suite and ImportError when the package is missing.
    """
    names = _names(package_folder())
    if suite is None:
        return tuple(f"{each}/{name}" for each in HORIZONS for name in names[each])
    if suite not in HORIZONS:
        raise ColaWorldError(f"LIBERO has no suite {suite!r}: choose one of {', '.join(HORIZONS)}.")
    return tuple(f"{suite}/{name}" for name in names[suite])


def find_task(task: str) -> LiberoTask:
    """The task called "suite/name".

    Raises ColaWorldError, with suggestions, for an unknown one and ImportError when the package
    is missing.
    """
    known = libero_tasks()
    if task not in known:
        near = difflib.get_close_matches(task, known, n=3, cutoff=0.4) or known[:3]
        raise ColaWorldError(
            f"Unknown task {task!r} for LIBERO: choose for instance {', '.join(near)}; "
            f"cola_env.libero_tasks() lists all {len(known)}."
        )
    suite, _, name = task.partition("/")
    return LiberoTask(suite, name, package_folder())


def package_folder() -> Path:
    """The folder of the module libero.libero, which is not imported; ImportError without it."""
    found = [importlib.util.find_spec(name) for name in ("libero", "robosuite", "mujoco")]
    if found[0] is None or None in found:
        raise ImportError(NOT_INSTALLED)
    (place, *_) = found[0].submodule_search_locations or ("",)
    return Path(place) / "libero"


@functools.cache
def _names(package: Path) -> dict[str, list[str]]:
    """The package's own table; it is run alone, for its package asks questions when imported."""
    file = package / "benchmark" / "libero_suite_task_map.py"
    spec = importlib.util.spec_from_file_location("libero_suite_task_map", file)
    if spec is None or spec.loader is None or not file.exists():
        raise ImportError(NOT_INSTALLED)
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    names: dict[str, list[str]] = table.libero_task_map
    return names


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
