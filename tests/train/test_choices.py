"""A list for a group of settings: each entry is what the group would be alone."""

import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from cola_env.errors import ColaWorldError
from cola_train.choices import CHOSEN
from cola_train.command import CommandSettings

FILES = {
    "mine.yaml": "defaults:\n  - planner: cem\n  - _self_\n  - place: null\nepisodes: 4\n",
    "planner/cem.yaml": "samples: 64\niterations: 2\nnoise: {beta: 0.8, scale: 1}\n",
    "planner/mppi.yaml": "samples: 192\nheat: 1\n",
    "place/far.yaml": "# @package _global_\nepisodes: 5\nplanner: {samples: 7}\n",
}


@pytest.fixture
def settings(tmp_path: Path) -> CommandSettings:
    for name, text in FILES.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return CommandSettings(tmp_path / "conf", "mine", ("planner",))


def plain(config: DictConfig) -> object:
    return OmegaConf.to_container(config)


def test_every_entry_is_composed_as_if_it_were_alone(settings: CommandSettings) -> None:
    config = settings.compose(["planner=[cem,mppi,{few:{base:mppi,samples:3,noise:{beta:1}}}]"])
    assert plain(config) == {
        "planner": [
            {"cem": {"samples": 64, "iterations": 2, "noise": {"beta": 0.8, "scale": 1}}},
            {"mppi": {"samples": 192, "heat": 1}},
            {"few": {"samples": 3, "heat": 1, "noise": {"beta": 1}}},
        ],
        "episodes": 4,
    }
    assert settings.compose(["planner=mppi"]).planner == {"samples": 192, "heat": 1}


def test_settings_beside_the_list_hold_for_all_and_those_of_an_entry_for_it(
    settings: CommandSettings,
) -> None:
    entries = "planner=[mppi,{cem:{iterations:9}},{mine:{_target_:a.B}}]"
    config = settings.compose([entries, "planner.samples=1", "place=far"])
    mppi, cem, mine = config.planner
    assert (config.episodes, mppi.mppi.samples, cem.cem.samples, cem.cem.iterations) == (5, 1, 1, 9)
    assert mine.mine._target_ == "a.B" and mine.mine.noise.beta == 0.8
    assert [each.samples for (each,) in map(dict.values, map(dict, config.planner))] == [1, 1, 1]
    assert settings.compose([entries, "place=far"]).planner[0].mppi.samples == 7


def test_one_choice_is_told_by_name_unless_it_got_another_target(settings: CommandSettings) -> None:
    def named(*overrides: str) -> object:
        return settings.compose(overrides).get(CHOSEN)

    assert named() == {"planner": "cem"}
    assert named("planner=mppi", "planner.heat=2", "place=far") == {"planner": "mppi"}
    assert named("planner=[mppi]") is None
    assert named("+planner._target_=a.B") is None
    assert named("planner=mppi", "+planner={_target_:a.B}") is None
    assert CHOSEN not in settings.help([]) and not any(CHOSEN in key for key in settings.defaults())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["planner=[cem,cme]"], "no planner=cme: did you mean cem?"),
        (["planner=[cem,{few:{base:cme}}]"], "no planner=cme: did you mean cem?"),
        (["planner=[cem,{few:{samples:3}}]"], "no planner=few: give few a base, one of cem, mppi"),
        (["planner=[cem,{cem:{samples:3}}]"], "each under a label of its own"),
        (["planner=[]"], "must name at least one"),
        (["planner=[{cem:3}]"], "has no settings: give {cem:{key:value}}"),
        (["planner=[{_target_:a.B}]"], "needs a label: planner=[{mine:{_target_:a.B}}]"),
        (["planner=[cem,mppi]", "planner.iterations=1"], "planner=mppi has no setting iterations"),
    ],
)
def test_what_cannot_be_meant_is_told(
    settings: CommandSettings, given: list[str], told: str
) -> None:
    with pytest.raises(ColaWorldError) as error:
        settings.compose(given)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_command_gets_the_list(
    settings: CommandSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "listing.py").write_text(
        '"""A command of mine."""\n'
        "from cola_train.command import command\nseen = []\n"
        "@command('mine', lists=('planner',))\ndef main(config): seen.append(config)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "listing", raising=False)
    import listing  # type: ignore[import-not-found]

    monkeypatch.setattr(sys, "argv", ["listing", "planner=[mppi,{cem:{samples:3}}]", "episodes=1"])
    listing.main()
    (config,) = listing.seen
    assert [next(iter(each)) for each in config.planner] == ["mppi", "cem"]
    assert (config.planner[1].cem.samples, config.episodes, "lists" in config) == (3, 1, False)
    monkeypatch.setattr(sys, "argv", ["listing", "planner=mppi"])
    listing.main()
    assert listing.seen[-1] == settings.compose(["planner=mppi"])
    monkeypatch.setattr(sys, "argv", ["listing", "planner=[mppi,cem]", "planner.beat=2"])
    with pytest.raises(SystemExit, match=r"no setting planner\.beat"):
        listing.main()
