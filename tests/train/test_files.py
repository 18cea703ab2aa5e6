"""Files that are either whole or not there."""

import os
from pathlib import Path

import pytest

from cola_train.files import replace_files


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
