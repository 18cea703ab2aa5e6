"""The Python of README and docs runs as it stands, on the shipped checkpoint."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/dreams.md")
BLOCKS = {
    f"{page} {number}": block
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    )
}


def test_there_is_something_to_run() -> None:
    assert {name.partition(" ")[0] for name in BLOCKS} == set(PAGES)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_runs(name: str) -> None:
    exec(compile(BLOCKS[name], name, "exec"), {"__name__": "readme"})
