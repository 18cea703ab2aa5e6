"""The paper's experiments: what they train, what their numbers say, what they write."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

import cola_train.__main__ as training
from benchmarks import paper
from benchmarks.paper import EXPERIMENTS, check_given, reproduce
from benchmarks.paper_experiments import figures, measures, tables
from benchmarks.paper_experiments.measures import Curve, curve, health_curve, kept
from benchmarks.paper_experiments.report import Claim, Result, write_result
from benchmarks.paper_experiments.runs import Lines, Study, chosen, plan
from benchmarks.paper_experiments.verdicts import (
    COLLAPSED,
    HEALTHY,
    INCONCLUSIVE,
    MIXED,
    NOT_REPRODUCED,
    REPRODUCED,
    Verdict,
    expect,
    interval,
    positive,
    provided,
    state,
    together,
)
from benchmarks.training_runs import merged
from cola_env.errors import ColaWorldError
from cola_env.models.codebook import CodebookHealth, health_measures
from cola_train.data.clips import Clips
from tests.train.conftest import write_lerobot

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"
DEAD = CodebookHealth(utilisation=0.05, max_usage=0.95, entropy=0.1)
LIVE = CodebookHealth(utilisation=0.8, max_usage=0.2, entropy=2.5)
NARROW = CodebookHealth(utilisation=0.1, max_usage=0.3, entropy=1.5)  # one threshold crossed
ALL = ["figure=all", "table=all"]


def config(*overrides: str) -> DictConfig:
    given = ["data=[x,y]", "init=z", *overrides]
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("paper", given)


# Verdicts


def steps(health: list[CodebookHealth]) -> dict[int, CodebookHealth]:
    return dict(enumerate(health))


def test_a_codebook_is_judged_by_the_last_half_of_its_training() -> None:
    assert state(steps([DEAD] * 10 + [LIVE] * 10)) == HEALTHY
    assert state(steps([LIVE] * 10 + [DEAD] * 10)) == COLLAPSED
    assert state(steps([LIVE] * 14 + [DEAD] * 6)) == COLLAPSED
    assert state(steps([LIVE] * 16 + [DEAD] * 4)) == MIXED
    assert state(steps([NARROW] * 20)) == HEALTHY


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        ([DEAD, DEAD, DEAD], REPRODUCED),
        ([LIVE, LIVE, LIVE], NOT_REPRODUCED),
        ([DEAD, DEAD, LIVE], INCONCLUSIVE),
        ([DEAD], INCONCLUSIVE),
    ],
)
def test_all_seeds_must_agree_on_a_collapse(states: list[CodebookHealth], outcome: str) -> None:
    verdict = expect(COLLAPSED, [steps([each] * 8) for each in states])
    assert verdict.outcome == outcome
    assert verdict.reason.count(".") >= 1 and "of" in verdict.reason


def test_a_verdict_says_its_numbers() -> None:
    reason = expect(HEALTHY, [steps([each] * 4) for each in (LIVE, DEAD, LIVE)]).reason
    assert reason == (
        "collapsed in 1, healthy in 2 of 3 seeds; over the last half utilisation 80%, "
        "max usage 20%, entropy 2.50 nats (medians)."
    )
    assert positive([1.0, 2.0, 3.0], "dB").reason == (
        "+2 dB (95 % interval -0.484 to +4.48, 3 seeds)."
    )


def test_differences_are_judged_by_students_interval() -> None:
    low, high = interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2)
    assert (high - low) / 2 == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert positive([1.0, 1.1, 0.9], "dB").outcome == REPRODUCED
    assert positive([-1.0, -1.1, -0.9], "dB").outcome == NOT_REPRODUCED
    assert positive([1.0, 2.0, 3.0], "dB").outcome == INCONCLUSIVE
    assert positive([5.0], "dB").outcome == INCONCLUSIVE


def test_claims_come_together() -> None:
    yes, no, open_ = (Verdict(o, "") for o in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE))
    assert together([yes, yes]) == REPRODUCED
    assert together([yes, open_]) == INCONCLUSIVE
    assert together([yes, open_, no]) == NOT_REPRODUCED
    assert provided(yes, no, "why") is no
    assert provided(no, yes, "why").outcome == INCONCLUSIVE


# Runs


def arms(*overrides: str) -> list[str]:
    settings = config(*overrides)
    return [f"{job.arm}_{job.seed}" for job in plan(settings, chosen(settings))]


def test_experiments_share_their_runs() -> None:
    assert arms("figure=2", "seeds=[0]") == [
        "no_warm_up_0", "both_random_0", "two_stage_0", "pretrained_idm_0",
    ]  # fmt: skip
    together = arms("figure=[2,3]", "seeds=[0,1]")
    assert len(together) == len(set(together)) == 2 * 7
    assert arms("figure=4b", "seeds=3") == ["joint_3", "frozen_lam_3"]
    assert arms("table=3", "seeds=0") == [
        "joint_0", "two_stage_0", "joint_adapted_0", "two_stage_adapted_0",
    ]  # fmt: skip
    assert len(arms(*ALL)) == 3 * len(config().runs)
    assert arms("table=4", "vp2.results=results.json") == []


def test_every_experiment_has_runs_and_a_function() -> None:
    assert set(EXPERIMENTS) == set(map(str, config().experiments))


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_every_run_composes(scale: str) -> None:
    settings = config(*ALL, f"scale={scale}", "seeds=0")
    for job in plan(settings, chosen(settings)):
        with initialize_config_dir(str(Path(training.__file__).parent / "conf"), version_base=None):
            recipe = compose("train", merged([*job.overrides, "out=none"]))
        for name in training.chosen_phases(recipe):
            phase = instantiate(recipe.phases[name], name=name)
            assert phase.steps == recipe.phases[name].steps > 0
            if scale == "paper" and job.arm == "joint":
                assert phase.steps == {"warm_up": 8000, "end_to_end": 52000}[name]


def test_runs_go_on_from_others_and_the_users_settings_win() -> None:
    jobs = {job.arm: merged(list(job.overrides)) for job in plan(
        config("set=['trainer.log_every=7']", "seeds=5"), ["figure_2", "figure_4a", "table_3"]
    )}  # fmt: skip
    assert "++init=runs/paper/runs/joint_5/warm_up" in jobs["pure_warm_up"]
    assert "++init=z" in jobs["joint"]
    assert "++init_components=[autoencoder,vae]" in jobs["both_random"]
    assert "++init=runs/paper/runs/two_stage_5/latent_action_model" in jobs["pretrained_idm"]
    assert "++phases.end_to_end.steps=1440" in jobs["both_random"]
    assert "++phases.end_to_end.continuous_steps=120" in jobs["both_random"]
    assert all("++trainer.log_every=7" in overrides for overrides in jobs.values())


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match=r"figure '7' is no experiment; choose .* 2, 3, 4a"):
        chosen(config("figure=7"))
    with pytest.raises(ColaWorldError, match="Say what to reproduce"):
        chosen(config())
    with pytest.raises(ColaWorldError, match="scale must be one of mini, paper"):
        plan(config("scale=huge"), ["figure_2"])
    with pytest.raises(ColaWorldError, match=r"Give data=FOLDER and init=FOLDER; .*pretrain"):
        check_given(config("data=???", "init=???"), ["figure_2"])
    with pytest.raises(ColaWorldError, match=r"config\.json"):
        check_given(config(f"init={tmp_path}"), ["figure_2"])


# Measures


def test_curves_go_on_over_phases() -> None:
    lines: Lines = [
        {"phase": "warm_up", "step": 2, "own": 1.0},
        {"phase": "warm_up", "step": 4, "loss": 0.5},
        {"phase": "end_to_end", "step": 3, "own": 2.0},
    ]
    assert curve(lines, "own", ("warm_up", "end_to_end")) == Curve([2, 7], [1.0, 2.0])
    assert curve(lines, "own", ("end_to_end",), start=10) == Curve([13], [2.0])


def test_health_is_the_mean_of_the_tokens() -> None:
    codes = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 4]])
    line = {"phase": "p", "step": 20, **health_measures(codes, num_codes=4 + 4)}
    (health,) = health_curve([line], "p").values()
    assert health.utilisation == pytest.approx((1 / 8 + 4 / 8) / 2)
    assert health.max_usage == pytest.approx((1 + 1 / 4) / 2)
    assert line["max_usage"] == pytest.approx(1 / 4)


def test_measures_are_taken_once(tmp_path: Path) -> None:
    path, taken = tmp_path / "found.json", []

    def measure() -> int:
        taken.append(1)
        return len(taken)

    assert [kept(path, {"clips": n}, measure) for n in (8, 8, 9)] == [1, 1, 2]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the frames of an episode with every measure of a model's quality."""
    lengths: list[int] = []

    def video_quality(model: object, clips: Clips, *_: object, **__: object) -> dict[str, object]:
        lengths.append(clips.frames.shape[1])
        return {"own": {"psnr": float(len(lengths))}}

    model = SimpleNamespace(config=SimpleNamespace(image_size=16))
    monkeypatch.setattr(measures, "load_model", lambda *_: model)
    monkeypatch.setattr(measures, "video_quality", video_quality)
    return lengths


def test_a_model_trained_anew_is_measured_anew(tmp_path: Path, measured: list[int]) -> None:
    data = write_lerobot(tmp_path / "data", [14, 14, 14])
    study = Study(config(f"out={tmp_path}", "set=['fps=10']"))
    folder = study.model("joint", 0, "end_to_end")
    folder.mkdir(parents=True)
    for weights, times in ((b"first", 1), (b"first", 1), (b"second", 2)):
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(weights)
        found = measures.quality(study, "joint", 0, "end_to_end", str(data))
        assert found["own"]["psnr"] == times
    assert measured == [7, 7], "at the frame rate of the training"


def test_short_episodes_are_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_lerobot(tmp_path / "data", [14, 14, 14])
    monkeypatch.setattr(paper, "check_given", lambda *_: None)
    monkeypatch.setattr(paper, "finish_all", lambda *_: pytest.fail("a run was trained"))
    for overrides, frames in (
        (["table=2", "measure.horizon=13"], 15),
        (["table=3", "set=['fps=10']"], 12),
        (["figure=6", "measure.length=15"], 15),
    ):
        with pytest.raises(ColaWorldError, match=f"has the {frames} frames of a clip"):
            reproduce(config(f"data={data}", f"out={tmp_path}", *overrides))
    with pytest.raises(pytest.fail.Exception, match="a run was trained"):
        reproduce(config(f"data={data}", f"out={tmp_path}", "table=2"))


def test_a_wrong_override_is_told_with_its_run() -> None:
    with pytest.raises(ColaWorldError, match=r"The run joint \(seed 0\) failed: .*nonsense"):
        Study(config("set=['recipe=nonsense']")).loading("joint", 0)


# What is written, from stored numbers


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
    }
    study = Stored(config(), logged)
    assert figures.figure_2(study).outcome == REPRODUCED
    assert figures.figure_3(study).outcome == REPRODUCED
    text = written(figures.figure_2(study), tmp_path)
    assert "collapsed in 3 of 3 seeds" in text and "![Figure 2" in text
    assert (tmp_path / "experiment.png").stat().st_size > 10_000
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
        better = 1.0 * run.startswith("joint")
        found = {"psnr": 20 + better + seed / 100, "ssim": 80.0 - better, "clips": 24.0}
        return {source: found for source in ("own", "adapter")}

    monkeypatch.setattr(tables, "quality", quality)
    study = Study(config())
    second, third = tables.table_2(study), tables.table_3(study)
    assert [c.verdict.outcome for c in second.claims] == [REPRODUCED, NOT_REPRODUCED]
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
    assert "95 % interval +43.3 to +43.3, 2 seeds" in text
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
