"""The tests that need a GPU, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cola_env.errors import ColaWorldError

CHECKOUT = Path(__file__).resolve().parents[2]
OUTCOME = re.compile(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)
TOLD = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)
SHOWN = 5


def run_tests(
    folder: Path, places: Sequence[str], marks: str, log: Path, seconds: float
) -> dict[str, Any]:
    """How many tests with these ``marks`` in ``places`` of ``folder`` passed, failed, were skipped.

    ``log`` keeps what pytest says. Tests that have not run after ``seconds`` do not count.

    Raises ColaWorldError when there are no tests, one failed, or the time was too short.
    """
    paths = [folder / place for place in places if (folder / place).exists()]
    if not paths:
        raise ColaWorldError(
            f"There are no tests in {folder}: run the check in a checkout of the repository, or "
            "name their folder by tests=."
        )
    command = [sys.executable, "-m", "pytest", "-v", "-rfE", "--color=no", "-m", marks]
    command += ["--continue-on-collection-errors", "-p", "no:cacheprovider", *map(str, paths)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": "500", "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(seconds)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            process.kill()
            process.wait()
    text = log.read_text(encoding="utf-8")
    outcomes = dict(OUTCOME.findall(text))
    counts = Counter(outcomes.values())
    failures = {name: told or "see the log" for name, told in TOLD.findall(text)}
    failures |= {
        name: failures.get(name, "see the log")
        for name, outcome in outcomes.items()
        if outcome in ("FAILED", "ERROR")
    }
    result = {"passed": counts["PASSED"], "skipped": counts["SKIPPED"], "failures": failures}
    if failures:
        shown = "; ".join(f"{name}: {told}" for name, told in list(failures.items())[:SHOWN])
        raise TestsFailed(
            f"{len(failures)} tests failed, {counts['PASSED']} passed, see {log}: {shown}", result
        )
    if late:
        raise TestsFailed(
            f"{len(outcomes)} tests ran in {seconds:.0f} s, not all, see {log}.", result
        )
    if not outcomes:
        raise ColaWorldError(f"pytest ran no test, see {log}.")
    return result


class TestsFailed(ColaWorldError):
    """With what is known of the others."""

    __test__ = False  # pytest takes every class whose name begins so for tests

    def __init__(self, told: str, result: dict[str, Any]) -> None:
        super().__init__(told)
        self.result = result
