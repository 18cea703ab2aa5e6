"""True frames are perfect foresight, reversed ones the worst; candidates are really tried out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.vp2_protocol.dynamics import SimulatorDynamics
from benchmarks.vp2_protocol.fidelity import Problem, foresee, pose, summary
from benchmarks.vp2_protocol.simulation import SimulatorPool
from cola_env.rewards import MSEReward


class Recorded:
    """Dynamics that repeat a problem's real frames, or those of other candidates."""

    device = torch.device("cpu")

    def __init__(self, frames, order):
        self.frames = torch.from_numpy(frames[order]).float()[None] / 255

    def imagine(self, situation):
        return lambda rows, candidates: self.frames


def bar(width: int) -> np.ndarray:
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, :width] = 255
    return frame


@pytest.fixture
def problem() -> Problem:
    """Four candidates whose last frames come nearer and nearer to an all-white goal."""
    frames = np.stack([[bar(8), bar(8 + 8 * n)] for n in range(1, 5)])
    return Problem(
        task="push_red",
        context=bar(4)[None],
        past=np.zeros((0, 5), np.float32),
        state=np.zeros(3),
        goal=bar(64),
        candidates=np.zeros((4, 2, 5), np.float32),
        frames=frames,
        successes=np.array([False, False, True, True]),
    )


def test_true_frames_are_perfect_foresight_and_their_reverse_the_worst(problem):
    perfect = summary([foresee(problem, Recorded(problem.frames, [0, 1, 2, 3]), MSEReward())])
    assert (perfect["rank"], perfect["regret"], perfect["auc"]) == (1, 0, 1)
    assert perfect["chosen"] == perfect["chosen_real"] == 1
    worst = summary([foresee(problem, Recorded(problem.frames, [3, 2, 1, 0]), MSEReward())])
    assert (worst["rank"], worst["auc"], worst["chosen"]) == (-1, 0, 0)
    assert worst["auc_real"] == worst["chosen_real"] == worst["possible"] == 1
    assert worst["regret"] > 1 and worst["psnr_last"] < perfect["psnr_last"]


def test_problems_without_both_outcomes_do_not_count_for_the_auc(problem):
    failed = replace(problem, successes=np.zeros(4, bool))
    order = [0, 1, 2, 3]
    both = [foresee(p, Recorded(p.frames, order), MSEReward()) for p in (problem, failed)]
    measured = summary(both)
    assert measured["auc"] == 1 and measured["possible"] == 0.5 and measured["successes"] == 0.25


def test_candidates_are_really_tried_out(goals, tmp_path):
    pair = goals.pairs[0]
    with SimulatorPool(1, goals.rendering, goals.action_repeat) as pool:
        problem = pose(pair, pool, 4, pair.expert_steps, np.random.default_rng(0))
        measured = summary([foresee(problem, SimulatorDynamics(pool), MSEReward())])
    assert problem.successes[0], "the scripted solution itself, without noise, is candidate 0"
    assert measured["rank"] == 1 and measured["psnr_last"] > 90
    problem.save(tmp_path / "a" / "p.npz")
    loaded = Problem.load(tmp_path / "a" / "p.npz")
    assert loaded.task == problem.task
    assert all(
        np.array_equal(getattr(loaded, name), value)
        for name, value in vars(problem).items()
        if name != "task"
    )
