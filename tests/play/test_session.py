"""What a key does to dream, twin, history and recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.play.messages import Act, Back, Choose, Codes, Drive, Record, Reset, Twin, Wake
from cola_train.play.session import PlayConfig, Session

LEFT = Act(("a",), 1.0)
FORWARD = Act(("w",), 1.0)
FIRST = Act(("2",), 1.0)
"""The first component of an action that has no name."""


def read_back(folder: Path) -> DataSources:
    return DataSources(str(folder), LoadingConfig(workers=0))


def test_a_step_moves_dream_and_twin_and_back_undoes_it_exactly(paired: Session) -> None:
    start = paired.handle(Reset(0))
    assert start.psnr is not None and start.psnr > 35 and start.expected is None and start.trusted
    first = paired.handle(LEFT)
    assert first.step == 1 and first.dream != start.dream and first.twin != start.twin
    second = paired.handle(FORWARD)
    assert second.psnr is not None and second.psnr < 40
    back = paired.handle(Back())
    assert (back.step, back.dream, back.twin) == (1, first.dream, first.twin)
    again = paired.handle(FORWARD)
    assert (again.dream, again.twin, again.expected) == (
        second.dream,
        second.twin,
        second.expected,
    )
    other = paired.handle(Back()), paired.handle(LEFT)
    assert other[1].dream != second.dream


def test_there_is_no_step_before_the_start(paired: Session) -> None:
    start = paired.handle(Reset(1))
    assert not start.can_go_back
    back = paired.handle(Back())
    assert back.step == 0 and back.dream == start.dream and "as far back" in back.note


def test_a_twin_that_comes_later_is_where_the_dream_is(paired: Session) -> None:
    paired.handle(Reset(0))
    together = [paired.handle(move) for move in (LEFT, FORWARD)][-1]
    paired.handle(Reset(0))
    alone = paired.handle(Twin(False))
    assert alone.twin is None and alone.psnr is None and not alone.twin_on
    for move in (LEFT, FORWARD):
        paired.handle(move)
    joined = paired.handle(Twin(True))
    assert (joined.step, joined.dream, joined.twin) == (2, together.dream, together.twin)
    back = paired.handle(Back())
    assert back.step == 1 and back.twin is not None


def test_a_dream_wakes_to_the_real_frame(paired: Session) -> None:
    paired.handle(Reset(0))
    for move in (LEFT, FORWARD):
        asleep = paired.handle(move)
    awake = paired.handle(Wake())
    assert awake.dream == awake.twin == asleep.twin and awake.step == asleep.step
    assert awake.expected is None and awake.trusted


def test_less_is_expected_of_a_dream_the_longer_it_lasts(paired: Session) -> None:
    paired.handle(Reset(2))
    paired.handle(Twin(False))
    expected = [paired.handle(Act(("a", "w"), 1.0)).expected for _ in range(8)]
    paired.handle(Twin(True))
    assert all(isinstance(value, float) for value in expected)
    assert np.mean(expected[-2:]) < np.mean(expected[:2]) - 1  # type: ignore[arg-type]


def test_the_planner_drives_and_shows_what_it_has_in_mind(paired: Session) -> None:
    paired.handle(Reset(0))
    assert paired.handle(Drive(True)).driving
    planned = paired.drive()
    assert planned.step == 1 and planned.ghosts is not None
    assert [len(frames) for frames in planned.ghosts] == [6] * 4
    assert len({frame for candidate in planned.ghosts for frame in candidate}) > 12
    executed = paired.drive()
    assert executed.step == 2 and executed.ghosts is None
    assert not paired.handle(LEFT).driving


def test_real_frames_are_recorded_and_read_as_training_data(paired: Session) -> None:
    paired.handle(Reset(0))
    paired.handle(Record(True))
    for move in (LEFT, FORWARD, LEFT):
        paired.handle(move)
    paired.handle(Back())
    last = paired.handle(FORWARD)
    assert last.recorded_steps == 3
    saved = paired.handle(Record(False))
    folder = paired.recorder.folder
    assert folder is not None and str(folder) in saved.note and folder.name == "robodesk_real"
    data = read_back(folder)
    (entry,) = data.entries
    assert (entry.frames, entry.action_dim, entry.rendering) == (4, 5, "fast")
    source = data.groups[0][0][0]
    np.testing.assert_allclose(
        source.actions(0, 0, 3), [[-1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]
    )
    real = paired.stage.now.shot.twin
    assert real is not None
    frame = source.frames(0, 3, 4)[0]
    assert np.abs(frame.astype(float) - real).mean() < 4


def test_what_is_not_in_the_menu_is_refused_and_changes_nothing(paired: Session) -> None:
    before = paired.handle(Reset(0))
    for message in (Choose("/etc", 0), Choose("push_red", 9), Reset(10**6), Act(("!",), 1.0)):
        with pytest.raises(ColaWorldError):
            paired.handle(message)
    with pytest.raises(ColaWorldError, match="by keys, not by codes"):
        paired.handle(Codes((0, 0)))
    after = paired.handle(Twin(True))
    assert (after.task, after.step, after.dream) == (before.task, before.step, before.dream)


def test_another_checkpoint_plays_the_same_start(paired: Session) -> None:
    before = paired.handle(Reset(3))
    chosen = paired.handle(Choose(before.task, 1))
    assert (chosen.checkpoint, chosen.pair, chosen.dream) == (1, 3, before.dream)
    assert chosen.menu is not None and chosen.menu.signal == "agreement"
    assert paired.handle(LEFT).expected is not None
    paired.handle(Choose(before.task, 0))


def test_without_a_simulator_the_dream_plays_alone(own: PlayConfig) -> None:
    session = Session(own)
    start = session.whole()
    assert start.twin is None and start.menu is not None
    assert "no simulator" in start.menu.twin_absent and start.menu.signal == "recognition"
    with pytest.raises(ColaWorldError, match="no twin here"):
        session.handle(Twin(True))
    with pytest.raises(ColaWorldError, match="twin's frame"):
        session.handle(Wake())
    assert session.handle(FIRST).step == 1
    session.close()


def test_a_missing_simulator_is_told_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**options: object) -> None:
        raise ImportError("RoboDesk is not installed.")

    monkeypatch.setattr("cola_train.play.stage.make_pair", missing)
    session = Session(PlayConfig(task="push_green", out=str(tmp_path)))
    start = session.whole()
    assert start.menu is not None and start.menu.twin_absent == "RoboDesk is not installed."
    assert session.handle(LEFT).step == 1
    session.close()


def test_codes_are_played_and_recorded_beside_the_frames(own: PlayConfig) -> None:
    own.action_mode = "latent"
    session = Session(own)
    menu = session.whole().menu
    assert menu is not None and not menu.axes and menu.driver_absent
    assert [sorted(row) for row in menu.codes] == [list(range(32))] * 2
    session.handle(Record(True))
    for codes in ((0, 1), (2, 3), (31, 0)):
        moved = session.handle(Codes(codes))
    assert moved.action == (31, 0)
    for bad in ((0,), (0, 32), (-1, 0)):
        with pytest.raises(ColaWorldError):
            session.handle(Codes(bad))
    with pytest.raises(ColaWorldError, match="by codes, not by keys"):
        session.handle(LEFT)
    with pytest.raises(ColaWorldError, match="not latent codes"):
        session.handle(Drive(True))
    session.handle(Record(False))
    folder = session.recorder.folder
    session.close()
    assert folder is not None and folder.name == "own_imagined_codes"
    (entry,) = read_back(folder).entries
    assert entry.frames == 4 and entry.action_dim is None


def test_an_episode_ends_with_its_start_and_short_ones_are_not_kept(own: PlayConfig) -> None:
    session = Session(own)
    session.handle(Record(True))
    for pair in (1, 2):
        session.handle(FIRST)
        session.handle(FIRST)
        assert session.handle(Reset(pair)).recording
    assert "needs a step" in session.handle(Record(False)).note
    session.close()
    folder = session.recorder.folder
    assert folder is not None and [e.frames for e in read_back(folder).entries] == [3, 3]


def test_what_is_being_recorded_when_the_session_ends_is_kept(own: PlayConfig) -> None:
    folders = []
    for _ in range(2):
        session = Session(own)
        session.handle(Record(True))
        session.handle(FIRST)
        session.close()
        assert session.recorder.folder is not None
        folders.append(session.recorder.folder)
    assert [folder.name for folder in folders] == ["own_imagined", "own_imagined_2"]
    assert all(len(read_back(folder).entries) == 1 for folder in folders)


def test_video_of_ones_own_needs_its_model(tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match="checkpoint="):
        Session(PlayConfig(env="own", out=str(tmp_path)))
