"""Sheets of small labelled pictures, still or moving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

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
    grid = rearrange((pictures * 255).round().byte(), "r k h w c -> (r h) (k w) c")
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
