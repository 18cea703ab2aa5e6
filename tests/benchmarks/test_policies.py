"""Policies are judged in dreams and in the twin; what the measures say is checked by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import benchmarks
from benchmarks import policies
from benchmarks.policy_judging.agreement import (
    ALL,
    EACH,
    agreement_rows,
    flattery_rows,
    mean_maximum_rank_violation,
    pearson,
    rate_rows,
    spearman,
)
from benchmarks.policy_judging.judging import Judging
from benchmarks.policy_judging.records import SEEN, TWIN, JudgingFolder, PlayedEpisode
from benchmarks.vp2_protocol.decisions import PlanningProblem
from cola_env.envs.dream import Dream
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.scoring.success_classifier import SuccessClassifier
from cola_env.scoring.trust import TRUSTED, Recognition
from cola_env.simulators.pool import SimulatorPool
from cola_train.command import CommandSettings
from tests.train.small import small_model


def test_mmrv_is_that_of_its_formula() -> None:
    real, dreamt = np.array([0.9, 0.5, 0.1]), np.array([0.2, 0.6, 0.1])
    assert mean_maximum_rank_violation(real, real) == 0
    # Only the first two are ranked otherwise, by 0.4; the third is last in both.
    assert mean_maximum_rank_violation(real, dreamt) == pytest.approx(0.8 / 3)
    # All reversed: the worst pair of the outer ones is each other, of the middle one either.
    assert mean_maximum_rank_violation(real, -real) == pytest.approx((0.8 + 0.4 + 0.8) / 3)
    # A tie in the dream violates the order of the worse policy alone, as the indicator asks for <.
    tie = np.array([0.5, 0.5])
    assert mean_maximum_rank_violation(np.array([0.2, 0.8]), tie) == pytest.approx(0.6 / 2)
    assert np.isnan(pearson(real, tie[[0, 0, 0]])), "rates that are all the same"
    assert pearson(real, dreamt) == pytest.approx(np.corrcoef(real, dreamt)[0, 1])
    assert spearman(real, dreamt) == pytest.approx(0.5)


def episode(
    policy: str, world: str, pair: int, success: bool, expected: float = 30.0, task: str = "a"
) -> PlayedEpisode:
    chances = (0.1, 0.9 if success else 0.2)
    verdicts = (False, success)
    return PlayedEpisode(
        policy, world, task, pair, success, 2,
        probabilities=chances, verdicts=verdicts,
        expected=() if world == TWIN else (40.0, expected),
    )  # fmt: skip


def played(
    wins: dict[str, int], dreamt: dict[str, int], expected: float = 30.0, task: str = "a"
) -> list[PlayedEpisode]:
    """Of 10 problems the first so many are solved; untrusted frames where only the dream does."""
    found = []
    for policy in wins:
        for pair in range(10):
            real, won = pair < wins[policy], pair < dreamt[policy]
            found.append(episode(policy, TWIN, pair, real, task=task))
            trust = expected if won and not real else 30.0
            found.append(episode(policy, "cola", pair, won, trust, task))
    return found


def row(rows: Sequence[dict], **about: str) -> dict:
    (found,) = (each for each in rows if all(each[k] == v for k, v in about.items()))
    return found


WINS = {"good": 8, "fair": 5, "bad": 1}


def test_a_dream_that_judges_as_the_world_does_agrees_in_everything() -> None:
    rows = agreement_rows(played(WINS, WINS), ["cola"])
    found = row(rows, task="a", filter="none")
    assert (found["pearson"], found["spearman"], found["mmrv"]) == (1, 1, 0)
    assert found["pearson_low"] == found["pearson_high"] == 1 and found["policies"] == 3
    assert found["real_rate"] == found["dream_rate"] == pytest.approx(14 / 30, abs=1e-4)
    assert found["calibration_error"] == pytest.approx((14 * 0.1 + 16 * 0.2) / 30, abs=1e-4)
    assert {each["task"] for each in rows} == {"a"}, "one task has no rows over tasks"
    for each in flattery_rows(played(WINS, WINS), ["cola"]):
        assert each["flattery"] == 0 and each["ci_low"] < 0 < each["ci_high"]


def test_trust_takes_back_the_flattery_of_frames_that_are_not_to_be_trusted() -> None:
    flattering = {"good": 8, "fair": 5, "bad": 9}
    episodes = played(WINS, flattering, expected=TRUSTED - 1)
    rows = agreement_rows(episodes, ["cola"])
    fooled, filtered = (row(rows, task="a", filter=name) for name in ("none", "trust"))
    assert fooled["mmrv"] == pytest.approx((0.7 + 0.4 + 0.7) / 3, abs=1e-4)
    assert fooled["pearson"] < 0 and filtered["pearson"] == 1 and filtered["mmrv"] == 0
    assert filtered["calibration_error"] < fooled["calibration_error"]
    first = flattery_rows(episodes, ["cola"])[0]
    assert (first["policy"], first["filter"], first["flattery"]) == ("bad", "none", 0.8)
    assert first["ci_low"] > 0
    rates = rate_rows(episodes)
    assert row(rates, policy="bad", world="cola", filter="none", task="a")["successes"] == 9
    assert row(rates, policy="bad", world="cola", filter="trust", task="a")["successes"] == 1
    twin = row(rates, policy="bad", world=TWIN, task="a")
    assert twin["successes"] == 1 and 0 < twin["ci_low"] < 0.1 < twin["ci_high"]


def test_real_frames_tell_what_the_classifier_does_not_see() -> None:
    blind = [replace(e, verdicts=(False, False)) if e.policy == "good" else e
             for e in played(WINS, WINS) if e.world == TWIN]  # fmt: skip
    episodes = [*blind, *(e.seen() for e in blind)]
    found = row(agreement_rows(episodes, [SEEN]))
    assert found["filter"] == "none" and found["dream_rate"] == pytest.approx(6 / 30, abs=1e-4)
    assert found["mmrv"] == pytest.approx((0.7 + 0.3 + 0.7) / 3, abs=1e-4)
    assert row(rate_rows(episodes), policy="good", world=SEEN, task="a")["successes"] == 0
    assert row(rate_rows(episodes), policy="good", world=TWIN, task="a")["successes"] == 8


def test_over_tasks_a_policy_is_a_point_and_so_is_a_policy_on_a_task() -> None:
    other = {"good": 4, "fair": 6}  # "bad" cannot play it
    episodes = played(WINS, WINS) + played(other, other, task="b")
    rows = agreement_rows(episodes, ["cola"])
    each, whole = (row(rows, task=task, filter="none") for task in (EACH, ALL))
    assert (each["points"], each["policies"], each["problems"]) == (5, 3, 20)
    assert (whole["points"], whole["policies"]) == (2, 2)
    assert whole["real_rate"] == pytest.approx((12 + 11) / 40, abs=1e-4)
    assert whole["pearson"] == 1


def test_a_judging_under_way_counts_problems_that_both_worlds_have() -> None:
    episodes = [e for e in played(WINS, WINS) if (e.policy, e.world, e.pair) != ("bad", TWIN, 9)]
    assert row(agreement_rows(episodes, ["cola"]), filter="none")["problems"] == 9


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model, a cloned policy and success classifiers, untrained and small."""
    folder = tmp_path_factory.mktemp("judged")
    torch.manual_seed(0)
    VisualPolicy(("push_red",), width=4).save_pretrained(folder / "clone")
    SuccessClassifier(width=4).save_pretrained(folder / "judge")
    small_model(rendering="fast").save_pretrained(folder / "tiny")
    return folder


@pytest.fixture
def configured(
    goals_file: Path, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., DictConfig]:
    signal = "benchmarks.policy_judging.judging.find_signal"
    monkeypatch.setattr(signal, lambda model, *_: Recognition(model))

    def make(*overrides: str) -> DictConfig:
        conf = Path(benchmarks.__file__).parent / "conf"
        return CommandSettings(conf, "policies").compose(
            [
                f"model=[tiny:{judged / 'tiny'}]",
                f"planner_model={judged / 'tiny'}",
                f"clone={{clone:{judged / 'clone'}}}",
                f"judge={judged / 'judge'}",
                f"goals={goals_file}",
                f"out={tmp_path / 'run'}",
                "tasks=[push_red]",
                "reward=mse",
                "noise=[0.0]",
                "pairs=2",
                "steps=4",
                "planner.num_samples=3",
                "planner.horizon=3",
                "planner.iterations=1",
                "workers=1",
                "device=cpu",
                *overrides,
            ]
        )

    return make


def test_every_policy_plays_in_both_worlds_and_a_judging_goes_on(
    configured: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("robodesk")
    policies.main.__wrapped__(configured())
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text())
    assert results["complete"] and {r["policy"] for r in results["rates"]} == {
        "script 0", "random", "clone", "planner",
    }  # fmt: skip
    script = row(results["rates"], policy="script 0", world=TWIN, task=ALL)
    assert script["successes"] == 2, "the script solves what it was made for"
    assert row(results["agreement"], dream="tiny", filter="none")["policies"] == 4
    assert row(results["agreement"], dream=SEEN)["real_rate"] >= 2 / 8
    page = (run / "index.html").read_text()
    assert "http://" not in page and "https://" not in page and "script 0" in page
    judging = Judging(configured())
    folder = judging.folder
    real = folder.load("script 0", TWIN, "push_red", 1)
    dreamt = folder.load("script 0", "tiny", "push_red", 1)
    assert real is not None and dreamt is not None
    assert len(real.actions) == len(dreamt.verdicts) == len(dreamt.expected) == 4
    assert len(folder.frames(dreamt)) == 5 and len(folder.frames(real)) == real.steps + 1
    start = folder.frames(dreamt)[0].astype(int) - judging.pairs["push_red"][1].initial_frame
    assert np.abs(start).mean() < 8

    before = {key: folder.load(*key) for key in judging.planned}
    folder.file("clone", "tiny", "push_red", 0).unlink()
    folder.file("random", TWIN, "push_red", 1).write_text("{")
    again = []
    with pytest.warns(UserWarning, match="is damaged"):
        judging.play(again.append)
    assert {(e.policy, e.world) for e in again} == {("clone", "tiny"), ("random", TWIN)}
    assert {key: folder.load(*key) for key in judging.planned} == before
    with pytest.raises(ColaWorldError, match="other settings of model 'policy planner'"):
        Judging(configured("planner.horizon=4"))


def test_a_dream_that_samples_otherwise_by_its_config_is_another_one(
    configured: Callable[..., DictConfig], judged: Path, tmp_path: Path
) -> None:
    copies = {name: tmp_path / name for name in ("dreamt", "planned")}
    for copy in copies.values():
        shutil.copytree(judged / "tiny", copy)
    given = f"model=tiny:{copies['dreamt']}", f"planner_model={copies['planned']}"
    Judging(configured(*given))
    for name, told in (("planned", "policy planner"), ("dreamt", "dream tiny")):
        file = copies[name] / "config.json"
        before = file.read_text()
        file.write_text(json.dumps(json.loads(before) | {"num_inference_steps": 4}))
        with pytest.raises(ColaWorldError, match=f"'{told}': own_sampling=.*_steps': 4"):
            Judging(configured(*given))
        file.write_text(before)
    Judging(configured(*given))


def test_a_judging_that_is_stopped_before_it_dreams_tells_what_there_is(
    configured: Callable[..., DictConfig], tmp_path: Path
) -> None:
    pytest.importorskip("robodesk")
    judging = Judging(configured("planner_model=null"))
    unused = cast(SimulatorPool, None)
    judging._keep(next(judging._in_twin("push_red", judging.contestants.values(), unused)))
    policies.report(judging)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert not results["complete"] and (tmp_path / "run" / "policies.png").is_file()


def test_a_dream_is_given_a_scripts_actions_one_after_the_other(
    configured: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("robodesk")
    judging = Judging(configured("planner_model=null", "random=null", "clone=null"))
    script = judging.contestants["script 0"]
    for played in judging._in_twin("push_red", [script], cast(SimulatorPool, None)):
        judging._keep(played)
    given, step = [], Dream.step
    with monkeypatch.context() as patch:
        patch.setattr(Dream, "step", lambda dream, a: given.append(a.cpu()) or step(dream, a))
        assert len(list(judging._in_dreams("push_red", [script]))) == 2
    for pair in range(2):
        twin = judging.folder.load("script 0", TWIN, "push_red", pair)
        assert twin is not None and len({*twin.actions}) > 2
        torch.testing.assert_close(torch.stack(given, 1)[pair], torch.tensor(twin.actions))


def test_the_planner_may_begin_with_the_plans_of_a_policy(
    configured: Callable[..., DictConfig], judged: Path
) -> None:
    judging = Judging(configured(f"proposal={judged / 'clone'}", "proposal_count=2"))
    planner = judging.contestants["planner"]
    assert planner.settings["proposal_count"] == 2 and planner.make is not None
    agent: Any = planner.make("push_red")
    pair = judging.pairs["push_red"][0]
    frames = torch.tensor(pair.initial_frame)[None, None]
    goals = torch.tensor(pair.goal_frame)[None] / 255
    problem = PlanningProblem(
        "push_red", frames, torch.zeros(1, 0, 5), pair.initial_state[None], goals, 0
    )
    acted = load_policy(judged / "clone", "cpu").act(frames[:, 0], "push_red")
    torch.testing.assert_close(agent.propose(problem)[:, 0, 0], acted)
    with pytest.raises(ColaWorldError, match="proposal_count=0"):
        Judging(configured(f"proposal={judged / 'clone'}", "proposal_count=0"))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("noise=[-1.0]", "noise="),
        ("model=[random]", "must be a checkpoint"),
        ("ppo={mine:nowhere.zip}", "no file nowhere.zip of ppo.mine"),
        ("clone=nowhere", "nowhere"),
        ("judge=nowhere", "nowhere"),
    ],
)
def test_what_there_is_not_is_told_before_anything_is_played(
    override: str, told: str, configured: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(ColaWorldError, match=told):
        Judging(configured(override))
    assert not (tmp_path / "run" / "episodes").exists()


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    folder = JudgingFolder(tmp_path)
    made = episode("script 0.5", "cola", 3, True)
    frame = np.zeros((64, 64, 3), np.uint8)
    folder.save(made, [frame, frame])
    assert folder.load("script 0.5", "cola", "a", 3) == made
    path = folder.file("script 0.5", "cola", "a", 3)
    path.write_text(path.read_text().replace('"pair": 3', '"pair": 4'))
    with pytest.warns(UserWarning, match="of another episode"):
        assert folder.load("script 0.5", "cola", "a", 3) is None
