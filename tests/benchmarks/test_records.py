import json
from pathlib import Path

import pytest

from benchmarks.merge import main, merge_results
from benchmarks.vp2_protocol.comparison import comparisons, paired_differences
from benchmarks.vp2_protocol.methods import choose_tasks
from benchmarks.vp2_protocol.named_models import names
from benchmarks.vp2_protocol.records import EpisodeRecord, Rules, RunFolder
from benchmarks.vp2_protocol.results import make_rows, overall, results_json
from cola_env.errors import ColaWorldError


def record(model: str, task: str, pair: int, success: bool, planner: str = "cem") -> EpisodeRecord:
    return EpisodeRecord(task, model, planner, pair, success, 7, (0.5, 0.25), 21.5, 3.0)


def test_a_record_comes_back_whole(tmp_path):
    folder = RunFolder(tmp_path)
    saved = record("cola", "push_red", 3, True)
    assert folder.load("cola", "push_red", 3) is None
    folder.save("cola", saved)
    assert folder.load("cola", "push_red", 3) == saved


def test_a_run_takes_further_models_but_no_other_settings(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim({"steps": 15, "seed": 0}, {"cola": {"planner": "cem"}})
    folder.claim({"steps": 15, "seed": 0}, {"random": {"planner": "none"}})
    assert set(folder.settings()["models"]) == {"cola", "random"}
    with pytest.raises(ColaWorldError, match=r"steps=15 \(now 10\).*out="):
        folder.claim({"steps": 10, "seed": 0}, {})
    with pytest.raises(ColaWorldError, match="'cola'.*planner"):
        folder.claim({"steps": 15, "seed": 0}, {"cola": {"planner": "mppi"}})
    assert folder.settings()["common"]["steps"] == 15


def test_rows_count_successes_with_intervals_and_settings():
    records = [record("cola", "push_red", i, i < 3) for i in range(10)]
    records += [record("random", "push_red", i, False, "none") for i in range(10)]
    records += [record("cola", "open_slide", i, True) for i in range(5)]
    settings = {
        "common": {"seed": 4},
        "models": {"cola": {"planner": "cem"}, "random": {"planner": "none"}},
    }
    rows = make_rows(records, settings)
    assert [(r["model"], r["task"], r["successes"], r["episodes"]) for r in rows] == [
        ("cola", "push_red", 3, 10),
        ("random", "push_red", 0, 10),
        ("cola", "open_slide", 5, 5),
    ]
    assert rows[0]["planner"] == "cem" and rows[0]["seed"] == 4
    assert rows[0]["ci_low"] < 0.3 < rows[0]["ci_high"]
    totals = {row["model"]: row for row in overall(rows)}
    assert (totals["cola"]["successes"], totals["cola"]["episodes"]) == (8, 15)
    parsed = json.loads(results_json(rows))
    assert parsed["rows"] == rows and parsed["benchmark"] == "vp2_robodesk"


def test_pairs_that_were_not_played_keep_their_place():
    records = [record("cola", "push_red", pair, pair == 3) for pair in (3, 1)]
    settings = {"common": {"seed": 0}, "models": {"cola": {"planner": "cem"}}}
    (row,) = make_rows(records, settings)
    assert row["outcomes"] == "-0-1" and (row["successes"], row["episodes"]) == (1, 2)


def test_merge_prints_the_paired_differences(tmp_path, monkeypatch, capsys):
    settings = {"common": {"seed": 0}, "models": {m: {"planner": "cem"} for m in "ab"}}
    for model in "ab":
        records = [record(model, "push_red", pair, model == "a") for pair in range(3)]
        (tmp_path / f"{model}.json").write_text(results_json(make_rows(records, settings)))
    out = tmp_path / "both.json"
    given = [str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["merge", *given])
    main()
    assert "a - b: +100.0 points" in capsys.readouterr().out
    (paired,) = json.loads(out.read_text())["paired"]
    assert (paired["models"], paired["pairs"]) == (["a", "b"], 3)


def test_runs_with_different_planners_merge_into_one_comparison(tmp_path):
    for planner in ("cem", "mppi"):
        settings = {"common": {"seed": 0}, "models": {"a": {"planner": planner}}}
        records = [record("a", "push_red", pair, planner == "cem", planner) for pair in range(3)]
        (tmp_path / f"{planner}.json").write_text(results_json(make_rows(records, settings)))
    rows = merge_results([tmp_path / "cem.json", tmp_path / "mppi.json"])
    assert [(row["planner"], row["successes"]) for row in rows] == [("cem", 3), ("mppi", 0)]
    (told,) = comparisons(rows)
    assert told.startswith("a/cem - a/mppi: +100.0 points")


def test_results_of_before_planners_were_compared_are_read_as_ever():
    published = Path(__file__).parents[2] / "docs" / "results" / "vp2_robodesk.json"
    rows = merge_results([published])
    told = json.loads(published.read_text())
    assert [row["models"] for row in paired_differences(rows)] == [
        each["models"] for each in told["paired"]
    ]
    for now, before in zip(paired_differences(rows), told["paired"], strict=True):
        assert now.items() >= before.items()
    for now, before in zip(overall(rows), told["overall"], strict=True):
        assert now.items() >= before.items()


def test_results_of_runs_merge_unless_they_contradict(tmp_path):
    settings = {"common": {"seed": 0}, "models": {m: {"planner": "cem"} for m in "abc"}}

    def results(name, *records):
        path = tmp_path / f"{name}.json"
        path.write_text(results_json(make_rows(records, settings)))
        return path

    one = results("one", record("a", "push_red", 0, True), record("b", "push_red", 0, True))
    two = results("two", record("a", "open_slide", 0, False), record("b", "push_red", 0, True))
    rows = merge_results([one, two])
    assert [(row["model"], row["task"]) for row in rows] == [
        ("a", "push_red"),
        ("a", "open_slide"),
        ("b", "push_red"),
    ]
    elsewhere = {"common": {"seed": 1, "steps": 50}, "models": {"a": {"planner": "cem"}}}
    longer = tmp_path / "longer.json"
    longer.write_text(results_json(make_rows([record("a", "push_red", 0, True)], elsewhere)))
    with pytest.raises(ColaWorldError, match="'a' played push_red under different.*: steps"):
        merge_results([one, longer])
    for weights, path in (("x", tmp_path / "first.json"), ("y", tmp_path / "second.json")):
        trained = {"seed": int(weights == "y")}, {"a": {"planner": "cem", "weights": weights}}
        about = dict(zip(("common", "models"), trained, strict=True))
        path.write_text(results_json(make_rows([record("a", "push_red", 0, True)], about)))
    both = [tmp_path / "first.json", tmp_path / "second.json"]
    assert len(merge_results(both, trainings=True)) == 2
    with pytest.raises(ColaWorldError, match="different settings.*: weights"):
        merge_results(both)
    other = results("other", record("a", "push_red", 0, False))
    with pytest.raises(ColaWorldError, match="'a' on push_red"):
        merge_results([one, other])
    with pytest.raises(ColaWorldError, match="no results"):
        merge_results([tmp_path])


def test_models_are_named_listed_or_labelled():
    assert names("cola") == {"cola": "cola"}
    assert names(["runs/a/b", "mine:runs/x"]) == {"runs--a--b": "runs/a/b", "mine": "runs/x"}
    for wrong in ([], ["cola", "cola"]):
        with pytest.raises(ColaWorldError, match="at least one"):
            names(wrong)


def test_tasks_are_checked():
    available = ("push_red", "open_slide")
    assert choose_tasks("all", available) == ["push_red", "open_slide"]
    assert choose_tasks("open_slide", available) == ["open_slide"]
    with pytest.raises(ColaWorldError, match="'fly'.*push_red"):
        choose_tasks(["push_red", "fly"], available)


def test_rules_reject_nonsense():
    with pytest.raises(ColaWorldError, match="replan_every"):
        Rules("mse", episodes=1, seed=0, replan_every=0)
    with pytest.raises(ColaWorldError, match="final_weight"):
        Rules("mse", episodes=1, seed=0, final_weight=2.0)


@pytest.mark.parametrize(
    "damage",
    ["", '{"task"', "[]", "{}", '{"costs": 3}', b"\xff\x00", "success", "pair", "steps"],
)
def test_a_damaged_record_is_told_and_left_out(tmp_path, damage):
    folder = RunFolder(tmp_path)
    folder.save("cola", record("cola", "push_red", 0, True))
    path = folder.episode("cola", "push_red", 0)
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    elif damage in ("success", "pair", "steps"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {damage: "7"}))
    else:
        path.write_text(damage)
    with pytest.warns(UserWarning, match="000.json is damaged .* is played again"):
        assert folder.load("cola", "push_red", 0) is None
    folder.save("cola", record("cola", "push_red", 0, True))
    assert folder.load("cola", "push_red", 0) == record("cola", "push_red", 0, True)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"common": 3, "models": {}}', "{"])
def test_damaged_settings_and_results_are_told(tmp_path, damage):
    for name in ("settings.json", "results.json"):
        (tmp_path / name).write_text(damage)
    with pytest.raises(ColaWorldError, match="settings.json is damaged: choose another out="):
        RunFolder(tmp_path).claim({"steps": 15}, {})
    with pytest.raises(ColaWorldError, match="results.json is damaged or holds no results"):
        merge_results([tmp_path])
