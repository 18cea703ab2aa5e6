"""`cola`: every command has a name and a line of help, and is run as `python -m` runs it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cli

ROOT = Path(__file__).resolve().parents[2]


def run_cola(*arguments: str, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`cola` in a process of its own, in which the packages ``blocked`` are not to be had."""
    program = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
sys.argv = ["cola", *{list(arguments)}]
from benchmarks.cli import main
main()
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def commands_in(package: str) -> set[str]:
    """The modules of a package that run as a script."""
    files = (path for path in (ROOT / package).rglob("*.py") if "measurements" not in path.parts)
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if any(
            isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }


def test_every_module_that_is_a_command_has_a_name() -> None:
    there = commands_in("cola_train") | commands_in("benchmarks")
    assert set(cli.COMMANDS.values()) == there - {"benchmarks.cli"}


def test_help_lists_the_commands_without_importing_what_they_need() -> None:
    for arguments in ((), ("--help",)):
        told = run_cola(*arguments, blocked=("torch", "hydra", "mujoco", "av"))
        assert told.returncode == 0, told.stderr
        lines = dict(line.split(maxsplit=1) for line in told.stdout.splitlines()[3:])
        assert lines.keys() == cli.COMMANDS.keys()
        assert lines["train"] == "Trains a world model"
        assert all(10 < len(line) < 70 and "`" not in line for line in lines.values())


def test_a_command_gets_the_other_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cola", "describe", "model=mini"])
    cli.main()
    assert capsys.readouterr().out.startswith("mini: ")
    monkeypatch.setattr(sys, "argv", ["cola", "describe", "model=tiny"])
    with pytest.raises(SystemExit, match="error: model must be one of "):
        cli.main()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("trian", "There is no command trian: did you mean train?"),
        ("colect", "There is no command colect: did you mean collect?"),
        ("qqq", "There is no command qqq: cola --help lists those that there are."),
    ],
)
def test_a_name_that_there_is_not_names_the_nearest(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cola", given])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert str(ended.value) == f"error: {told}"


def test_what_is_not_installed_is_said() -> None:
    told = run_cola("train", blocked=("hydra",))
    assert told.returncode == 1
    assert "pip install 'colaworld[robodesk,train,play]'" in told.stderr and "hydra" in told.stderr
    assert told.stderr.count("\n") == 1


def test_modules_of_the_current_folder_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_command_here.py").write_text(
        "import sys\ndef main(): print(sys.argv, sys.path[0])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["cola", "here", "a=1"])
    monkeypatch.setitem(cli.COMMANDS, "here", "a_command_here")
    cli.main()
    assert capsys.readouterr().out == f"['cola here', 'a=1'] {tmp_path}\n"
