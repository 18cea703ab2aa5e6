"""Prints the requirements of pyproject.toml at their lowest versions, but for torch: its older
releases have no builds for CPUs in the package index, so that a lane for them would bring CUDA."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
for requirement in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
    name, lowest = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()
    if name != "torch":
        print(f"{name}=={lowest}")
