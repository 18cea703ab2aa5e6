"""True frames are scored perfectly, reversed ones worst; candidates are really tried out."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import benchmarks
from benchmarks.fidelity_measures import (
    CandidatePlans,
    calibration,
    collect,
    make_rows,
    measure,
    score_plans,
    summary,
    try_plans,
)
from benchmarks.fidelity_report import draw, write_page
from benchmarks.vp2_protocol.dynamics import SimulatorDynamics
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.rewards import MSEReward
from cola_env.scoring.success_classifier import SuccessClassifier
from cola_env.simulators.pool import SimulatorPool
from tests.pictures import line_colours


class Recorded:
    """Dynamics that repeat a problem's real frames, or those of other candidates."""

    device = torch.device("cpu")

    def __init__(self, frames, order):
        self.frames = torch.from_numpy(frames[order]).float()[None] / 255

    def imagine(self, problem):
        return lambda rows, candidates: self.frames


def bar(width: int) -> np.ndarray:
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, :width] = 255
    return frame


@pytest.fixture
def problem() -> CandidatePlans:
    """Four candidates whose last frames come nearer and nearer to an all-white goal."""
    frames = np.stack([[bar(8), bar(8 + 8 * n)] for n in range(1, 5)])
    return CandidatePlans(
        task="push_red",
        context=bar(4)[None],
        past=np.zeros((0, 5), np.float32),
        state=np.zeros(3),
        goal=bar(64),
        candidates=np.zeros((4, 2, 5), np.float32),
        frames=frames,
        successes=np.array([False, False, True, True]),
    )


def test_true_frames_rank_perfectly_and_their_reverse_worst(problem):
    perfect = summary([score_plans(problem, Recorded(problem.frames, [0, 1, 2, 3]), MSEReward())])
    assert (perfect["rank"], perfect["regret"], perfect["auc"]) == pytest.approx((1, 0, 1))
    assert perfect["chosen"] == perfect["chosen_real"] == 1
    worst = summary([score_plans(problem, Recorded(problem.frames, [3, 2, 1, 0]), MSEReward())])
    assert (worst["rank"], worst["auc"], worst["chosen"]) == pytest.approx((-1, 0, 0))
    assert worst["auc_real"] == worst["chosen_real"] == worst["possible"] == 1
    assert worst["regret"] > 1 and worst["psnr_last"] < perfect["psnr_last"]


def test_candidates_that_score_alike_share_their_rank(problem):
    tied = summary([score_plans(problem, Recorded(problem.frames, [0, 0, 2, 3]), MSEReward())])
    assert tied["rank"] == pytest.approx(4.5 / 22.5**0.5)
    flat = summary([score_plans(problem, Recorded(problem.frames, [1, 1, 1, 1]), MSEReward())])
    assert flat["rank"] == 0, "they rank nothing"


def test_final_weight_scores_candidates_by_where_they_end(problem):
    detours = replace(problem, frames=problem.frames[:, ::-1].copy())
    backwards = Recorded(detours.frames, [3, 2, 1, 0])
    worst = score_plans(detours, backwards, MSEReward())
    assert summary([worst])["rank"] == pytest.approx(-1)
    ends = score_plans(detours, backwards, MSEReward(), final_weight=1.0)
    assert len(set(ends.real)) == len(set(ends.imagined)) == 1, "all of them end in the same frame"


def test_the_choice_is_overrated_where_only_it_is_dreamt_better(problem):
    frames = problem.frames[[3, 1, 2, 3]]
    dream = SimpleNamespace(device="cpu", imagine=lambda _: lambda *_: as_floats(frames))
    found = score_plans(problem, dream, MSEReward())
    assert found.choice == 0 and not found.successes[0]
    worth = [score(problem, i) for i in range(4)]
    spread = max(worth) - np.mean(worth)
    assert found.regret == pytest.approx((worth[3] - worth[0]) / spread, rel=1e-5)
    assert found.overrated == pytest.approx(0.75 * (worth[3] - worth[0]) / spread, rel=1e-5)
    assert score_plans(problem, Recorded(problem.frames, [0, 1, 2, 3]), MSEReward()).overrated == 0


def as_floats(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).float()[None] / 255


def score(problem: CandidatePlans, candidate: int) -> float:
    goal = torch.from_numpy(problem.goal).float()[None] / 255
    return float(MSEReward()(as_floats(problem.frames)[:, candidate], goal).mean())


class Brightness:
    """A judge for whom white is success."""

    def success_probability(self, frames):
        return frames.mean((-1, -2, -3))


def test_calibration_is_of_imagined_probabilities_and_real_successes(problem):
    order = [0, 1, 2, 3]
    found = score_plans(problem, Recorded(problem.frames, order), MSEReward(), judge=Brightness())
    assert found.probability == pytest.approx([0.25, 0.375, 0.5, 0.625])
    bins = calibration([found], bins=2)
    assert [(b.rate, b.count) for b in bins] == [(0, 2), (1, 2)]
    assert bins[0].probability == pytest.approx(0.3125)
    assert summary([found])["calibration"] == pytest.approx((0.3125 + 0.4375) / 2, abs=0.05)


def test_the_page_shows_the_worst_choices_and_works_offline(problem, tmp_path):
    worst = score_plans(
        problem, Recorded(problem.frames, [3, 2, 1, 0]), MSEReward(), judge=Brightness()
    )
    best = score_plans(
        problem, Recorded(problem.frames, [0, 1, 2, 3]), MSEReward(), 0, Brightness()
    )
    found = {"model": [best, worst]}
    draw(found, tmp_path / "fidelity.png")
    colours = line_colours(tmp_path / "fidelity.png")
    assert {(31, 119, 180), (214, 39, 40)} <= colours, "growth of the error; the choices"
    page = write_page(tmp_path, make_rows(found), [problem] * 2, found).read_text()
    assert page.index(f"regret {worst.regret:.2f}") < page.index("regret 0.00")
    assert page.count("data:image/png;base64,") == 3 and "http" not in page
    assert "calibration error" in page


def test_problems_without_both_outcomes_do_not_count_for_the_auc(problem):
    failed = replace(problem, successes=np.zeros(4, bool))
    order = [0, 1, 2, 3]
    both = [score_plans(p, Recorded(p.frames, order), MSEReward()) for p in (problem, failed)]
    measured = summary(both)
    assert measured["auc"] == 1 and measured["possible"] == 0.5 and measured["successes"] == 0.25


def test_candidates_are_really_tried_out(goals, tmp_path):
    pair = goals.pairs[0]
    with SimulatorPool(1, goals.rendering, goals.action_repeat) as pool:
        problem = try_plans(pair, pool, 4, pair.expert_steps, np.random.default_rng(0))
        measured = summary([score_plans(problem, SimulatorDynamics(pool), MSEReward())])
    assert problem.successes[0], "the scripted solution itself, without noise, is candidate 0"
    assert measured["rank"] == pytest.approx(1) and measured["psnr_last"] > 90
    problem.save(tmp_path / "a" / "p.npz")
    loaded = CandidatePlans.load(tmp_path / "a" / "p.npz")
    assert loaded.task == problem.task
    assert all(
        np.array_equal(getattr(loaded, name), value)
        for name, value in vars(problem).items()
        if name != "task"
    )


def configure(*overrides: str) -> DictConfig:
    conf = Path(benchmarks.__file__).parent / "conf"
    with initialize_config_dir(str(conf), version_base=None):
        return compose("fidelity", ["device=cpu", "tasks=[push_red]", "pairs=2", *overrides])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """Untrained models and classifiers of both rendering profiles: fast, vp2, fast_judge, ..."""
    folder = tmp_path_factory.mktemp("models")
    ColaWorldModel(rendering="fast", action_dim=7).save_pretrained(folder / "libero")
    for rendering in ("fast", "vp2"):
        torch.manual_seed(0)
        ColaWorldModel(rendering=rendering).save_pretrained(folder / rendering)
        SuccessClassifier(rendering=rendering).save_pretrained(folder / f"{rendering}_judge")
    return folder


@pytest.fixture
def tried(monkeypatch, problem) -> list[str]:
    """Problems need no simulator here; grows by the rendering profile of each one tried."""
    profiles: list[str] = []

    def try_plans(pair, pool, count, horizon, rng, std):
        profiles.append(pool)
        return problem

    simulation = "benchmarks.fidelity_measures.SimulatorPool"
    monkeypatch.setattr(simulation, lambda workers, rendering, *_, **__: nullcontext(rendering))
    monkeypatch.setattr("benchmarks.fidelity_measures.try_plans", try_plans)
    return profiles


def test_problems_of_other_goals_are_others(goals, tmp_path, tried):
    for name, changed in (("one", goals), ("two", replace(goals, pairs=goals.pairs[::-1]))):
        changed.save(tmp_path / f"{name}.npz")
        config = configure(f"goals={tmp_path / name}.npz", f"out={tmp_path}")
        for _ in range(2):
            assert len(collect(config, changed, ["push_red"])) == 2
    assert len(tried) == 4, "two of each file, kept for the second time"
    assert len(list((tmp_path / "problems").iterdir())) == 2


def test_goals_and_classifiers_are_of_the_models_profile(goals, checkpoints, tmp_path, tried):
    file = tmp_path / "vp2.npz"
    replace(goals, rendering="vp2").save(file)
    judge = f"classifier={checkpoints / 'vp2_judge'}"
    given = [f"model={checkpoints / 'vp2'}", f"goals={file}", f"out={tmp_path}"]
    problems, found = measure(configure(*given, judge))
    assert len(problems) == 2 and tried == ["vp2", "vp2"]
    rows = make_rows(found)
    assert [row["task"] for row in rows] == ["push_red", "all"]
    assert all(0 <= row["calibration"] <= 1 for row in rows)
    _, found = measure(configure(*given, "reward=mse"))
    assert "calibration" not in make_rows(found)[0], "without the shipped classifiers"
    wrong = {
        f"classifier={checkpoints / 'fast_judge'}": "goals and the classifier",
        f"model={checkpoints / 'fast'}": "the goals in",
        f"model=[{checkpoints / 'vp2'},{checkpoints / 'fast'}]": "run and its model",
    }
    for override, what in wrong.items():
        with pytest.raises(ColaWorldError, match=f"cannot be mixed .*{what}"):
            measure(configure(*given, judge, override))


@pytest.mark.parametrize("wrong", ["planner.std=[1,2]", "planner.std=-1", "final_weight=2"])
def test_candidates_and_scores_that_make_no_sense_are_refused_early(wrong):
    with pytest.raises(ColaWorldError, match=wrong.partition("=")[0]):
        measure(configure("model=random", wrong))


def test_a_classifier_is_needed_by_the_rewards_that_ask_one(
    goals, checkpoints, tmp_path, tried, monkeypatch
):
    monkeypatch.setattr("cola_env.worlds.ASSETS", tmp_path / "nothing")
    file = tmp_path / "libero.npz"
    task = "libero_goal/put_the_bowl_on_the_plate"
    still = np.zeros((1, 7), np.float32)
    pairs = tuple(replace(pair, task=task, expert_actions=still) for pair in goals.pairs)
    replace(goals, world="libero", pairs=pairs).save(file)
    given = [f"model={checkpoints / 'libero'}", f"goals={file}", f"out={tmp_path}", "env=libero"]
    given.append("tasks=all")
    with pytest.raises(ColaWorldError, match="LIBERO has no shipped value function"):
        measure(configure(*given))
    with pytest.raises(ColaWorldError, match="no shipped classifiers of LIBERO"):
        measure(configure(*given, "classifier=null"))
    assert not tried, "told before the simulator tries anything out"


def test_what_is_no_checkpoint_is_refused(tmp_path):
    for model in ("random", "[{mine:{_target_:my.Model}}]"):
        with pytest.raises(ColaWorldError, match="must be a checkpoint here"):
            measure(configure(f"model={model}", f"out={tmp_path}"))
