import csv
import json

import av
import pytest

from benchmarks.vp2 import report
from benchmarks.vp2_protocol.run import Run
from cola_env.errors import ColaWorldError


@pytest.fixture
def finished(configure):
    run = Run(configure("episodes=2", "batch_size=1"))
    told = []
    run.play(told.append)
    report(run)
    return run, told


def test_a_run_ends_with_table_page_and_videos(finished, capsys):
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
    page = (folder / "index.html").read_text()
    assert page.count("<article") == page.count("data:video/mp4;base64,") == 4
    assert "http://" not in page and "https://" not in page
    with av.open(folder / "episodes/tiny/push_red/000.mp4") as video:
        stream = video.streams.video[0]
        assert stream.height >= 128 and stream.width >= 3 * 128
        assert sum(1 for _ in video.decode(stream)) > run.rules.steps
    record = run.folder.load("tiny", "push_red", 0)
    assert record.imagined_psnr is not None and len(record.costs) == record.steps


def test_a_killed_run_goes_on_where_it_was_with_the_same_results(finished, configure):
    run, _ = finished
    before = {episode: run.folder.load(*episode) for episode in run.planned}
    lost = ("tiny", "push_red", 1)
    run.folder.episode(*lost).unlink()
    again = Run(configure("episodes=2", "batch_size=1"))
    assert len(again.records()) == 3
    told = []
    again.play(told.append)
    assert [(r.model, r.task, r.pair) for r in told] == [lost]
    for episode, record in before.items():
        now = again.folder.load(*episode)
        assert (now.success, now.steps, now.costs, now.imagined_psnr) == (
            (record.success, record.steps, record.costs, record.imagined_psnr)
        )


def test_a_run_folder_of_other_settings_is_refused(configure):
    Run(configure())
    with pytest.raises(ColaWorldError, match=r"steps=2 \(now 3\)"):
        Run(configure("steps=3"))
    with pytest.raises(ColaWorldError, match="'tiny'.*num_samples"):
        Run(configure("planner.num_samples=4"))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("tasks=[fly]", "'fly'"),
        ("model=[nothing]", "no checkpoint 'nothing'"),
        ("reward=joy", "Unknown reward 'joy'"),
        ("env=mars", "env=mars"),
        ("rendering=vp2", "profile"),
        ("episodes=0", "episodes must be at least 1"),
        ("planner._target_=planners.Nobody", "cannot be built"),
    ],
)
def test_bad_settings_are_told_in_one_sentence(configure, override, told):
    with pytest.raises(ColaWorldError, match=told):
        Run(configure(override))
