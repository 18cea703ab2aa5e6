"""The loader's benchmark: its files can be read, its table says what it measured."""

import json
from pathlib import Path

import pytest

from benchmarks.measurements import loader


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["loader.py", *arguments])
    loader.main()


def test_every_source_is_measured_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "trained_clips_a_second", lambda data, model, phase: 8.0)
    out = tmp_path / "loader.json"
    main(monkeypatch, f"out={out}", "episodes=2", "batches=1", "workers=0")
    results = json.loads(out.read_text())
    assert results["command"].startswith("python -m benchmarks.measurements.loader out=")
    assert results["machine"]["processor"]
    rates = results["loader_clips_per_second"]
    assert len(rates) == 3
    assert all(set(kinds) == {"in memory", "on demand"} for kinds in rates.values())
    assert all(rate > 0 for kinds in rates.values() for rate in kinds.values())
    rows = [
        line for line in out.with_suffix(".md").read_text().splitlines() if "clips/s" not in line
    ]
    assert len([row for row in rows if row.startswith("| ")]) == 6


def test_unknown_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="There is no setting wokers: did you mean workers?"):
        main(monkeypatch, "wokers=3")
    with pytest.raises(SystemExit, match="many"):
        main(monkeypatch, "workers=many")


def test_help_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main(monkeypatch, "--help")
    told = capsys.readouterr().out
    assert told.startswith("Can the data keep up") and "workers: 2" in told
