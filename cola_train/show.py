"""What has a latent-action model learned? One page: `cola show run=runs/mine`.

Held-out clips as they were, imagined under their own latent actions and under another clip's; what
every code does when it is held by hand; and the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import torch
from einops import rearrange
from omegaconf import DictConfig
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cola_env.checkpoints import find_checkpoint
from cola_env.inputs import to_bytes
from cola_env.models.world_model import ColaWorldModel
from cola_train.codebook import report
from cola_train.command import command, cpu_threads
from cola_train.data.clips import TrainingData
from cola_train.evaluation.controllability import controllability
from cola_train.evaluation.rollout_quality import inferred_codes
from cola_train.evaluation.steering import (
    Held,
    Steered,
    action_transfer,
    hold_codes,
    steer,
)
from cola_train.trained_models import coded_model, data_of

PAGE = Path(__file__).with_name("show.html")
FRAMES_A_SECOND = 5
STARTS = 3
"""Clips from whose first frame every code is held."""


def show(config: DictConfig) -> str:
    """Writes the page and its pictures; returns what to print: the numbers, and where it is.

    Raises ColaWorldError for a model without codes, and data that does not fit.
    """
    run = Path(config.run)
    out = Path(config.out or run / "show")
    model = coded_model(run, config.device)
    length = config.length or model.window
    held_out = data_of(run, config.data, config.fps).split("test", model.config.image_size)
    steered = steer(model, held_out, config.clips, config.horizon)
    clips = held_out.sample(config.measured, length, torch.Generator().manual_seed(0))
    codes = inferred_codes(model, clips.frames.to(model.device)).cpu()
    held = hold_codes(model, steered.context[:STARTS], codes, config.horizon // 2, config.codes)
    numbers, verdict = measure(model, held_out, length, config.measured)
    out.mkdir(parents=True, exist_ok=True)
    draw_clips(steered, out)
    for token, each in enumerate(held):
        draw_codes(each, out / f"codes_{token}.gif")
    page = Template(PAGE.read_text()).substitute(
        run=escape(str(find_checkpoint(run))),
        verdict=escape(verdict),
        numbers=escape(numbers),
        codes="\n".join(map(section, range(len(held)))),
    )
    (out / "index.html").write_text(page)
    return f"{numbers}\nVerdict: {verdict}.\nPictures: {out / 'index.html'}"


def measure(
    model: ColaWorldModel, held_out: TrainingData, length: int, count: int
) -> tuple[str, str]:
    """The numbers of ``count`` clips, one a line, and the verdict on them."""
    measures = controllability(model, held_out, length, adapter=False, count=count)
    moved = action_transfer(model, held_out, held_out, count, clip=length)
    codes, verdict = report(model, measures)
    lines = [
        codes,
        "last frame repeated {copy:.2f} dB, the autoencoder's ceiling {autoencoder:.2f} dB".format(
            **measures
        ),
        f"Codes read again off clips imagined under them from another's first frame: "
        f"{moved.same:.0%} (by chance {moved.other:.0%})",
    ]
    return "\n".join(lines), verdict


def draw_clips(steered: Steered, out: Path) -> None:
    """``clips.png``, frame by frame, and ``clips.gif``, which moves."""
    names = ["true", "own", "next clip's"]
    videos = torch.stack([steered.true, steered.own, steered.other], dim=1)
    count, _, length = videos.shape[:3]
    rows = [f"clip {i + 1}\n{name}" for i in range(count) for name in names]
    times = [f"{t:+d}" for t in range(length)]
    save_still(out / "clips.png", sheet(videos.flatten(0, 1), rows, times))
    labels = [f"clip {i + 1}" for i in range(count)]
    sheets = [sheet(videos[:, :, t], labels, names, scale=2.5) for t in range(length)]
    save_animation(out / "clips.gif", sheets, FRAMES_A_SECOND)


def draw_codes(held: Held, path: Path) -> None:
    starts, _, length = held.frames.shape[:3]
    rows = [f"start {i + 1}" for i in range(starts)]
    columns = [f"{c} ({share:.0%})" for c, share in zip(held.codes, held.shares, strict=True)]
    sheets = [sheet(held.frames[:, :, t], rows, columns, scale=1.25) for t in range(length)]
    save_animation(path, sheets, FRAMES_A_SECOND)


def section(token: int) -> str:
    return (
        f"<h2>Every code of token {token}, held by hand</h2>\n"
        "<p>From the same first frames, a code a column (in brackets how often the model reads it "
        "off held-out clips), the most frequent first; the other token stays at its most frequent "
        f'one.</p>\n<p><img src="codes_{token}.gif" alt="Codes of token {token}, moving"></p>'
    )


MARGIN, HEADING = 70, 18
"""Pixels for the labels at the left and above."""
PAPER, INK = (255, 255, 255), (40, 44, 52)
HOLD_MS = 900
"""How long the last picture of an animation stays."""


def sheet(
    pictures: Tensor, rows: Sequence[str], columns: Sequence[str], scale: float = 1.5
) -> Image.Image:
    """pictures (R, K, S, S, 3) in [0, 1] as R labelled rows of K labelled columns."""
    across, side = pictures.shape[1], round(pictures.shape[2] * scale)
    grid = rearrange(to_bytes(pictures), "r k h w c -> (r h) (k w) c")
    shown = Image.fromarray(grid.numpy())
    shown = shown.resize((across * side, len(rows) * side), Image.Resampling.BICUBIC)
    image = Image.new("RGB", (MARGIN + shown.width, HEADING + shown.height), PAPER)
    image.paste(shown, (MARGIN, HEADING))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    for row, text in enumerate(rows):
        middle = HEADING + row * side + side // 2
        draw.text((MARGIN - 6, middle), text, INK, font, anchor="rm", align="right")
    for column, text in enumerate(columns):
        middle = MARGIN + column * side + side // 2
        draw.text((middle, HEADING // 2), text, INK, font, anchor="mm")
    return image


def save_still(path: Path, image: Image.Image) -> None:
    """A PNG of 256 colours."""
    image.quantize(256).save(path, optimize=True)


def save_animation(path: Path, sheets: Sequence[Image.Image], fps: float) -> None:
    """An endless GIF of equally large sheets."""
    times = [round(1000 / fps)] * (len(sheets) - 1) + [HOLD_MS]
    first, *others = sheets
    first.save(path, save_all=True, append_images=others, duration=times, loop=0)


@command("show")
def main(config: DictConfig) -> None:
    with cpu_threads(config.threads):
        print(show(config))


if __name__ == "__main__":
    main()
