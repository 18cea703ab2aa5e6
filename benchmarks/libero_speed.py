"""LIBERO's control step against the package's: python -m benchmarks.libero_speed [out=FILE.json]

Both take the same actions from the same start, alternately, in one process on one core; the states
reached are compared bit for bit. Neither draws a picture.
"""

import sys
import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.arguments import read_arguments
from benchmarks.machine import processor
from benchmarks.report import report
from cola_env.simulators.libero_control import ControlStep
from cola_env.simulators.libero_package import find_assets, use_assets
from cola_env.simulators.libero_scene import LiberoScene
from cola_env.simulators.libero_tasks import find_task
from cola_train.ending import ending

TASK = "libero_goal/put_the_bowl_on_the_plate"
HELD = 10
"""Control steps that an action is held for."""


def compare(actions: int) -> dict[str, float | bool]:
    """Seconds of a control step, each the median over `actions` random actions."""
    use_assets(find_assets())
    ours, package = (LiberoScene(find_task(TASK), str(find_assets())) for _ in range(2))
    for scene in (ours, package):
        scene.new_episode(seed=0)
    steps = {"ours": ControlStep(ours.package), "package": package.package.step}
    random = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(actions):
        action = random.uniform(-0.6, 0.6, 7)
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(HELD):
                step(action)
            seconds[name].append((time.perf_counter() - start) / HELD)
    return {
        **{f"seconds_{name}": median(times) for name, times in seconds.items()},
        "package_over_ours": median(seconds["package"]) / median(seconds["ours"]),
        "same_states": np.array_equal(ours.data.qpos, package.data.qpos)
        and np.array_equal(ours.data.qvel, package.data.qvel),
    }


@dataclass
class Settings:
    actions: int = 30
    out: str | None = None


def main(arguments: list[str]) -> None:
    with ending():
        settings = read_arguments(Settings, arguments, __doc__)
        command = " ".join(["python -m benchmarks.libero_speed", *arguments])
        found = compare(settings.actions)
        results = {"command": command, "processor": processor(), "task": TASK, **found}
        report(results, settings.out)


if __name__ == "__main__":
    main(sys.argv[1:])
