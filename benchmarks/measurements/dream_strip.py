"""What is dreamt of every task: python -m benchmarks.measurements.dream_strip --out dream.png

A picture with rows of every task: its longest script as the real simulator shows it, and as each
model imagines it from the first frame on, under the same actions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.vp2_protocol.records import BACKGROUND, Frame
from cola_env.goals.goal_set import GoalPair
from cola_env.goals.loading import load_goals
from cola_env.inputs import to_bytes
from cola_env.models.loading import load_model
from cola_env.models.world_model import ColaWorldModel
from cola_env.simulators.loading import make_simulator
from cola_env.worlds import ROBODESK
from cola_train.console import ending

SIDE, LINE, MARGIN = 128, 2, 96
TEXT = (225, 228, 235)


def longest(pairs: Sequence[GoalPair], steps: int) -> GoalPair:
    """The first of the pairs whose script has most steps, up to ``steps``."""
    return max(pairs, key=lambda pair: min(pair.expert_steps, steps))


def played(pair: GoalPair, steps: int, rendering: str, action_repeat: int) -> Frame:
    """The first frame and that after each action, of the real simulator (T + 1, S, S, 3)."""
    env = make_simulator(ROBODESK, pair.task, rendering=rendering, action_repeat=action_repeat)
    env.restore(env.to_snapshot(pair.initial_state))
    frames = [pair.initial_frame, *(env.step(a)[0] for a in pair.expert_actions[:steps])]
    env.close()
    return np.stack(frames)


def dreamt(model: ColaWorldModel, pair: GoalPair, steps: int) -> Frame:
    """The same as the model imagines it: (T + 1, S, S, 3)."""
    actions = torch.from_numpy(pair.expert_actions[:steps])[None, None]
    state = model.begin(torch.from_numpy(pair.initial_frame.copy())[None, None])
    imagined = model.rollout(state, actions, seed=0)[0, 0]
    return np.concatenate([pair.initial_frame[None], to_bytes(imagined).numpy()])


def picture(rows: Sequence[tuple[str, Frame]]) -> Image.Image:
    """Named rows of frames, one below the other."""
    cell = SIDE + LINE
    columns = max(len(frames) for _, frames in rows)
    sheet = Image.new("RGB", (MARGIN + columns * cell, len(rows) * cell), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (name, frames) in enumerate(rows):
        draw.text((6, row * cell + SIDE // 2 - 16), name, fill=TEXT, font=font)
        for column, frame in enumerate(frames):
            image = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(image, (MARGIN + column * cell, row * cell))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", nargs="+", default=["cola"], help="names or folders")
    parser.add_argument("--task", nargs="+", default=list(ROBODESK.goal_tasks))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("dream.png"))
    options = parser.parse_args()
    with ending():
        goals = load_goals(ROBODESK.rendering)
        models = {name: load_model(name, "cpu") for name in options.model}
        rows = []
        for task in options.task:
            pair = longest(goals.of(task), options.steps)
            real = played(pair, options.steps, goals.rendering, goals.action_repeat)
            title = task.removesuffix("_off_table").replace("_", "\n")
            rows.append((title, real))
            rows += [
                (Path(name).name, dreamt(m, pair, options.steps)) for name, m in models.items()
            ]
        picture(rows).save(options.out)
    print(f"Picture: {options.out}")


if __name__ == "__main__":
    main()
