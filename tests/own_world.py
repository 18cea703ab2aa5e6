"""The world of docs/own_world.md, for the tests."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "own_world.md"
MODULE = "reacher_world"


def write_module(folder: Path, name: str = MODULE) -> Path:
    """The documented module as a file in `folder`."""
    code = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)[0]
    file = folder / f"{name}.py"
    file.write_text(code)
    return file


def commands() -> list[str]:
    """The documented commands, in order."""
    block = re.findall(r"^```bash\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)[0]
    return block.strip().splitlines()
