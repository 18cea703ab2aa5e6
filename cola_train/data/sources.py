"""The data of a training run: what `data=` names, opened, split and put in memory if it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cola_env.errors import ColaWorldError
from cola_env.inputs import check_number
from cola_env.simulators.rendering import check_same_profile
from cola_train.data.action_scale import ActionScale
from cola_train.data.clips import Clips, TrainingData
from cola_train.data.demo_files import HDF5_SUFFIXES, DemoFiles
from cola_train.data.episode_source import DamageReport, Entry, EpisodeSource, spans
from cola_train.data.file_index import default_folder
from cola_train.data.lerobot import LeRobotSource
from cola_train.data.mixture import mixture
from cola_train.data.stream import Stream
from cola_train.data.video import VIDEO_SUFFIXES, VideoFolder

OTHER_RENDERING = "video"
"""The rendering profile of a model whose data is of no simulator of ours."""


@dataclass
class LoadingConfig:
    """fps: frames a second of the clips, by the nearest whole stride; None: as they are stored;
    memory_gb: frames of the smallest sources that together take no more are kept in memory;
    workers: processes that decode the others;
    index: folder where the contents of files are remembered; None: in the user's cache;
    action_range: [low, high], the values of the files' actions that become -1 and 1, each a number
    or a list of one a component; None: they are in [-1, 1] as they are;
    camera: the one that is read where there are several, see ``choose_camera``."""

    fps: float | None = None
    memory_gb: float = 4.0
    workers: int = 2
    index: str | None = None
    action_range: Any = None
    camera: str | None = None

    def __post_init__(self) -> None:
        if OmegaConf.is_config(self.action_range):
            self.action_range = OmegaConf.to_container(self.action_range)


class DataSources:
    """The sources that ``data`` names: a path, a list of paths, which are drawn from in proportion
    to their frames, or a mapping from a path to its weight, or from a name to ``{path: ...,
    weight: ...}`` where the path may be a list.

    Raises ColaWorldError when one holds nothing that can be read, or they do not fit together.
    """

    def __init__(
        self, data: str | Sequence[str] | Mapping[str, Any], config: LoadingConfig | None = None
    ) -> None:
        self.config = config or LoadingConfig()
        if self.config.fps is not None and check_number("fps", self.config.fps) <= 0:
            raise ColaWorldError(f"fps={self.config.fps} is no frame rate: give a positive number.")
        check_number("loading.memory_gb", self.config.memory_gb, least=0)
        self.damage_report = DamageReport()
        self.groups = [
            ([self._open(path) for path in paths], weight) for paths, weight in _groups(data)
        ]
        for source in self.sources:
            check_rate(source, self.config.fps)
        self.scale = ActionScale.of(self.config.action_range, self.action_dims)
        self.rendering = _rendering(self.sources)
        self._splits: dict[tuple[str, int], TrainingData] = {}

    def _open(self, path: str) -> EpisodeSource:
        return open_source(path, self.damage_report, self.config.index, self.config.camera)

    @property
    def sources(self) -> list[EpisodeSource]:
        return [source for sources, _ in self.groups for source in sources]

    @property
    def entries(self) -> list[Entry]:
        return [entry for source in self.sources for entry in source.entries]

    @property
    def infos(self) -> list[dict[str, Any]]:
        """What the LeRobot folders among them say of themselves."""
        return _infos(self.sources)

    @property
    def action_dims(self) -> set[int]:
        """The sizes of all actions there are."""
        return {entry.action_dim for entry in self.entries if entry.action_dim}

    @property
    def action_dim(self) -> int | None:
        """The size of the actions of all that has any; None without.

        Raises ColaWorldError for actions of several sizes.
        """
        dims = self.action_dims
        if len(dims) > 1:
            raise ColaWorldError(
                f"The data has actions of {' and '.join(map(str, sorted(dims)))} dimensions: train "
                "on real actions of one kind at a time."
            )
        return dims.pop() if dims else None

    @property
    def fps(self) -> float:
        """Frames a second of the clips; where sources differ, of most of their frames."""
        frames: Counter[float] = Counter()
        for entry in self.entries:
            frames[entry.rate(self.config.fps)] += entry.frames // entry.stride(self.config.fps)
        return frames.most_common(1)[0][0]

    @property
    def other_rates(self) -> list[str]:
        """Where a source is not read at exactly the ``fps`` asked for, a sentence for the user."""
        return [told for s in self.sources if (told := other_rates(s, self.config.fps))]

    @property
    def has_actions(self) -> bool:
        return any(entry.action_dim for entry in self.entries)

    def check_actions(self) -> None:
        """Raises ColaWorldError when actions are not in [-1, 1], scaled as the settings say."""
        for source in self.sources:
            self.scale.check(source.path, source.action_extremes())

    def streams(self, name: str) -> list[Stream]:
        """What belongs to "train" or "test", a stream a source, before any frame is read."""
        found = [self._stream(source, name, size=1) for source in self.sources]
        return [stream for stream in found if stream.spans]

    def num_episodes(self, name: str, with_actions: bool = False) -> int:
        """Of "train" or "test", those that cannot be read included."""
        streams = self.streams(name)
        return sum(len((s.with_actions() if with_actions else s).spans) for s in streams)

    def split(self, name: str, size: int) -> TrainingData:
        """What belongs to "train" or "test", as square frames of ``size`` pixels; read once."""
        if (name, size) not in self._splits:
            self._splits[name, size] = self._read(name, size)
        return self._splits[name, size]

    def _read(self, name: str, size: int) -> TrainingData:
        groups = [([self._stream(s, name, size) for s in ss], w) for ss, w in self.groups]
        streams = [stream for group, _ in groups for stream in group if stream.spans]
        if not streams:
            raise ColaWorldError(f"The data has no episodes for {name!r}: name more of it.")
        left, held = self.config.memory_gb * 1e9, dict[int, TrainingData]()
        for stream in sorted(streams, key=lambda s: s.num_bytes):
            left -= stream.num_bytes
            held[id(stream)] = in_memory(stream) if left >= 0 else stream
        parts, weights = [], []
        for group, weight in groups:
            members = _joined([held[id(stream)] for stream in group if stream.spans])
            frames = sum(member.num_frames for member in members)
            for member in members:
                parts.append(member)
                share = member.num_frames / max(1, frames)
                weights.append(float(member.num_frames) if weight is None else weight * share)
        return mixture(parts, weights)

    def _stream(self, source: EpisodeSource, name: str, size: int) -> Stream:
        chosen = spans(source.entries, name, self.config.fps)
        return Stream(source, chosen, size, self.damage_report, self.config.workers, self.scale)


RATE_TOLERANCE = 0.01
"""Share of a frame rate that nobody is told of: cameras have 29.97 for 30."""


def check_rate(source: EpisodeSource, fps: float | None) -> None:
    """Raises ColaWorldError where all of a source was recorded at half of ``fps`` or less."""
    fastest = max(entry.fps for entry in source.entries)
    if fps is not None and round(fastest / fps) < 1:
        raise ColaWorldError(
            f"fps={fps:g} cannot be had of {source.path}, which has {fastest:.4g} frames a second: "
            f"give fps={fastest:.4g} or less, or leave this data out."
        )


def other_rates(source: EpisodeSource, fps: float | None) -> str:
    """Which frame rates come out of a source in place of ``fps``; empty where that does."""
    rates = [entry.rate(fps) for entry in source.entries]
    other = [rate for rate in rates if fps is not None and abs(rate / fps - 1) > RATE_TOLERANCE]
    if not other:
        return ""
    ends = " to ".join(dict.fromkeys(f"{rate:.4g}" for rate in (min(other), max(other))))
    return (
        f"{len(other)} of {len(rates)} episodes of {source.path} are read at {ends} frames a "
        f"second, the nearest whole stride to fps={fps:g}."
    )


def in_memory(stream: Stream) -> TrainingData:
    """All frames of a stream: ``Clips`` where its episodes are of equal length and kind."""
    whole = stream.loaded()
    assert whole.memory is not None
    frames, actions = zip(*whole.memory, strict=True)
    if len({(len(f), a.shape) for f, a in whole.memory}) > 1:
        return whole
    return Clips(torch.stack(frames), torch.stack(actions))


def _joined(parts: list[TrainingData]) -> list[TrainingData]:
    """The same, all clips in memory of the same shape as one."""
    shapes: dict[tuple[int, ...], list[Clips]] = {}
    others: list[TrainingData] = []
    for part in parts:
        if isinstance(part, Clips):
            shape = (*part.frames.shape[1:], part.actions.shape[-1])
            shapes.setdefault(shape, []).append(part)
        else:
            others.append(part)
    return [_as_one(same) for same in shapes.values()] + others


def _as_one(clips: list[Clips]) -> Clips:
    if len(clips) == 1:
        return clips[0]
    frames, actions = ([getattr(c, name) for c in clips] for name in ("frames", "actions"))
    return Clips(torch.cat(frames), torch.cat(actions))


def _groups(
    data: str | Sequence[str] | Mapping[str, Any],
) -> list[tuple[list[str], float | None]]:
    """Paths and weight (None: by frames) of each group of sources."""
    if isinstance(data, str):
        return [([data], None)]
    if not isinstance(data, Mapping):
        return [([str(path) for path in data], None)]
    groups: list[tuple[list[str], float | None]] = []
    for name, value in data.items():
        entry = value if isinstance(value, Mapping) else {"path": name, "weight": value}
        weight, path = entry.get("weight"), entry.get("path", name)
        if weight is None:
            raise ColaWorldError(
                f"{name} has no weight: a mapping of data gives each one, as in {name}: 1 "
                f"or {name}: {{path: FOLDER, weight: 1}}."
            )
        if not isinstance(weight, int | float) or not weight > 0:
            raise ColaWorldError(f"The weight of {name} is {weight}: give it a positive number.")
        groups.append(([path] if isinstance(path, str) else [*path], float(weight)))
    return groups


def _infos(sources: list[EpisodeSource]) -> list[dict[str, Any]]:
    return [source.dataset.info for source in sources if isinstance(source, LeRobotSource)]


def _rendering(sources: list[EpisodeSource]) -> str:
    """The profile that all sources of our simulators share.

    Raises ColaWorldError when they differ in it or in their action repeat.
    """
    named = [(s.path, profile) for s in sources if (profile := s.entries[0].rendering)]
    for path, profile in named[1:]:
        check_same_profile(named[0][1], profile, f"{named[0][0]} and {path}")
    repeats = {int(info["action_repeat"]) for info in _infos(sources) if "action_repeat" in info}
    if len(repeats) > 1:
        raise ColaWorldError(
            f"The data is of action repeats {sorted(repeats)}: train on one of them."
        )
    return named[0][1] if named else OTHER_RENDERING


CONVERT = (
    "{path} is a {format} data set, which is not read: write it as HDF5 or LeRobot, as "
    "docs/training.md shows under 'Other formats'."
)


def open_source(
    path: str | Path,
    damage_report: DamageReport | None = None,
    index: str | Path | None = None,
    camera: str | None = None,
) -> EpisodeSource:
    """A LeRobot folder (it has a ``meta``), HDF5 files, or videos; files are looked for in all
    subfolders.

    ``damage_report`` takes note of damaged files, ``index`` is the folder for indexes,
    ``camera`` is the one to read where there are several.
    Raises ColaWorldError when the path is missing or holds nothing that can be read.
    """
    path, damage_report = Path(path).expanduser(), damage_report or DamageReport()
    folder = Path(index).expanduser() if index else default_folder()
    if not path.exists():
        raise ColaWorldError(
            f"There is no data {path}: name a folder or file, or make a data set with "
            "'python -m cola_train.collect'."
        )
    if (path / "meta").is_dir():
        return LeRobotSource(path, folder, damage_report, camera=camera)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if inner := [file for file in files if file.parts[-2:] == ("meta", "info.json")]:
        raise ColaWorldError(
            f"{path} holds LeRobot data sets in folders of their own: name each, as a list: "
            f"{[str(file.parents[1]) for file in inner]}."
        )
    source: DemoFiles | VideoFolder
    names = {file.name for file in files}
    if "main_data.hdf5" in names:
        raise ColaWorldError(CONVERT.format(path=path, format="Minari"))
    if found := _with(files, HDF5_SUFFIXES):
        source = DemoFiles(path, found, folder, damage_report, camera=camera)
    elif found := _with(files, VIDEO_SUFFIXES):
        source = VideoFolder(path, found, folder, damage_report)
    elif any(".tfrecord" in name or name == "features.json" for name in names):
        raise ColaWorldError(CONVERT.format(path=path, format="RLDS"))
    else:
        raise ColaWorldError(
            f"{path} holds nothing to train on: name a LeRobot folder, HDF5 files in the layout "
            "of VP2, robomimic, LIBERO or ALOHA, or a folder of mp4 or webm videos."
        )
    if not source.entries:
        first = str(found[0])
        reasons = [reason for name, reason in damage_report.files.items() if name.startswith(first)]
        raise ColaWorldError(
            f"None of the {len(found)} files of {path} can be read; the first: "
            f"{next(iter(reasons), 'it holds no episodes')}."
        )
    return source


def _with(files: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in suffixes]
