import pytest

from benchmarks.vp2_protocol import page
from benchmarks.vp2_protocol.records import EpisodeRecord, RunFolder
from benchmarks.vp2_protocol.results import make_rows


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    common = {"steps": 15, "episodes": 2, "seed": 0, "replan_every": 3, "reward": "<mse>"}
    folder.claim({**common, "rendering": "fast"}, {"cola": {"planner": "cem"}})
    records = [
        EpisodeRecord("push_red", "cola", pair, pair == 0, 5, (), 20.0, 1.0) for pair in range(2)
    ]
    for record in records:
        folder.save(record)
        folder.episode("cola", "push_red", record.pair, ".mp4").write_bytes(b"video")
    return folder, records


def test_failures_come_first_and_text_is_escaped(run):
    folder, records = run
    rows = make_rows(records, folder.settings())
    text = page.write_page(folder, records, rows, complete=False).read_text()
    assert text.index('data-verdict="failure"') < text.index('data-verdict="success"')
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
