"""Does a dream grow? `python -m tests.fuzz.soak [steps=20000] [worlds=4] [out=FILE.json]`

A tiny dream is stepped, and now and then reset, rolled out, and restored, for so many steps of each
of its worlds; the memory that the process holds is looked at ten times.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.harness import processor, report
from cola_train.console import progress_bar
from tests.fuzz.environments import PIXELS, model
from tests.fuzz.judge import check_finite

LOOKS = 10
GROWTH_MB = 32
"""What may lie between the first look and the last: allocators keep some."""


@dataclass
class Options:
    steps: int = 20000
    worlds: int = 4
    out: str | None = None


def resident_mb() -> float:
    (line,) = (
        x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def soak(steps: int, worlds: int) -> list[float]:
    """The resident memory in MB after each tenth of the steps."""
    torch.set_num_threads(1)
    env = gymnasium.make_vec(
        "ColaWorld-RoboDesk-v0",
        num_envs=worlds,
        checkpoint=model("latent", 5),
        reward="mse",
        max_episode_steps=7,
    )
    env.action_space.seed(0)
    image = np.zeros((PIXELS, PIXELS, 3), np.uint8)
    looks: list[float] = []
    for step in progress_bar(range(steps), "steps"):
        if step % 50 == 0:
            env.reset(seed=step, options={"frame": image, "goal": image})
        if step % 10 == 0:
            state = env.unwrapped.snapshot()
            plans = np.zeros((worlds, 2, 2, 5), np.float32)
            check_finite(env.unwrapped.rollout(plans).rewards, "the rewards of a rollout")
            env.unwrapped.restore(state)
        _, rewards, *_, infos = env.step(env.action_space.sample())
        check_finite(rewards, "the rewards")
        check_finite(infos, "the infos")
        if (step + 1) % max(1, steps // LOOKS) == 0:
            looks.append(round(resident_mb(), 1))
    env.close()
    return looks


def main() -> None:
    if "--help" in sys.argv:
        sys.exit(__doc__)
    try:
        given = OmegaConf.merge(OmegaConf.structured(Options), OmegaConf.from_cli())
    except OmegaConfBaseException as error:
        sys.exit(f"error: {str(error).splitlines()[0]}\n{__doc__}")
    begun = time.monotonic()
    looks = soak(given.steps, given.worlds)
    results = {
        "command": " ".join(["python -m tests.fuzz.soak", *sys.argv[1:]]),
        "processor": processor(),
        "torch": torch.__version__,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "steps": given.steps * given.worlds,
        "resident_mb": looks,
        "growth_mb": round(looks[-1] - looks[0], 1),
    }
    report(results, given.out)
    if looks[-1] - looks[0] > GROWTH_MB:
        sys.exit(f"error: the process grew by more than {GROWTH_MB} MB.")


if __name__ == "__main__":
    main()
