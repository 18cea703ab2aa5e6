"""benchmarks/dream_success.py: what a dream ends for, by the classifier's threshold."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import dream_success
from benchmarks.dream_success import STILL_STEPS, THRESHOLDS, main, still
from cola_env.goals import GoalSet


def test_stricter_thresholds_end_fewer_dreams(
    goals: GoalSet, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dream_success, "load_goals", lambda *_, **__: goals)
    likely = iter([0.96, 0.7, 0.6, 0.98])  # of the first problem, then the second: still, script
    monkeypatch.setattr(dream_success, "most_likely", lambda *_: next(likely))
    main([f"model={tiny_model}", f"out={tmp_path / 'found.json'}"])
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["tasks"]["push_red"]["still"].values()) == [1.0, 0.5, 0.5, 0.5, 0.0, 0.0]
    assert found["all"]["script"] == dict(
        zip(map(str, THRESHOLDS), [1.0, 0.5, 0.5, 0.5, 0.5, 0.0], strict=True)
    )


def test_a_tiny_models_dreams_are_judged(goals: GoalSet, tiny_model: Path, monkeypatch) -> None:
    monkeypatch.setattr(dream_success, "load_goals", lambda *_, **__: goals)
    found = dream_success.measure(dream_success.Settings(model=str(tiny_model)))
    shares = list(found["push_red"]["still"].values())
    assert shares == sorted(shares, reverse=True)


def test_a_still_hand_holds_what_it_has() -> None:
    assert not still(5, "robodesk").any()
    closed = still(7, "libero")
    assert closed.shape == (STILL_STEPS, 7)
    assert np.all(closed[:, -1] == 1) and not closed[:, :-1].any()


@pytest.mark.parametrize("given", ["modle=cola", "still"])
def test_settings_are_told(given: str) -> None:
    with pytest.raises(SystemExit, match="There is no setting .*name=value"):
        main([given])
