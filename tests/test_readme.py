"""The Python of README and docs runs as it stands, page by page: on the shipped checkpoint, or on
small data where a page needs some of the user's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cola_env.models.world_model import ColaWorldModel
from tests import opensora
from tests.train.small import small_model

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "```python\n" in page.read_text(encoding="utf-8")
)
ELSEWHERE = {
    "docs/own_world.md": "tests/benchmarks/test_own_world.py runs all of it, as commands",
    "docs/policies.md": "tests/env/test_rl_libraries.py runs it where Stable-Baselines3 is",
}
"""Pages whose Python another test runs."""
Given = dict[str, Any]
"""What the blocks of a page find defined before the first."""
Patch = pytest.MonkeyPatch


def blocks(page: str) -> list[str]:
    """The Python of a page, each block at the line that it has there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match[1]
        for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    ]


def own_video(folder: Path, patch: Patch) -> Given:
    """A model of video, a clip for it, and episodes with actions."""
    from cola_train.data.video import VideoWriter

    small_model(action_dim=0, rendering="video").save_pretrained("runs/video_mini/end_to_end")
    frames = np.random.default_rng(0).integers(0, 255, (9, 80, 120, 3), dtype=np.uint8)
    with VideoWriter(folder / "clip.mp4", 80, 120, fps=30) as video:
        video.append(frames)
    return {"episodes": [(frames, np.zeros((8, 2), np.float32))] * 2}


def play(folder: Path, patch: Patch) -> Given:
    """The pages that are shown, to close them."""
    pytest.importorskip("aiohttp")
    from cola_train.play import notebook

    shown: list[notebook.Shown] = []
    show = notebook.show
    patch.setattr(notebook, "show", lambda **settings: shown.append(show(**settings)))
    return {"shown": shown}


def paper_size(folder: Path, patch: Patch) -> Given:
    """Small weights in Open-Sora's layout take the place of the published ones."""
    published, load = opensora.write_published(folder), ColaWorldModel.from_opensora

    def from_opensora(source: str, vae: str, **settings: Any) -> ColaWorldModel:
        assert "STDiT-v3" in source and "VAE-v1.2" in vae
        return load(published, **settings, **opensora.SMALL)

    patch.setattr(ColaWorldModel, "from_opensora", from_opensora)
    return {}


def trained_at_paper_size(folder: Path, patch: Patch) -> Given:
    """The model that is published there, with few weights."""
    small_model().save_pretrained("my_model")
    return {}


def other_formats(folder: Path, patch: Patch) -> Given:
    """The two packages that read them: what their objects look like, with an episode each."""
    frames, actions = np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 2), np.float32)
    steps = [
        {"observation": {"image": frame}, "action": action}
        for frame, action in zip(frames, actions, strict=True)
    ]
    rlds = [{"steps": SimpleNamespace(as_numpy_iterator=lambda: iter(steps))}]
    builder = SimpleNamespace(as_dataset=lambda split: rlds)
    episode = SimpleNamespace(observations=frames, actions=actions[:-1])
    dataset = SimpleNamespace(iterate_episodes=lambda: iter([episode]))
    for name, module in {
        "tensorflow_datasets": SimpleNamespace(builder_from_directory=lambda path: builder),
        "minari": SimpleNamespace(load_dataset=lambda name: dataset),
    }.items():
        patch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    return {}


NEEDS: dict[str, Callable[[Path, Patch], Given]] = {
    "docs/own_video.md": own_video,
    "docs/paper_size.md": paper_size,
    "docs/play.md": play,
    "docs/tutorials/paper_size.md": trained_at_paper_size,
    "docs/training.md": other_formats,
}
ALONE = {"README.md", "docs/dreams.md"}
"""Pages whose blocks each stand alone; those of the others build on each other."""


def check_own_video(names: Given) -> None:
    assert names["obs"].shape == (64, 64, 3) and Path("episodes.hdf5").stat().st_size


def check_play(names: Given) -> None:
    (page,) = names["shown"]
    page.close()
    assert page.address.startswith("http://127.0.0.1:")


def check_paper_size(names: Given) -> None:
    assert names["frames"].shape == (1, 4, 64, 64, 3) and any(Path("FOLDER").iterdir())


def check_training(names: Given) -> None:
    assert names["frames"].shape == (3, 8, 8, 3) and names["actions"].shape == (2, 2)


def check_benchmark_model(names: Given) -> None:
    batch = {"video": np.zeros((2, 2, 64, 64, 3)), "actions": np.zeros((2, 7, 5))}
    assert names["Model"]()(batch)["rgb"].shape == (2, 7, 64, 64, 3)
    assert names["frames"].shape == (1, 5, 2, 64, 64, 3)


def check_first_dream(names: Given) -> None:
    assert Path("dream.gif").stat().st_size and 0 < names["error"] < 100


def check_own_planner(names: Given) -> None:
    assert names["cost"](names["plan"].actions[:, None]).item() < 0.1


CHECKS: dict[str, Callable[[Given], None]] = {
    "docs/own_video.md": check_own_video,
    "docs/paper_size.md": check_paper_size,
    "docs/play.md": check_play,
    "docs/training.md": check_training,
    "docs/vp2.md": check_benchmark_model,
    "docs/tutorials/first_dream.md": check_first_dream,
    "docs/tutorials/own_planner.md": check_own_planner,
}
"""What has to be true after the last block of a page."""


def test_every_page_is_found() -> None:
    assert {"README.md", "docs/planners.md", *ALONE, *NEEDS, *CHECKS, *ELSEWHERE} <= set(PAGES)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: Patch, request: pytest.FixtureRequest
) -> None:
    if page == "docs/libero.md":
        request.getfixturevalue("libero_assets")
    monkeypatch.chdir(tmp_path)
    names = NEEDS[page](tmp_path, monkeypatch) if page in NEEDS else {}
    for number, block in enumerate(blocks(page)):
        if number == 0 or page in ALONE:
            here = {"__name__": "readme", **names}
        exec(compile(block, str(ROOT / page), "exec"), here)
    if page in CHECKS:
        CHECKS[page](here)
