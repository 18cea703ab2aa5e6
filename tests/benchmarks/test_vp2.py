import csv
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

import benchmarks
from benchmarks.vp2 import report
from benchmarks.vp2_protocol.results import shares
from benchmarks.vp2_protocol.run import Run
from cola_env.errors import ColaWorldError

OVERRIDES = ("episodes=2", "batch_size=1")


@pytest.fixture(scope="module")
def finished(configure, tmp_path_factory):
    """A finished run and the records it told of while playing."""
    run = Run(configure(tmp_path_factory.mktemp("run"), *OVERRIDES))
    told = []
    run.play(told.append)
    report(run)
    return run, told


def test_a_run_ends_with_table_page_and_videos(finished):
    run, told = finished
    assert len(told) == 4
    folder = run.folder.path
    results = json.loads((folder / "results.json").read_text())
    assert [(r["model"], r["task"], r["episodes"]) for r in results["rows"]] == [
        ("tiny", "push_red", 2),
        ("random", "push_red", 2),
    ]
    assert {"successes", "planner", "seed", "settings", "ci_low", "ci_high"} <= set(
        results["rows"][0]
    )
    with open(folder / "results.csv") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["tiny", "random"]
    (paired,) = results["paired"]
    assert (paired["models"], paired["pairs"]) == (["tiny", "random"], 2)
    page = (folder / "index.html").read_text()
    assert "<li>tiny - random:" in page and "n = 2 pairs" in page
    assert page.count("<article") == page.count("data:video/mp4;base64,") == 4
    assert "http://" not in page and "https://" not in page
    with av.open(folder / "episodes/tiny/push_red/000.mp4") as video:
        stream = video.streams.video[0]
        assert stream.height >= 128 and stream.width >= 3 * 128
        assert sum(1 for _ in video.decode(stream)) > run.rules.steps
    record = run.folder.load("tiny", "push_red", 0)
    assert record.imagined_psnr is not None and len(record.costs) == record.steps
    assert record.spent.keys() == {"imagination", "rewards", "planner", "simulator"}
    thought = sum(record.spent.values()) - record.spent["simulator"]
    assert thought == pytest.approx(record.seconds, rel=0.1, abs=0.1)
    assert shares([{"a": 1, "b": 2}, {"a": 2.0}]) == "a 60 %, b 40 %"


def test_the_steps_of_an_episode_are_counted_without_its_warm_up(configure, tmp_path):
    run = Run(configure(tmp_path, "model=random", "steps=2", "warmup_steps=3"))
    run.play(lambda record: None)
    (record,) = run.records()
    assert not record.success and record.steps == 2


def test_the_oracle_plans_against_the_simulators_own_reward(configure, tmp_path):
    small = ["oracle.num_samples=3", "oracle.iterations=1"]
    run = Run(configure(tmp_path, "model=state:simulator", "oracle.reward=dense", *small))
    run.play(lambda record: None)
    record = run.folder.load("state", "push_red", 0)
    assert record is not None
    assert max(record.costs) < 0 and "rewards" not in record.spent
    assert run.methods["state"].settings["own_reward"] == "dense"
    with pytest.raises(ColaWorldError, match="oracle.reward=dents .* success, sparse, dense"):
        Run(configure(tmp_path / "wrong", "model=simulator", "oracle.reward=dents"))


def test_after_a_killed_simulator_process_a_run_goes_on_where_it_was_with_the_same_results(
    finished, configure, tmp_path
):
    settings = configure(tmp_path, *OVERRIDES, "threads=1")
    run, told = Run(settings), []

    def kill(record):
        told.append(record)
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(ColaWorldError, match="A worker process ended.*What was finished is kept"):
        run.play(kill)
    assert len(run.records()) == len(told) < len(run.planned)
    again = Run(settings)
    again.play(told.append)
    assert [(r.model, r.task, r.pair) for r in told] == run.planned
    for record, now in zip(finished[0].records(), again.records(), strict=True):
        assert (now.success, now.steps, now.costs, now.imagined_psnr) == (
            (record.success, record.steps, record.costs, record.imagined_psnr)
        )


def test_models_of_earlier_commands_stay_in_the_results(finished, configure, tmp_path):
    run, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(run.folder.path, copy)
    again = Run(configure(copy, *OVERRIDES, "model=[copy]"))
    again.play(lambda record: None)
    report(again)
    results = json.loads((copy / "results.json").read_text())
    assert [(r["model"], r["episodes"]) for r in results["rows"]] == [
        ("tiny", 2),
        ("random", 2),
        ("copy", 2),
    ]
    assert [each["models"] for each in results["paired"]] == [["tiny", "random"], ["tiny", "copy"]]


def test_a_run_may_grow_by_whole_batches_with_the_same_results(finished, configure, tmp_path):
    fewer = Run(configure(tmp_path, "episodes=1", "batch_size=1"))
    fewer.play(lambda record: None)
    grown, told = Run(configure(tmp_path, *OVERRIDES)), []
    grown.play(told.append)
    assert [record.pair for record in told] == [1, 1]
    for record, now in zip(finished[0].records(), grown.records(), strict=True):
        assert (now.success, now.steps, now.costs) == (record.success, record.steps, record.costs)
    assert len(Run(configure(tmp_path, "episodes=1", "batch_size=1")).finished()) == 2
    parts = tmp_path / "parts"
    Run(configure(parts, "episodes=3", "batch_size=2"))
    with pytest.raises(ColaWorldError, match=r"episodes=3 \(now 4\)"):
        Run(configure(parts, "episodes=4", "batch_size=2"))
    with pytest.raises(ColaWorldError, match=r"batch_size=2 \(now 1\)"):
        Run(configure(parts, "episodes=3", "batch_size=1"))


def test_a_run_folder_of_other_settings_is_refused(configure, tmp_path):
    Run(configure(tmp_path))
    with pytest.raises(ColaWorldError, match=r"steps=2 \(now 3\)"):
        Run(configure(tmp_path, "steps=3"))
    with pytest.raises(ColaWorldError, match="'tiny'.*num_samples"):
        Run(configure(tmp_path, "planner.num_samples=4"))


def test_a_checkpoint_that_samples_otherwise_by_its_config_is_another_model(
    configure, tiny_model, tmp_path
):
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"

    def run(steps, guidance, *overrides):
        changed = {"num_inference_steps": steps, "guidance_scale": guidance}
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
        found = Run(configure(tmp_path / "run", f"model=tiny:{tmp_path / 'model'}", *overrides))
        return found.methods["tiny"].settings

    assert "own_sampling" not in run(1, 1.0), "the folders of earlier runs stay theirs"
    with pytest.raises(ColaWorldError, match="'tiny': own_sampling=.*'num_inference_steps': 4"):
        run(4, 1.0)
    with pytest.raises(ColaWorldError, match="'tiny': own_sampling=.*'guidance_scale': 1.5"):
        run(1, 1.5)
    asked = f"out={tmp_path / 'asked'}", "num_inference_steps=2", "guidance_scale=1.0"
    assert run(1, 1.0, *asked) == run(4, 1.5, *asked), "what is asked for holds for both"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("tasks=[fly]", "'fly'"),
        ("model=[nothing]", "no checkpoint 'nothing'"),
        ("reward=joy", "Unknown reward 'joy'"),
        ("rendering=vp2", "profile"),
        ("episodes=0", "episodes must be at least 1"),
        ("seed=-1", "seed must be at least 0"),
        ("planner.horizon=0", "cannot be built:.*horizon"),
        ("planner._target_=planners.Nobody", "cannot be built"),
        ("planner_by_task={open_door:{horizon:4}}", "names 'open_door'.*open_slide"),
    ],
)
def test_bad_settings_are_told_in_one_sentence(configure, tmp_path, override, told):
    with pytest.raises(ColaWorldError, match=told):
        Run(configure(tmp_path, override))


def test_no_file_beside_the_script_hides_a_package(tmp_path):
    """Run as a script, its folder leads sys.path; it may be reached through a link."""
    script = Path(benchmarks.__file__).parent / "vp2.py"
    linked = tmp_path / "linked"
    linked.symlink_to(script.parents[1])
    script = linked / "benchmarks" / "vp2.py"
    code = f"import runpy; runpy.run_path({str(script)!r}); import planners; planners.CEM"
    environment = {**os.environ, "PYTHONPATH": str(linked)}
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(script.parent)!r}); {code}",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
