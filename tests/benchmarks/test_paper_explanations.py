"""What the paper explains its gains by: measured on trainings of seconds, and told from numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from benchmarks.paper import reproduce
from benchmarks.paper_experiments import drift, figures, wrong_codes
from benchmarks.paper_experiments.study import Study
from benchmarks.paper_experiments.verdicts import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    write_result,
)
from cola_env.errors import ColaWorldError
from cola_train.evaluation.steering import Transfer
from cola_train.evaluation.wrong_codes import SHARES, WrongCodes
from tests.benchmarks.paper_cases import config
from tests.pictures import line_colours
from tests.train.conftest import write_lerobot
from tests.train.small import SMALL, small_model


def tiny(tmp_path: Path, *overrides: str) -> DictConfig:
    """A study of trainings of seconds: a quarter of a step for 1,000 of the paper's."""
    data = write_lerobot(tmp_path / "data", [14, 14, 14])
    small_model(rendering="fast").save_pretrained(tmp_path / "init")
    settings = config(
        f"data={data}", f"init={tmp_path / 'init'}", f"out={tmp_path / 'out'}", "seeds=[0]",
        "scales.mini.steps_per_thousand=0.25",
        "measure={clips:4,horizon:4,length:4,strips:1,lpips:null,fvd:null}", *overrides,
    )  # fmt: skip
    sizes = {name: size for name, size in SMALL.items() if name != "autoencoder_config"}
    phases = ("warm_up", "end_to_end", "latent_action_model", "world_model")
    settings.set = [
        *(f"model.{name}={json.dumps(size).replace(chr(34), '')}" for name, size in sizes.items()),
        *(f"phases.{phase}.clip=4" for phase in phases),
        *(f"phases.{phase}.batch_size=2" for phase in phases),
        *(f"phases.{phase}.measured_clips=2" for phase in phases),
        *(f"phases.{phase}.probe_clips=0" for phase in phases),
        "trainer.logger=none",
        "trainer.evaluate_every=100",
    ]
    return settings


def test_both_are_trained_measured_and_written(tmp_path: Path) -> None:
    settings = tiny(tmp_path, "explanation=all")
    reproduce(settings)
    out = tmp_path / "out"
    drifted = json.loads((out / "explanation_drift.json").read_text())
    paths = {run: path for run, (path,) in drifted["numbers"]["paths"].items()}
    assert [point["step"] for point in paths["joint"]] == [4000 * n for n in range(1, 13)]
    assert {point["since_start"]["changed"] for point in paths["frozen_lam"]} == {0}
    for run in ("joint", "pure_warm_up"):
        assert paths[run][-1]["since_start"]["distance"] > 0, run
    assert paths["frozen_lam"][-1]["since_start"]["distance"] == 0
    wrong = json.loads((out / "explanation_wrong_codes.json").read_text())
    assert len(wrong["numbers"]["found"]["joint"][0]["psnr"]) == len(SHARES)
    assert "of one seed" in (out / "explanation_drift.md").read_text()
    for name in ("drift", "wrong_codes"):
        assert len(line_colours(out / f"explanation_{name}.png")) >= 2
    assert "Wrong codes" in (out / "summary.md").read_text()


def test_runs_that_kept_nothing_along_the_way_are_told(tmp_path: Path) -> None:
    study = Study(tiny(tmp_path, "explanation=drift"))
    with pytest.raises(ColaWorldError, match=r"no checkpoints along end_to_end, .*keep_every"):
        list(drift.kept_weights(study, "joint", 0, "end_to_end"))


def moved(*regrouped: float, start: float = 0.3, last: float = 0.1) -> list[dict[str, object]]:
    def of(share: float, reshaped: float) -> dict[str, float]:
        return dict.fromkeys(drift.MEASURES, share) | {"reshaped": reshaped}

    return [
        {"step": 4000 * (i + 1), "since_start": of(share, start), "since_last": of(share, last)}
        for i, share in enumerate(regrouped)
    ]


def test_drift_is_judged_by_the_last_half_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {
        "joint": moved(0.9, 0.9, 0.2, 0.1),
        "pure_warm_up": moved(0.5, 0.5),
        "frozen_lam": moved(0.0),
    }

    def path_of(study: Study, run: str, seed: int) -> drift.Trace:
        noise = 0.01 * seed
        found = json.loads(json.dumps(paths[run]))
        for point in found if run == "joint" else []:
            point["since_last"]["regrouped"] += noise
            point["since_start"]["reshaped"] += noise
        return found

    monkeypatch.setattr(drift, "path_of", path_of)
    result = drift.drift(Study(config()))
    assert result.outcome == REPRODUCED
    assert "+0.16 of the codes" in result.claims[0].verdict.reason
    assert "+0.21 of 1 - CKA" in result.claims[1].verdict.reason
    write_result("drift", result, "small", tmp_path)
    text = (tmp_path / "drift.md").read_text()
    assert "| frozen latent action model | since the start, at the end | 0.000" in text
    assert len(line_colours(tmp_path / "drift.png")) >= 3
    paths["joint"] = moved(0.9, 0.9, 0.0, 0.0, start=0.1, last=0.2)
    late = drift.drift(Study(config()))
    assert [claim.verdict.outcome for claim in late.claims] == [INCONCLUSIVE, NOT_REPRODUCED]


def by_errors(*errors: float) -> WrongCodes:
    """What a model finds whose squared errors these are."""
    return WrongCodes([float(-10 * np.log10(error)) for error in errors], [*errors], 0.9)


def outcomes(
    monkeypatch: pytest.MonkeyPatch, two_stage: WrongCodes, joint: WrongCodes
) -> tuple[list[str], list[str]]:
    found = {"two_stage": two_stage, "joint": joint}

    def measured(study: Study, run: str, seed: int, phase: str) -> WrongCodes:
        return WrongCodes(
            found[run].psnr,
            [error * (1 + 1e-3 * seed * (i == 1)) for i, error in enumerate(found[run].error)],
            found[run].differ,
        )

    monkeypatch.setattr(wrong_codes, "measured", measured)
    result = wrong_codes.wrong_codes(Study(config()))
    return (
        [claim.verdict.outcome for claim in result.claims],
        [claim.verdict.reason for claim in result.claims],
    )


LINEAR = by_errors(0.01, 0.011, 0.0125, 0.015, 0.02)
ROBUST = by_errors(0.01, 0.0102, 0.0105, 0.012, 0.02)


def test_a_model_that_few_wrong_codes_cost_less_is_more_robust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert wrong_codes.added_error(LINEAR) == pytest.approx(SHARES)
    assert outcomes(monkeypatch, LINEAR, ROBUST)[0] == [REPRODUCED, REPRODUCED]
    assert outcomes(monkeypatch, ROBUST, LINEAR)[0] == [NOT_REPRODUCED, NOT_REPRODUCED]


def test_a_model_that_follows_its_codes_less_is_not_taken_for_robust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half the gap costs fewer decibels, and the same share of the error."""
    weak = by_errors(0.01, 0.0105, 0.01125, 0.0125, 0.015)
    claims, _ = outcomes(monkeypatch, LINEAR, weak)
    assert claims == [REPRODUCED, INCONCLUSIVE]
    ignores = by_errors(*[0.01] * len(SHARES))
    claims, reasons = outcomes(monkeypatch, LINEAR, ignores)
    assert claims == [INCONCLUSIVE, INCONCLUSIVE]
    assert "models that follow their codes, and one of them loses no more than 0 dB" in reasons[0]


def test_transferred_videos_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = torch.rand(2, 5, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    found = Transfer(videos, 1 - videos, same=0.5, other=0.1)
    monkeypatch.setattr(figures, "transfer", lambda *_: found)
    result = figures.figure_6(Study(config()))
    write_result("figure_6", result, "small", tmp_path)
    text = (tmp_path / "figure_6.md").read_text()
    assert "](figure_6.png)" in text and "](figure_6.gif)" in text
    with Image.open(tmp_path / "figure_6.gif") as image:
        assert image.n_frames == 5
