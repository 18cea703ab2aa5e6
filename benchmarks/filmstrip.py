"""Makes a picture of episodes: `cola filmstrip RUN/episodes/cola/open_slide/003.mp4 ...`

From the videos of a run, an episode a pair of rows: what happened, below it what the model
expected, and at the right the goal. Writes --out, a PNG.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.vp2_protocol.records import BACKGROUND, CAPTION, GAP, HOLD, PANEL
from cola_env.errors import ColaWorldError
from cola_train.console import ending

LINE = 2
"""Pixels between the frames."""


def steps(video: Path) -> list[Image.Image]:
    """The images of an episode, one a step. Raises ColaWorldError for what is no such video."""
    import av

    try:
        with av.open(video) as container:
            images = [frame.to_image() for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError) as error:
        raise ColaWorldError(f"{video} cannot be read as a video ({error}).") from error
    return images[:-HOLD]


def panel(image: Image.Image, column: int) -> Image.Image:
    """0: real, 1: imagined, 2: goal."""
    left, top = GAP + column * (PANEL + GAP), CAPTION + GAP
    return image.crop((left, top, left + PANEL, top + PANEL))


def filmstrip(episodes: Sequence[Sequence[Image.Image]], columns: int) -> Image.Image:
    """Of each episode its first, its last and evenly spaced steps between, ``columns`` in all."""
    size = PANEL + LINE
    shown = [_spaced(images, columns) for images in episodes]
    width = max(map(len, shown))
    sheet = Image.new("RGB", ((width + 1) * size + 4 * LINE, 2 * len(shown) * size), BACKGROUND)
    for row, images in enumerate(shown):
        for column, image in enumerate(images):
            sheet.paste(panel(image, 0), (column * size, 2 * row * size))
            if column:
                sheet.paste(panel(image, 1), (column * size, (2 * row + 1) * size))
        sheet.paste(panel(images[-1], 2), (width * size + 4 * LINE, 2 * row * size))
    return sheet


def _spaced(images: Sequence[Image.Image], columns: int) -> list[Image.Image]:
    last = len(images) - 1
    count = min(columns, len(images))
    return [images[round(i * last / max(1, count - 1))] for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("filmstrip.png"))
    parser.add_argument("--columns", type=int, default=8, help="frames of an episode, at most")
    options = parser.parse_args()
    with ending():
        filmstrip([steps(video) for video in options.videos], options.columns).save(options.out)
    print(f"Picture: {options.out}")


if __name__ == "__main__":
    main()
