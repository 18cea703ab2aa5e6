import pytest

from benchmarks.vp2_protocol import page
from benchmarks.vp2_protocol.legend import of_planner
from benchmarks.vp2_protocol.records import EpisodeRecord, RunFolder
from benchmarks.vp2_protocol.results import make_rows


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    common = {"steps": 15, "episodes": 2, "seed": 0, "replan_every": 3, "reward": "<mse>"}
    made = {"planner": "cem", "planner_settings": {"_target_": "planners.CEM", "horizon": 6}}
    own = {"planner": "mine", "model": {"_target_": "my_package.Model"}}
    own["planner_settings"] = {"_target_": "my_package.Mine", "horizon": 6}
    folder.claim({**common, "rendering": "fast"}, {"cola": made, "own/mine": own})
    records = [
        EpisodeRecord("push_red", "cola", "cem", pair, pair == 0, 5, (), 20.0, 1.0)
        for pair in range(2)
    ]
    for record in records:
        folder.save("cola", record)
        folder.episode("cola", "push_red", record.pair, ".mp4").write_bytes(b"video")
    return folder, records


def test_successes_come_first_and_text_is_escaped(run):
    folder, records = run
    rows = make_rows(records, folder.settings())
    text = page.write_page(folder, records, rows, complete=False).read_text()
    assert text.index('data-verdict="success"') < text.index('data-verdict="failure"')
    assert "1 of 2" in text and "not finished" in text
    assert "&lt;mse&gt;" in text and "<mse>" not in text


def test_fidelity_is_shown_where_it_was_measured(run):
    folder, records = run
    rows = make_rows(records, folder.settings())
    assert "rank plans" not in page.write_page(folder, records, rows, complete=True).read_text()
    (folder.path / page.FIDELITY).mkdir()
    (folder.path / page.FIDELITY / "fidelity.png").write_bytes(b"picture")
    text = page.write_page(folder, records, rows, complete=True).read_text()
    assert "data:image/png;base64,cGljdHVyZQ==" in text and 'href="fidelity/index.html"' in text


def test_many_videos_are_linked_instead_of_embedded(run, monkeypatch):
    folder, records = run
    rows = make_rows(records, folder.settings())
    text = page.write_page(folder, records, rows, complete=True).read_text()
    assert text.count("data:video/mp4;base64,") == 2
    monkeypatch.setattr(page, "EMBED_LIMIT", 5)
    text = page.write_page(folder, records, rows, complete=True).read_text()
    assert "base64" not in text and 'src="episodes/cola/push_red/001.mp4"' in text


def test_the_page_names_its_headline_and_says_what_its_words_mean(run):
    folder, records = run
    alone = make_rows(records, folder.settings())
    text = page.write_page(folder, records, alone, complete=True).read_text()
    assert "<b>cola with the planner cem</b> solved 1 of 2 (50 %" in text
    assert "headline, being named first" not in text
    assert "<dt>cola</dt><dd>the shipped model on latent actions" in text
    assert "<dt>cem</dt><dd>a planner, planners.CEM, horizon=6</dd>" in text
    assert "at each plan, every 3 steps," in text and "<dt>imagined, dB</dt>" in text
    assert "direct" not in text
    other = EpisodeRecord("push_red", "own", "mine", 0, False, 5, (), None, 1.0)
    folder.save("own/mine", other)
    rows = make_rows([*records, other], folder.settings())
    text = page.write_page(folder, [*records, other], rows, complete=True).read_text()
    assert "It is the headline, being named first." in text
    assert "<dt>mine</dt><dd>a planner of your own, my_package.Mine</dd>" in text
    assert "<dt>own</dt><dd>a model of your own, my_package.Model</dd>" in text
    assert text.index(">cola/cem<") < text.index(">own/mine<")


def test_a_planner_that_begins_with_a_policy_is_said_to():
    settings = {"planner_settings": {"_target_": "planners.CEM", "horizon": 6}}
    assert of_planner(settings) == "a planner, planners.CEM, horizon=6"
    told = of_planner(settings | {"proposal": "a1b2", "proposal_count": 16})
    assert told.startswith(
        "a planner, planners.CEM, horizon=6. It begins with 16 plans of a policy"
    )
