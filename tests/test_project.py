"""What the project says of itself agrees with itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_file_names_the_same_version() -> None:
    version = PROJECT["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert cited["version"] == version and changes[0] == version


def test_every_package_tells_type_checkers_of_its_hints() -> None:
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_oldest_libraries_are_those_of_the_requirements() -> None:
    told = subprocess.run(
        [sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True
    )
    lowest = dict(line.split("==") for line in told.stdout.splitlines())
    named = {re.split("[<>=]", each)[0] for each in PROJECT["project"]["dependencies"]}
    assert lowest.keys() == named - {"torch"}
    assert f"gymnasium>={lowest['gymnasium']},<2" in PROJECT["project"]["dependencies"]
