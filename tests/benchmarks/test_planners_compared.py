"""Several planners in one run: planner=[cem,mppi,{mine: ...}] beside model=[...]."""

import csv
import json
import shutil

import pytest

from benchmarks.vp2 import report
from benchmarks.vp2_protocol.comparison import rivals, titles
from benchmarks.vp2_protocol.records import NO_PLANNER, EpisodeRecord, MethodName
from benchmarks.vp2_protocol.run import Run
from cola_env.errors import ColaWorldError
from cola_env.models.visual_policy import VisualPolicy

OWN = """
import torch
from planners import PlanResult

class Right:
    '''Always moves to one side: it has only what planners.Planner asks for.'''
    def __init__(self, speed=1.0):
        self.speed = speed

    def plan(self, cost, action_space, *, warm_start=None, seed=0, batch=1):
        actions = torch.zeros(batch, 2, *action_space.shape)
        actions[..., 0] = self.speed
        return PlanResult(actions)
"""
PLANNERS = "planner=[cem,{few:{base:cem,num_samples:2}},{mine:{_target_:own_planners.Right}}]"
EPISODE = EpisodeRecord("push_red", "copy", "cem", 0, False, 2, (0.5, 0.5), 20.0, 1.0)
MODELS = "model=[still:copy,copy,random]"


@pytest.fixture(scope="module", autouse=True)
def own_planner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_planners.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def finished(configure, tmp_path_factory):
    run = Run(configure(tmp_path_factory.mktemp("run"), PLANNERS, MODELS))
    run.play(lambda record: None)
    report(run)
    return run


def test_every_pair_is_a_row_and_what_does_not_plan_is_there_once(finished):
    pairs = [(model, p) for model in ("still", "copy") for p in ("cem", "few", "mine")]
    pairs.append(("random", "none"))
    assert [record.method for record in finished.records()] == pairs
    folder = finished.folder.path
    results = json.loads((folder / "results.json").read_text())
    assert [(row["model"], row["planner"]) for row in results["rows"]] == pairs
    assert [(row["model"], row["planner"]) for row in results["overall"]] == pairs
    with open(folder / "results.csv") as file:
        assert [(row["model"], row["planner"]) for row in csv.DictReader(file)] == pairs
    page = (folder / "index.html").read_text()
    assert page.count("<article") == len(pairs)
    assert all(f"<th>{m}/{p}</th>" in page for m, p in pairs[:-1]) and "<th>random</th>" in page
    assert "still with the planner cem" in page
    record = json.loads((folder / "episodes/copy/few/push_red/000.json").read_text())
    assert (record["model"], record["planner"]) == ("copy", "few")
    assert len(finished.folder.load("copy/mine", "push_red", 0).costs) == 2


def test_the_table_on_the_terminal_has_a_line_a_pair(finished, capsys):
    report(finished)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    start = next(i for i, words in enumerate(lines) if words[0] == "model/planner")
    assert lines[start] == ["model/planner", "push_red", "all"]
    pairs = [f"{model}/{p}" for model in ("still", "copy") for p in ("cem", "few", "mine")]
    shown = [words for words in lines[start + 1 :] if "(0-79" in words or "(21-100" in words]
    assert [words[0] for words in shown] == [*pairs, "random"]


def test_planners_of_a_model_and_models_with_a_planner_are_compared_on_the_same_pairs(finished):
    results = json.loads((finished.folder.path / "results.json").read_text())
    found = [(*each["models"], *each["planners"]) for each in results["paired"]]
    assert found == [
        ("still", "still", "cem", "few"),
        ("still", "still", "cem", "mine"),
        ("copy", "copy", "cem", "few"),
        ("copy", "copy", "cem", "mine"),
        ("still", "copy", "cem", "cem"),
        ("still", "copy", "few", "few"),
        ("still", "copy", "mine", "mine"),
        ("still", "random", "cem", "none"),
        ("still", "random", "few", "none"),
        ("still", "random", "mine", "none"),
    ]
    assert {each["pairs"] for each in results["paired"]} == {1}
    assert "<li>copy/cem - copy/few: " in (finished.folder.path / "index.html").read_text()


def test_a_planner_in_a_list_plans_as_it_does_alone(finished, configure, tmp_path):
    run = Run(configure(tmp_path, "model=copy", "planner.num_samples=2"))
    run.play(lambda record: None)
    (alone,) = run.records()
    listed = finished.folder.load("copy/few", "push_red", 0)
    assert (alone.costs, alone.imagined_psnr) == (listed.costs, listed.imagined_psnr)
    assert run.planned == [("copy", "push_red", 0)], "a planner alone is not named"


def test_a_planner_has_one_name_alone_and_in_a_list(configure, tmp_path):
    def named(out, given):
        run = Run(configure(tmp_path / out, "model=copy", given))
        return [method.name for method in run.methods.values()]

    assert named("a", "planner=vp2_cem") == named("a", "planner=[vp2_cem]") == [("copy", "vp2_cem")]
    assert named("b", "planner._target_=own_planners.Right") == [("copy", "right")]


def test_a_stopped_run_goes_on_and_planners_may_be_added(configure, tmp_path):
    alone = Run(configure(tmp_path, "model=copy", "planner=cem"))
    alone.folder.save("copy", EPISODE)
    told = []

    def stop(record):
        told.append(record.planner)
        raise KeyboardInterrupt

    given = ("model=copy", "planner=[cem,mppi,{mine:{_target_:own_planners.Right}}]")
    with pytest.raises(KeyboardInterrupt):
        Run(configure(tmp_path, *given, "planner.iterations=1")).play(stop)
    again = Run(configure(tmp_path, *given))
    again.play(lambda record: told.append(record.planner))
    assert told == ["mppi", "mine"], "CEM had played alone"
    assert [record.planner for record in again.records()] == ["cem", "mppi", "mine"]
    assert len(Run(configure(tmp_path, "model=copy", "planner=mppi")).records()) == 1


def test_changed_settings_of_a_planner_are_refused(finished, configure, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    changed = "planner=[cem,{few:{base:cem,num_samples:4}}]"
    with pytest.raises(ColaWorldError, match=r"model 'still/few': planner_settings=.*out=FOLDER"):
        Run(configure(copy, MODELS, changed))
    with pytest.raises(ColaWorldError, match="model 'copy/cem': planner_settings="):
        Run(configure(copy, "model=copy", "planner=cem", "planner.num_samples=7"))


def test_records_of_before_planners_were_compared_are_of_the_planner_of_their_settings(
    configure, tmp_path
):
    run = Run(configure(tmp_path, "model=copy"))
    run.folder.save("copy", EPISODE)
    path = run.folder.episode("copy", "push_red", 0)
    data = json.loads(path.read_text())
    assert data.pop("planner") == "cem"
    path.write_text(json.dumps(data))
    assert [record.planner for record in run.finished()] == ["cem"]


def test_a_setting_that_ones_own_planner_does_not_take_is_told(configure, tmp_path):
    with pytest.raises(ColaWorldError, match="Right cannot be built: .*sped"):
        Run(configure(tmp_path, "planner=[cem,{mine:{_target_:own_planners.Right,sped:2}}]"))
    with pytest.raises(ColaWorldError, match="lists of names are for benchmarks/vp2.py"):
        config = configure(tmp_path)
        config.planner = ["cem", "mppi"]
        Run(config)


def test_what_has_no_rival_is_compared_with_the_first():
    cola, direct = MethodName("cola", "cem"), MethodName("direct", "mppi")
    assert rivals([cola, direct]) == [(cola, direct)]
    assert titles([cola, direct]) == {cola: "cola/cem", direct: "direct/mppi"}
    random = MethodName("random", "none")
    assert titles([cola, random]) == {cola: "cola", random: "random"}


def test_one_of_several_planners_may_have_the_plans_of_a_policy(configure, tmp_path):
    VisualPolicy(("push_red",), width=4).save_pretrained(tmp_path / "policy")
    given = (f"proposal={tmp_path / 'policy'}", "proposal_count=1")
    run = Run(configure(tmp_path / "run", PLANNERS, *given, "proposal_for=[few]"))
    proposing = {
        name.planner: run._agent(method, "push_red", None).propose is not None
        for method in run.methods.values()
        if (name := method.name).planner != NO_PLANNER
    }
    assert proposing == {"cem": False, "few": True, "mine": False}
    told = {m.name.planner for m in run.methods.values() if "proposal" in m.settings}
    assert told == {"few"}
    with pytest.raises(ColaWorldError, match=r"proposal_for=\['many'\] are none .* cem, few, mine"):
        Run(configure(tmp_path / "other", PLANNERS, *given, "proposal_for=[many]"))
