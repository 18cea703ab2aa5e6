"""The played episodes of a judging on disk, from which it goes on: a record and a strip of frames
each."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.vp2_protocol.records import Frame, RunFolder
from cola_env.files import write_atomically, write_text

TWIN = "twin"
"""The world that is the real simulator; the others are dreams, by the labels of their models."""
QUALITY = 90
"""Of the strips, which are JPEG."""


@dataclass(frozen=True)
class PlayedEpisode:
    """One policy's episode of a problem in a world.

    world: TWIN, or the label of the model that dreams.
    success: in the twin the simulator's own judgement; in a dream whether any frame was taken for
        one.
    steps: until success, or all that it had.
    actions: float (T, A), those of a script in the twin alone, as dreams are given them.
    probabilities: of success, after each step of a dream; verdicts: whether the classifier took it
        for success; expected: dB that the frame probably has to the real one.
    """

    policy: str
    world: str
    task: str
    pair: int
    success: bool
    steps: int
    actions: tuple[tuple[float, ...], ...] = ()
    probabilities: tuple[float, ...] = ()
    verdicts: tuple[bool, ...] = ()
    expected: tuple[float, ...] = ()

    def succeeds(self, trusted: float | None) -> bool:
        """Success; in a dream only in frames of at least `trusted` expected dB, if it is given."""
        return any(self._counted(self.verdicts, trusted)) if self.verdicts else self.success

    def chance(self, trusted: float | None) -> float:
        """The highest probability of success that a frame of the dream was given."""
        return max(self._counted(self.probabilities, trusted), default=0.0)

    def _counted(self, values: Sequence[Any], trusted: float | None) -> list[Any]:
        return [
            value
            for value, expected in zip(values, self.expected, strict=True)
            if trusted is None or expected >= trusted
        ]


class JudgingFolder:
    """A judging's folder: `settings.json`, and `episodes/POLICY/WORLD/TASK/PAIR.{json,jpg}`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = RunFolder(path)

    def file(self, policy: str, world: str, task: str, pair: int, suffix: str = ".json") -> Path:
        label = f"{policy.replace('/', '--').replace(' ', '_')}/{world}"
        return self.run.episode(label, task, pair, suffix)

    def save(self, episode: PlayedEpisode, frames: Sequence[Frame]) -> None:
        """Write the frames, then the record, each atomically: a record has its frames."""
        key = episode.policy, episode.world, episode.task, episode.pair
        strip = Image.fromarray(np.concatenate(frames, axis=1))
        write_atomically(
            self.file(*key, ".jpg"), lambda path: strip.save(path, "JPEG", quality=QUALITY)
        )
        write_text(self.file(*key), json.dumps(asdict(episode)))

    def load(self, policy: str, world: str, task: str, pair: int) -> PlayedEpisode | None:
        """The finished episode, or None: also where the record is damaged, of which it warns."""
        path = self.file(policy, world, task, pair)
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text())
            known = {each.name for each in fields(PlayedEpisode)}
            episode = PlayedEpisode(**{k: _tuple(v) for k, v in data.items() if k in known})
            told = (episode.policy, episode.world, episode.task, episode.pair)
            if told != (policy, world, task, pair) or not isinstance(episode.success, bool):
                raise ValueError("it is of another episode")
            if len({len(episode.verdicts), len(episode.probabilities), len(episode.expected)}) > 1:
                raise ValueError("it holds no measures")
            return episode
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            warnings.warn(f"{path} is damaged ({error}): it is played again.", stacklevel=2)
            return None

    def frames(self, episode: PlayedEpisode) -> list[NDArray[np.uint8]]:
        """Its frames from the first on, as they were kept."""
        key = episode.policy, episode.world, episode.task, episode.pair
        strip = np.asarray(Image.open(self.file(*key, ".jpg")).convert("RGB"))
        return np.split(strip, strip.shape[1] // strip.shape[0], axis=1)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
