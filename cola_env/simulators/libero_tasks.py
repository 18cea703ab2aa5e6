"""The 130 tasks of LIBERO by name: "libero_goal/turn_on_the_stove" and so on.

Source: Liu et al., "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning"
(NeurIPS 2023); the names are read from the PyPI package libero.
"""

import difflib
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from cola_env.errors import ColaWorldError

HORIZONS = {
    "libero_spatial": 280,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""The suites, and how many control steps an episode of each may take (lerobot's limits)."""

GOAL_SCENE_TASKS = tuple(
    f"libero_goal/{name}"
    for name in (
        "open_the_middle_drawer_of_the_cabinet",
        "put_the_bowl_on_the_stove",
        "put_the_wine_bottle_on_top_of_the_cabinet",
        "open_the_top_drawer_and_put_the_bowl_inside",
        "put_the_bowl_on_top_of_the_cabinet",
        "push_the_plate_to_the_front_of_the_stove",
        "put_the_cream_cheese_in_the_bowl",
        "turn_on_the_stove",
        "put_the_bowl_on_the_plate",
        "put_the_wine_bottle_on_the_rack",
    )
)
"""The tasks of the suite libero_goal, which are ten goals in one and the same scene."""

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
