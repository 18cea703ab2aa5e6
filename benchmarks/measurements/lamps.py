"""Does a dream light the lamp of the button that is pressed, and no other?
python -m benchmarks.measurements.lamps

Episodes that press a button are imagined from STEPS actions before that, behind two true frames and
under their true actions. Told is how much brighter each lamp has become at the end, in the button's
colour, as a share of the range: a classifier may recognise a press by the hand alone.
"""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.harness import command_line, machine, plain, report
from benchmarks.measurements.imagined_success import STEPS, clips_of
from cola_env.checkpoints import find_checkpoint
from cola_env.models.loading import load_model
from cola_env.worlds import ROBODESK
from cola_train.command import command
from cola_train.console import progress_bar
from cola_train.data.labelled_frames import JoinedDataset

LAMPS = {"push_red": slice(4, 12), "push_green": slice(13, 22), "push_blue": slice(24, 34)}
"""The columns of each lamp in frames of 64 pixels, in the order of the colours' channels."""
ROWS = slice(2, 8)


def rises(frames: Tensor) -> Tensor:
    """(3,) float: how much brighter the lamps are in the last of frames (T, 64, 64, 3) in [0, 1]
    than in the first: the upper quartile of each lamp's pixels, in its own colour."""
    seen = [
        frames[[0, -1], ROWS, columns, colour].flatten(1).quantile(0.75, dim=1)
        for colour, columns in enumerate(LAMPS.values())
    ]
    return torch.stack([last - first for first, last in seen])


def measure(config: DictConfig) -> dict[str, Any]:
    names = plain(config.model)
    models = {name: load_model(find_checkpoint(name, ROBODESK), "cpu") for name in names}
    found = clips_of(JoinedDataset(plain(config.data)), tuple(LAMPS), config.clips)
    results: dict[str, Any] = {}
    for name, model in {"true frames": None, **models}.items():
        results[name] = {}
        for task, kinds in progress_bar(found.items(), name, unit="task"):
            risen = []
            for clip in kinds["solved"]:
                before = clip.frames[1:2].float() / 255
                risen.append(rises(torch.cat([before, clip.shown(model)])))
            mean = torch.stack(risen).mean(0) if risen else torch.full((3,), torch.nan)
            results[name][task] = dict(
                zip(LAMPS, (round(v, 3) for v in mean.tolist()), strict=True), clips=len(risen)
            )
    return {
        "command": command_line("benchmarks.measurements.lamps"),
        "machine": machine(torch.device("cpu")),
        "steps": STEPS,
        "rise_of_each_lamp": results,
    }


@command("lamps")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    report(measure(config), config.out)


if __name__ == "__main__":
    main()
