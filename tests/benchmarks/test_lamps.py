"""Which lamp has become brighter."""

import numpy as np
import torch

from benchmarks.measurements.lamps import LAMPS, rises
from cola_env import load_goals


def test_where_the_script_presses_a_button_its_lamp_goes_on_and_no_other() -> None:
    for number, task in enumerate(LAMPS):
        shown = [np.stack([p.initial_frame, p.goal_frame]) for p in load_goals("fast").of(task)]
        risen = torch.stack([rises(torch.from_numpy(each).float() / 255) for each in shown])
        lit = risen[:, number] > 0.2  # a press may end before its frame is drawn
        assert lit.float().mean() > 0.8
        others = risen[:, [n for n in range(3) if n != number]]
        assert others.abs().max() < 0.05
