"""Pictures from the videos of a run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.filmstrip import LINE, REST, animation, filmstrip, panel, save_animation, steps
from benchmarks.vp2_protocol.records import PANEL, write_video
from cola_env.errors import ColaWorldError


def plain(value: int) -> np.ndarray:
    return np.full((64, 64, 3), value, np.uint8)


def test_a_videos_panels_are_found_again(tmp_path: Path) -> None:
    real = [plain(20 + 20 * t) for t in range(10)]
    imagined = [None, *(plain(30 + 20 * t) for t in range(1, 10))]
    write_video(tmp_path / "a.mp4", real, imagined, plain(250), success=True)
    images = steps(tmp_path / "a.mp4")
    assert len(images) == 10
    for t, image in enumerate(images):
        inside = [np.asarray(panel(image, i))[20:-20, 20:-20] for i in range(3)]
        assert abs(inside[0].mean() - (20 + 20 * t)) < 4
        assert abs(inside[2].mean() - 250) < 4
        if t:
            assert abs(inside[1].mean() - (30 + 20 * t)) < 4
    sheet = filmstrip([images, images[:2]], columns=4)
    size = PANEL + LINE
    assert sheet.size == (5 * size + 4 * LINE, 4 * size)
    row = np.asarray(sheet)[PANEL // 2, PANEL // 2 :: size]
    np.testing.assert_allclose(row[:4].mean(1), [20, 80, 140, 200], atol=4)


def test_an_animation_plays_all_episodes_to_their_ends(tmp_path: Path) -> None:
    episodes = []
    for name, length in (("long", 5), ("short", 2)):
        frames = [plain(40 * t + 40) for t in range(length)]
        write_video(tmp_path / f"{name}.mp4", frames, [None, *frames[1:]], plain(0), success=True)
        episodes.append(steps(tmp_path / f"{name}.mp4"))
    save_animation(animation(episodes), tmp_path / "both.gif")
    with Image.open(tmp_path / "both.gif") as film:
        assert film.n_frames == 5
        height = film.size[1] // 2
        shown = []
        for step in range(5):
            film.seek(step)
            picture = np.asarray(film.convert("RGB")).astype(float)
            shown.append([picture[row * height + height // 2, 80].mean() for row in (0, 1)])
        assert film.info["duration"] == REST
    np.testing.assert_allclose(np.array(shown)[:, 0], [40, 80, 120, 160, 200], atol=8)
    np.testing.assert_allclose(np.array(shown)[:, 1], [40, 80, 80, 80, 80], atol=8)


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("nothing")
    with pytest.raises(ColaWorldError, match=r"a\.mp4 cannot be read as a video"):
        steps(tmp_path / "a.mp4")
