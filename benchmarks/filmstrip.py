"""Makes a picture of episodes: `cola filmstrip RUN/episodes/cola/open_slide/003.mp4 ...`

From the videos of a run. --out film.png has an episode a pair of rows: what happened, below it
what the model expected, and at the right the goal. --out film.gif plays the episodes, one below
the other.
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
STEP_TIME, REST = 350, 1500
"""Milliseconds that an animation shows a step, and its last one."""
COLOURS = 256
"""Of a GIF."""


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


def animation(episodes: Sequence[Sequence[Image.Image]]) -> list[Image.Image]:
    """The whole videos one below the other, step by step; a shorter one waits at its end."""
    width, height = episodes[0][0].size
    played = []
    for step in range(max(map(len, episodes))):
        sheet = Image.new("RGB", (width, height * len(episodes)), BACKGROUND)
        for row, images in enumerate(episodes):
            sheet.paste(images[min(step, len(images) - 1)], (0, row * height))
        played.append(sheet)
    return played


def save_animation(images: Sequence[Image.Image], out: Path) -> None:
    """A GIF that plays for ever, with a rest at its end, in colours chosen for all its images."""
    width, height = images[0].size
    all_of_them = Image.new("RGB", (width, height * len(images)))
    for row, image in enumerate(images):
        all_of_them.paste(image, (0, row * height))
    colours = all_of_them.quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    first, *rest = (image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images)
    duration = [STEP_TIME] * len(rest) + [REST]
    first.save(out, save_all=True, append_images=rest, duration=duration, loop=0)


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
        episodes = [steps(video) for video in options.videos]
        if options.out.suffix.lower() == ".gif":
            save_animation(animation(episodes), options.out)
        else:
            filmstrip(episodes, options.columns).save(options.out)
    print(f"Picture: {options.out}")


if __name__ == "__main__":
    main()
