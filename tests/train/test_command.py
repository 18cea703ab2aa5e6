"""What all commands share: settings with mistakes, paths with any characters, and how they end."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from cola_env.errors import ColaWorldError
from cola_train.command import command, quoted
from cola_train.console import ending

CONF = """
defaults:
  - _self_
  - planner: cem
out: runs/x  # where results go
episodes: 4
share: 0.5
data: null
"""
seen: list[DictConfig] = []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A command with the settings of ``CONF``: called with arguments, it returns what it got."""
    (tmp_path / "conf" / "planner").mkdir(parents=True)
    (tmp_path / "conf" / "mine.yaml").write_text(CONF)
    (tmp_path / "conf" / "other.yaml").write_text("episodes: 7\n")
    for name in ("cem", "mppi"):
        (tmp_path / "conf" / "planner" / f"{name}.yaml").write_text("num_samples: 64\n")
    (tmp_path / "mine.py").write_text(
        '"""A command of mine."""\n'
        "from cola_train.command import command\nfrom tests_seen import seen\n"
        "@command('mine')\ndef main(config): seen.append(config)\n"
    )
    (tmp_path / "tests_seen.py").write_text("seen = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "tests_seen"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import mine  # type: ignore[import-not-found]

    def call(*arguments: str) -> DictConfig:
        monkeypatch.setattr(sys, "argv", ["mine", *arguments])
        mine.main()
        assert sys.argv == ["mine", *arguments]
        config: DictConfig = sys.modules["tests_seen"].seen.pop()
        return config

    yield call
    for name in ("mine", "tests_seen"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("epsiodes=2", "no setting epsiodes: did you mean episodes?"),
        ("+epsiodes=2", "no setting epsiodes: did you mean episodes?"),
        ("planner.num_sample=2", r"did you mean planner\.num_samples\?"),
        ("num_samples=2", r"did you mean planner\.num_samples\?"),
        (
            "planner={num_sample:2}",
            r"no setting planner\.num_sample: did you mean planner\.num_samples",
        ),
        ("planner=cme", r"no planner=cme: did you mean cem\? Choose cem, mppi"),
        ("planner=null", r"planner=null: choose cem, mppi"),
        ("quite_else=2", "no setting quite_else: --help lists"),
        ("episodes=two", "episodes must be a whole number"),
        ("episodes=2.5", "episodes must be a whole number"),
        ("share=much", "share must be a number"),
        ("~episodes", "episodes cannot be taken away"),
        ("episodes", "episodes is no setting: give each as key=value"),
        ("data=a,b", r"data=a,b is several values: write 'data=\[a,b\]'"),
        ("data=[a", r"data=\[a cannot be read"),
        ("--config-name=mien", "no --config-name mien: choose mine, other"),
        ("--config-path=nowhere", "--config-path: there is no folder .*nowhere"),
    ],
)
def test_mistakes_are_told_in_a_sentence_without_a_plus(run, given: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told) as ended:
        run(given)
    assert "use +" not in str(ended.value) and "\n" not in str(ended.value)


def test_a_setting_of_other_choices_alone_is_told_with_them(run, tmp_path: Path) -> None:
    """The defaults have it, so that it is nearest to itself."""
    folder = tmp_path / "conf" / "planner"
    (folder / "cem.yaml").write_text("num_samples: 64\nnoise: {beta: 0.8}\n")
    (folder / "mppi.yaml").write_text("num_samples: 64\nheat: 1\n")
    told = r"no setting planner\.noise with this planner, only with planner=cem\.$"
    for given in ("planner.noise.beta=1", "planner={noise:{beta:1}}"):
        with pytest.raises(SystemExit, match=told):
            run("planner=mppi", given)
    with pytest.raises(SystemExit, match=r"did you mean planner\.heat\?"):
        run("planner=mppi", "planner.haet=2")
    assert run("planner.noise.beta=1").planner.noise.beta == 1


@pytest.mark.parametrize("path", ["a=b", "it's [1], {b}", "2024"])
def test_paths_with_any_characters_are_taken(run, tmp_path: Path, path: str) -> None:
    (tmp_path / path).mkdir()
    config = run(f"out={path}", f"data={tmp_path / path}")
    assert (config.out, config.data) == (path, str(tmp_path / path))


def test_overrides_of_any_text_are_read_back() -> None:
    for text in ("a=b", "it's [1], {b}", "a\\", "a\\'b", "x"):
        override = OverridesParser.create().parse_override(quoted("data", text))
        assert str(override.value()) == text


def test_right_settings_arrive(run) -> None:
    config = run("planner=mppi", "planner.num_samples=3", "data=[a,b]", "share=1", "out='q'")
    assert (config.planner.num_samples, list(config.data), config.share) == (3, ["a", "b"], 1)
    assert config.out == "q" and run().out == "runs/x"
    assert not list(Path().glob("*.log"))


@pytest.mark.parametrize("name", ["other", "other.yaml", "own"])
def test_other_configurations_are_chosen_by_name(run, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "own.yaml").write_text("episodes: 7\n")
    assert run(f"--config-name={name}", f"--config-dir={folder}").episodes == 7
    assert run("--config-name=own", f"--config-path={folder}", "episodes=8").episodes == 8


def test_help_tells_all_settings(run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(IndexError):  # the command itself is not run
        run("--help")
    told = capsys.readouterr().out
    assert told.startswith("A command of mine.")
    assert "planner=cem|mppi" in told and "out: runs/x  # where results go" in told


def test_termination_ends_as_ctrl_c_does() -> None:
    kept = []
    with pytest.raises(SystemExit, match="Stopped; go on"), ending("Stopped; go on."):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            kept.append("results so far")
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not disturb that
    assert kept and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "x.json"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        ColaWorldError("A file could not be written (told). What was finished is kept"),
    ],
)
def test_a_full_disk_is_one_sentence(error: Exception) -> None:
    with pytest.raises(SystemExit, match="could not be written .*What was finished is kept"):
        with ending():
            raise error


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), ending():
        1 / 0  # noqa: B018


def test_the_command_is_a_function_of_a_configuration() -> None:
    @command("mine")
    def main(config: DictConfig) -> None:
        seen.append(config)

    main.__wrapped__(DictConfig({"out": "there"}))  # type: ignore[attr-defined]
    assert seen.pop().out == "there"
    with pytest.raises(SystemExit, match="Give data=FOLDER and out=FOLDER"):
        main.__wrapped__(DictConfig({"out": "???", "data": "???"}))  # type: ignore[attr-defined]
