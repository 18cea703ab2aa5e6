import io
import sys

import pytest

from cola_train.console import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stderr", stream)
    clock = iter(range(10**6))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))  # a second between two looks
    assert list(progress_bar(range(100), "steps")) == list(range(100))
    return stream.getvalue().count("steps")


def test_a_log_gets_few_lines_of_what_a_terminal_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    in_terminal, in_log = drawn(Terminal(), monkeypatch), drawn(io.StringIO(), monkeypatch)
    assert in_terminal > 50
    assert 2 <= in_log <= 10
