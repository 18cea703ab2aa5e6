"""Files that are either whole or not there."""

import os
import subprocess
import sys
from pathlib import Path
from platform import node

import pytest

from cola_env.files import write_atomically, write_text
from cola_train.run_folder import replace_files, write_folder


def test_a_models_folder_gets_its_config_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    names = {"config.json", "a.safetensors", "z.safetensors"}
    for name in names:
        (source / name).write_text(name)
    moved = []
    replace = os.replace

    def spy(file: Path, target: Path) -> None:
        moved.append(target.name)
        replace(file, target)

    monkeypatch.setattr(os, "replace", spy)
    replace_files(source, out)
    assert set(moved) == names and moved[-1] == "config.json"


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        (target / "half" if target.is_dir() else target).write_text("half")
        raise OSError("No space left on device")

    file = tmp_path / "record.json"
    write_text(file, "whole")
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, fail)
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path, fail)
    assert file.read_text() == "whole" and list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f"other.json.{node()}.{gone.pid}.tmp"
    alive = tmp_path / f"other.json.{node()}.{os.getppid()}.tmp"
    foreign = tmp_path / f"other.json.elsewhere.{gone.pid}.tmp"
    for file in (left, alive, foreign):
        file.write_text("half")
    write_text(tmp_path / "record.json", "whole")
    assert set(tmp_path.iterdir()) == {alive, foreign, tmp_path / "record.json"}


def test_files_are_on_disk_before_they_take_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("sync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    write_text(tmp_path / "record.json", "whole")
    assert done == ["sync", "name", "sync"]
