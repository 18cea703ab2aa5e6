"""Names, files and missing parts of LIBERO: nothing here needs its packages or assets to run."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cola_env.errors import ColaWorldError
from cola_env.simulators.libero import package as libero
from cola_env.simulators.libero.env import LiberoEnv
from cola_env.simulators.libero.package import ASSET_FOLDERS, HORIZONS, find_assets, find_task

TABLE = "libero_task_map = {suite: [f'{suite}_a', f'{suite}_b'] for suite in %r}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the package's folder, with two tasks a suite."""
    (tmp_path / "benchmark").mkdir()
    file = tmp_path / "benchmark" / "libero_suite_task_map.py"
    file.write_text(TABLE % (tuple(HORIZONS),))
    monkeypatch.setattr(libero, "package_folder", lambda: tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("LIBERO_ASSETS", raising=False)
    return tmp_path


def make_assets(folder: Path) -> Path:
    for part in ASSET_FOLDERS:
        (folder / part).mkdir(parents=True)
    return folder.resolve()


def test_all_suites_by_name(package: Path) -> None:
    assert len(libero.libero_tasks()) == 10
    assert libero.libero_tasks("libero_10") == (
        "libero_10/libero_10_a",
        "libero_10/libero_10_b",
    )
    task = find_task("libero_goal/libero_goal_b")
    assert (task.suite, task.name, task.horizon) == ("libero_goal", "libero_goal_b", 300)
    assert task.bddl_file == package / "bddl_files" / "libero_goal" / "libero_goal_b.bddl"


def test_the_packages_tasks() -> None:
    pytest.importorskip("libero")
    pytest.importorskip("robosuite")
    counts = {suite: len(libero.libero_tasks(suite)) for suite in HORIZONS}
    assert counts == {suite: 90 if suite == "libero_90" else 10 for suite in HORIZONS}
    for name in libero.libero_tasks():
        task = find_task(name)
        assert task.bddl_file.exists() and task.starts_file.exists()


@pytest.mark.parametrize("task", ["libero_goal/libero_goal_c", "libero_goal_b", "boil an egg"])
def test_unknown_task_suggests_names(package: Path, task: str) -> None:
    with pytest.raises(ColaWorldError, match=f"task '{task}' for LIBERO: .*libero_.*lists all 10"):
        LiberoEnv(task)


def test_unknown_suite_lists_the_suites(package: Path) -> None:
    with pytest.raises(ColaWorldError, match="suite 'libero_1'.*libero_spatial.*libero_90"):
        libero.libero_tasks("libero_1")


@pytest.mark.parametrize("name", ["libero", "robosuite", "mujoco"])
def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'colaworld\[libero\]'"):
        LiberoEnv("libero_goal/turn_on_the_stove")


def test_missing_assets_say_where_they_belong(package: Path) -> None:
    with pytest.raises(ColaWorldError, match="assets of LIBERO are not in .*LIBERO_ASSETS"):
        LiberoEnv("libero_goal/libero_goal_a")
    with pytest.raises(ColaWorldError, match="are not in elsewhere: .*assets="):
        LiberoEnv("libero_goal/libero_goal_a", assets="elsewhere")


def test_assets_by_argument_by_variable_and_from_the_package(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = make_assets(package / "home" / ".cache" / "libero" / "assets")
    assert find_assets() == downloaded
    installed = make_assets(package / "assets")
    assert find_assets() == installed
    named = make_assets(package / "named")
    monkeypatch.setenv("LIBERO_ASSETS", str(named))
    assert find_assets() == named
    assert find_assets(installed) == installed


@pytest.mark.parametrize("theirs", [True, False])
def test_a_users_config_is_read_and_never_written(
    package: Path, monkeypatch: pytest.MonkeyPatch, theirs: bool
) -> None:
    """The private one exists exactly where the user has none."""
    users = package / "config"
    users.mkdir()
    if theirs:
        (users / "config.yaml").write_text("theirs: 1")
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(users))
    seen: list[str] = []

    def note(name: str) -> object:
        seen.append(libero.os.environ["LIBERO_CONFIG_PATH"])
        return SimpleNamespace()

    monkeypatch.setattr(libero, "importlib", SimpleNamespace(import_module=note))
    libero.import_libero.__wrapped__()
    assert (seen == [str(users)]) == theirs
    assert Path(seen[0], "config.yaml").exists()
    assert [file.read_text() for file in users.iterdir()] == ["theirs: 1"] * theirs
    assert libero.os.environ["LIBERO_CONFIG_PATH"] == str(users)
