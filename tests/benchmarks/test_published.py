"""protocol=vp2 is the published protocol, and results say whether they are comparable."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import benchmarks
from benchmarks.harness import plain
from benchmarks.vp2_protocol.named_planners import make_planner
from benchmarks.vp2_protocol.page import write_page
from benchmarks.vp2_protocol.records import EpisodeRecord
from benchmarks.vp2_protocol.results import departures, make_rows, obstacles, verdict, write_results
from benchmarks.vp2_protocol.run import Run
from cola_env.scoring.vp2_classifier import VP2Network
from cola_train.command import CommandSettings

CONF = Path(benchmarks.__file__).parent / "conf"


def configuration(*overrides: str):
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("vp2", ["protocol=vp2", *overrides])


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("cost_classifiers")
    torch.save(VP2Network().state_dict(), folder / "push_red.pt")
    return folder


def departs(config) -> list[str]:
    return departures(config, plain(config.planner))


def test_the_preset_is_the_published_protocol():
    config = configuration()
    published = {
        "episodes": 30,
        "steps": 15,
        "replan_every": 1,
        "context": 2,
        "reward": "vp2_sums",
        "sum_over_time": True,
        "final_weight": 0,
        "judge": "vp2",
        "warmup_steps": 1,
        "idle_steps": 1,
        "rendering": "vp2",
        "tasks": "all",
    }
    assert {key: config[key] for key in published} == published
    planner = make_planner(plain(config.planner))
    assert type(planner).__name__ == "VP2MPPI"
    assert (planner.horizon, planner.num_samples, planner.iterations) == (10, 200, 1)
    assert (planner.gamma, planner.beta) == (0.05, 0.5)
    assert tuple(planner.std) == (0.5, 0.5, 0.5, 0.1, 0.1)
    more = {task: {"num_samples": 800} for task in ("open_slide", "open_drawer")}
    assert OmegaConf.to_container(config.planner_by_task) == more


def test_what_departs_from_it_is_named(classifiers):
    vp2s = f"classifier={classifiers}"
    assert departs(configuration(vp2s, "tasks=[push_red]", "seed=3", "batch_size=9")) == []
    assert departs(configuration(vp2s, "steps=20", "planner.gamma=1")) == ["steps", "planner"]
    assert departs(configuration(vp2s, "planner=cem")) == ["planner"]
    helped = configuration(vp2s, "proposal=policy", "subgoal_steps=3")
    assert departs(helped) == ["proposal", "subgoal_steps"]
    assert departs(configuration(vp2s, "planner_by_task.open_slide.num_samples=200")) == [
        "planner_by_task"
    ]
    assert departs(configuration()) == ["classifier"]
    told = verdict({"protocol": "vp2", "departures": ["steps"], "goals_source": "vp2"})
    assert told.startswith("Not comparable") and told.endswith("these settings differ: steps.")
    assert obstacles({}) == ["the problems are our own", "the protocol is our own"]


def label(run: Run) -> tuple[dict, str]:
    """The row in results.json and the page of a run with one episode."""
    records = [EpisodeRecord("push_red", "random", "none", 0, True, 5, (), None, 1.0)]
    rows = make_rows(records, run.folder.settings())
    path, _ = write_results(run.folder, rows)
    page = write_page(run.folder, records, rows, complete=True).read_text()
    return json.loads(path.read_text())["rows"][0], page


def test_results_on_vp2s_own_problems_are_labelled_comparable(
    vp2_goals_folder, classifiers, tmp_path
):
    given = f"goals={vp2_goals_folder}", f"classifier={classifiers}", "model=[random]"
    row, page = label(Run(configuration(*given, f"out={tmp_path / 'theirs'}")))
    assert row["problems"] == "vp2" and row["comparable"] is True
    assert "Comparable with VP2&#x27;s published results" in page
    row, page = label(Run(configuration(*given, f"out={tmp_path / 'short'}", "steps=3")))
    assert row["problems"] == "vp2" and row["comparable"] is False
    assert "these settings differ: steps" in page


def test_of_several_planners_the_published_one_alone_is_comparable(
    vp2_goals_folder, classifiers, tmp_path
):
    given = f"goals={vp2_goals_folder}", f"classifier={classifiers}", "model=[copy,random]"
    settings = CommandSettings(CONF, "vp2", ("planner",))
    tasks = "tasks=[push_red]", f"out={tmp_path}"
    run = Run(settings.compose(["protocol=vp2", "planner=[vp2_mppi,cem]", *given, *tasks]))
    methods = [method.name for method in run.methods.values()]
    records = [EpisodeRecord("push_red", *name, 0, True, 5, (), None, 1.0) for name in methods]
    comparable = {
        row["planner"]: row["comparable"] for row in make_rows(records, run.folder.settings())
    }
    assert comparable == {"vp2_mppi": True, "cem": False, "none": True}


def test_results_on_problems_of_our_own_are_labelled_so(goals_file, tmp_path):
    given = f"goals={goals_file}", "rendering=fast", "model=[random]", f"out={tmp_path}"
    row, page = label(Run(configuration(*given)))
    assert row["problems"] == "own" and row["comparable"] is False
    assert "Not comparable" in page and "the problems are our own" in page
