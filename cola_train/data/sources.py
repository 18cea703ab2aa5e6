"""Which kind of training data a path holds, by what lies there."""

from __future__ import annotations

from pathlib import Path

from cola_env.errors import ColaWorldError
from cola_train.data import demo_files, video_folder
from cola_train.data.damage import Ledger
from cola_train.data.demo_files import DemoFiles
from cola_train.data.episodes import Episodes
from cola_train.data.file_index import default_folder
from cola_train.data.lerobot_episodes import LeRobotEpisodes
from cola_train.data.video_folder import VideoFolder

CONVERT = (
    "{path} is a {format} data set, which is not read: write it as HDF5 or LeRobot, as "
    "docs/training.md shows under 'Other formats'."
)


def open_source(
    path: str | Path,
    ledger: Ledger | None = None,
    index: str | Path | None = None,
    camera: str | None = None,
) -> Episodes:
    """A LeRobot folder (it has a ``meta``), HDF5 files, or videos; files are looked for in all
    subfolders.

    ``ledger`` takes note of damaged files, ``index`` is the folder for indexes,
    ``camera`` is the one to read where there are several.
    Raises ColaWorldError when the path is missing or holds nothing that can be read.
    """
    path, ledger = Path(path).expanduser(), ledger or Ledger()
    folder = Path(index).expanduser() if index else default_folder()
    if not path.exists():
        raise ColaWorldError(
            f"There is no data {path}: name a folder or file, or make a data set with "
            "'python -m cola_train.collect'."
        )
    if (path / "meta").is_dir():
        return LeRobotEpisodes(path, folder, ledger, camera=camera)
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
    if found := _with(files, demo_files.SUFFIXES):
        source = DemoFiles(path, found, folder, ledger, camera=camera)
    elif found := _with(files, video_folder.SUFFIXES):
        source = VideoFolder(path, found, folder, ledger, camera=camera)
    elif any(".tfrecord" in name or name == "features.json" for name in names):
        raise ColaWorldError(CONVERT.format(path=path, format="RLDS"))
    else:
        raise ColaWorldError(
            f"{path} holds nothing to train on: name a LeRobot folder, HDF5 files in the layout "
            "of VP2, robomimic, LIBERO or ALOHA, or a folder of mp4 or webm videos."
        )
    if not source.entries:
        first = str(found[0])
        reasons = [reason for name, reason in ledger.files.items() if name.startswith(first)]
        raise ColaWorldError(
            f"None of the {len(found)} files of {path} can be read; the first: "
            f"{next(iter(reasons), 'it holds no episodes')}."
        )
    return source


def _with(files: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in suffixes]
