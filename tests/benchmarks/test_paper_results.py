"""What the paper's experiments write, from stored numbers."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig

from benchmarks.paper import reproduce
from benchmarks.paper_experiments import figures, tables
from benchmarks.paper_experiments.study import Lines, Study
from benchmarks.paper_experiments.verdicts import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    Result,
    Verdict,
    write_result,
)
from cola_env.errors import ColaWorldError
from cola_env.models.latent_action.codebook_health import CodebookHealth
from tests.benchmarks.paper_cases import DEAD, LIVE, NARROW, config
from tests.pictures import line_colours


class Stored(Study):
    """Runs of which only what they logged is there."""

    def __init__(self, settings: DictConfig, logged: dict[str, Lines]) -> None:
        super().__init__(settings)
        self.logged = logged

    def lines(self, run: str, seed: int) -> Lines:
        return [
            {k: v + 0.001 * seed if isinstance(v, float) else v for k, v in line.items()}
            for line in self.logged[run]
        ]


def trained(phase: str, health: CodebookHealth) -> Lines:
    measures = {f"token_{i}_{k}": float(v) for i in (0, 1) for k, v in vars(health).items()}
    return [{"phase": phase, "step": step, "loss": 1.0, **measures} for step in range(1, 9)]


def written(result: Result, out: Path) -> str:
    write_result("experiment", result, "small", out)
    stored = json.loads((out / "experiment.json").read_text())
    assert stored["outcome"] == result.outcome
    return (out / "experiment.md").read_text()


def test_figures_2_and_3_follow_the_codebooks(tmp_path: Path) -> None:
    logged = {
        "no_warm_up": trained("end_to_end", DEAD),
        "two_stage": trained("latent_action_model", LIVE),
        "pretrained_idm": trained("end_to_end", DEAD),
        "both_random": trained("end_to_end", LIVE),
        "warm_up_4": trained("end_to_end", NARROW),
        "joint": trained("end_to_end", LIVE),
        "warm_up_12": trained("end_to_end", LIVE),
        "paper_quantizer": trained("end_to_end", DEAD),
    }
    study = Stored(config(), logged)
    assert figures.figure_2(study).outcome == REPRODUCED
    third = figures.figure_3(study)
    assert third.outcome == REPRODUCED
    assert ["8K steps of warm-up, the paper's quantizer", ", ".join(["collapsed"] * 3)] in [
        row[:2] for row in third.rows
    ]
    text = written(figures.figure_2(study), tmp_path)
    assert "collapsed in 3 of 3 seeds" in text and "![Figure 2" in text
    assert len(line_colours(tmp_path / "experiment.png")) >= 3, "a curve for each run"
    logged["two_stage"] = trained("latent_action_model", DEAD)
    assert figures.figure_2(study).outcome == INCONCLUSIVE


def test_figure_4_compares_branches_of_one_warm_up(tmp_path: Path) -> None:
    def probed(phase: str, *values: float) -> Lines:
        return [
            {"phase": phase, "step": 10 * (i + 1), "probe_l1": v, "own": 10 + v}
            for i, v in enumerate(values)
        ]

    warm_up = probed("warm_up", 0.9, 0.8)
    logged = {
        "joint": warm_up + probed("end_to_end", 0.7, 0.5, 0.3),
        "pure_warm_up": probed("end_to_end", 0.75, 0.7, 0.6),
        "frozen_lam": probed("end_to_end", 0.75, 0.6, 0.6),
    }
    study = Stored(config(), logged)
    result = figures.figure_4a(study)
    assert result.outcome == REPRODUCED
    assert list(result.numbers["joint"][0]) == ["10", "20", "30", "40", "50"]
    assert list(result.numbers["pure_warm_up"][0]) == ["20", "30", "40", "50"]
    assert "0.3010 (0.3000 to 0.3020)" in written(result, tmp_path)
    assert figures.figure_4b(study).claims[0].verdict.outcome == NOT_REPRODUCED


def test_figure_5_and_table_1_read_what_was_logged(tmp_path: Path) -> None:
    def measured(phase: str, step: int, adapter: float, probe: float) -> Lines:
        line = {"phase": phase, "step": step, "probe_l1": probe}
        for source, entropy in (("lam", 2.0), ("adapter", adapter)):
            line |= {f"{source}_token_0_{name}": 0.5 for name in ("utilisation", "max_usage")}
            line[f"{source}_token_0_entropy"] = entropy
        return [line]

    logged = {
        "joint": measured("end_to_end", 528, 2.0, 0.2) + measured("end_to_end", 1248, 2.0, 0.1),
        "two_stage": [
            *measured("latent_action_model", 720, 2.0, 0.3), *measured("world_model", 720, 2.0, 0.3)
        ],
        "joint_adapted": measured("finetune", 200, 1.8, 0.0),
        "two_stage_adapted": measured("finetune", 200, 0.6, 0.0),
    }  # fmt: skip
    study = Stored(config(), logged)
    assert figures.figure_5(study).outcome == REPRODUCED
    written(figures.figure_5(study), tmp_path)
    text = written(tables.table_1(study), tmp_path)
    assert "| ours | 0.3010 (0.3000 to 0.3020) | 0.2010 (0.2000 to 0.2020) |" in text
    assert "| *BRIDGE* | *0.0827* | *0.0815* |" in text


def test_tables_2_and_3_stand_beside_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quality(study: Study, run: str, seed: int, phase: str, data: object) -> dict[str, object]:
        better = {"short_lam": -2.0, "joint": 1.0, "joint_adapted": 1.0}.get(run, 0.0)
        found = {"psnr": 20 + better + seed / 100, "ssim": 80.0 - better, "clips": 24.0}
        return {source: found for source in ("own", "adapter")}

    monkeypatch.setattr(tables, "quality", quality)
    study = Study(config())
    second, third = tables.table_2(study), tables.table_3(study)
    assert [c.verdict.outcome for c in second.claims] == 3 * [REPRODUCED] + 3 * [NOT_REPRODUCED]
    assert "WARM8K + E2E30K is higher than LAM8K + WM52K" in second.claims[2].text
    text = written(second, tmp_path)
    assert "| 20.01 (20.00 to 20.02) | 18.01 (18.00 to 18.02) | 21.01 (21.00 to 21.02) |" in text
    assert "| *21.91 / 80.76 / 13.79 / 296.64* | *22.57 / 81.40 / 12.79 / 278.90* |" in text
    assert len(third.claims) == 4
    text = written(third, tmp_path)
    assert "| ours, PSNR, real action | 20.01 (20.00 to 20.02) | 21.01 (21.00 to 21.02) |" in text
    assert "*20.03 / 83.33 / 10.64 / 188.82*" in text


def vp2_file(
    path: Path, outcomes: dict[str, str], tasks: Sequence[str], seed: int = 0, training: int = 0
) -> Path:
    rows = [
        {
            "task": task, "model": model, "seed": seed, "outcomes": played,
            "successes": played.count("1"), "episodes": len(played),
            "settings": {"weights": f"{model} {training}"},
        }
        for model, played in outcomes.items()
        for task in tasks
    ]  # fmt: skip
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_table_4_reads_the_benchmarks_results(tmp_path: Path) -> None:
    outcomes = {"two_stage": "0" * 28 + "11", "cola": "1" * 15 + "0" * 15, "direct": "1" * 30}
    tasks = ["open_slide", "push_red"]
    files = [
        vp2_file(tmp_path / f"{seed}.json", outcomes, tasks, seed, seed // 2) for seed in range(4)
    ]

    def given(*files: Path) -> list[str]:
        listed = f"vp2.results=[{','.join(map(str, files))}]"
        return ["data=???", "init=???", "table=4", listed, f"out={tmp_path}"]

    reproduce(config(*given(*files), "vp2.joint=cola"))
    text = (tmp_path / "table_4.md").read_text()
    assert "# Table 4: planning success on RoboDesk: reproduced" in text
    assert "+43.3 points (95 % interval " in text
    assert "over trainings and pairs, 2 of each and 30)" in text
    assert "| ours, open_slide | 8/120 (2-21 %) | 60/120 (33-67 %) |" in text
    assert "| *average* | *6.94 %* | *13.12 %* |" in text
    assert "Table 4" in (tmp_path / "summary.md").read_text()
    with pytest.raises(ColaWorldError, match=r"no model 'joint' .* vp2\.joint=LABEL"):
        reproduce(config(*given(*files)))
    reproduce(config(*given(*files[:2]), "vp2.joint=cola"))
    text = (tmp_path / "table_4.md").read_text()
    assert "RoboDesk: inconclusive" in text and "one training of each" in text


def test_a_result_without_a_picture_has_no_link(tmp_path: Path) -> None:
    claims = [Claim("It works.", Verdict(REPRODUCED, "+1."))]
    text = written(Result("Table 0", claims, {}, ["a"], [["b"]]), tmp_path)
    assert "![" not in text and "| It works. | **reproduced** | +1. |" in text
