"""One small mp4 an episode: what happened, what the model imagined, and the goal, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cola_env.files import write_atomically

Frame = NDArray[np.uint8]

PANEL = 192
CAPTION = 22
GAP = 6
BACKGROUND = (24, 26, 31)
GREEN = (70, 200, 120)
FRAMES_PER_SECOND = 4
HOLD = 6


def side_by_side(
    real: Frame, imagined: Frame | None, goal: Frame, caption: str, won: bool
) -> Frame:
    """One video image of three captioned panels, uint8 RGB; `won` frames the real panel green."""
    width = 3 * PANEL + 4 * GAP
    image = Image.new("RGB", (width, PANEL + CAPTION + 2 * GAP), BACKGROUND)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    panels = (("real  " + caption, real), ("imagined", imagined), ("goal", goal))
    for column, (label, frame) in enumerate(panels):
        left = GAP + column * (PANEL + GAP)
        draw.text((left + 2, GAP), label, font=font, fill=(225, 228, 235))
        if frame is None:
            draw.rectangle((left, CAPTION + GAP, left + PANEL, CAPTION + GAP + PANEL), (44, 47, 54))
            draw.text((left + 48, CAPTION + 90), "no imagination", font=font, fill=(140, 145, 155))
            continue
        panel = Image.fromarray(frame).resize((PANEL, PANEL), Image.Resampling.BICUBIC)
        image.paste(panel, (left, CAPTION + GAP))
    if won:
        box = (GAP - 3, CAPTION + GAP - 3, GAP + PANEL + 2, CAPTION + GAP + PANEL + 2)
        draw.rectangle(box, outline=GREEN, width=3)
    return np.asarray(image)


def write_video(
    path: Path,
    real: Sequence[Frame],
    imagined: Sequence[Frame | None],
    goal: Frame,
    success: bool,
) -> None:
    """Write H.264 that every browser plays, atomically; the last image is held for a while.

    real, imagined: T + 1 uint8 RGB frames each; None where nothing was imagined.
    """
    import av

    images = [
        side_by_side(frame, dream, goal, f"step {t}", success and t == len(real) - 1)
        for t, (frame, dream) in enumerate(zip(real, imagined, strict=True))
    ]
    images += images[-1:] * HOLD

    def write(target: Path) -> None:
        with av.open(target, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
            stream.width, stream.height = images[0].shape[1], images[0].shape[0]
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "25", "preset": "fast", "threads": "1"}
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())

    write_atomically(path, write)
