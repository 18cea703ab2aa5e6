"""Inside cola_train imports only go down, also those inside functions, as its docstrings say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cola_train

HOME = Path(cola_train.__file__).parent
MAY_IMPORT = {
    "data": {"data", "console"},
    "evaluation": {"evaluation", "data"},
    "phases": {"phases", "evaluation", "data"},
    "controllers": {"controllers", "console"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(HOME.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(HOME.rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """The files of cola_train that any statement in a file names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and str(node.module) in FILES:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else str(node.module) for name in names)


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {name: set(imports(path)) for name, path in FILES.items()}
    assert sum(map(len, graph.values())) > 100, "it sees the imports"
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_it_says(folder: str) -> None:
    wrong = {
        f"{name} imports {other}"
        for name, path in FILES.items()
        if name.startswith(f"cola_train.{folder}")
        for other in imports(path)
        if other.split(".")[1] not in MAY_IMPORT[folder]
    }
    assert not wrong
