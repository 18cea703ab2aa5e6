"""Commands with Hydra's ``key=value`` settings; mistakes in them are told in one sentence."""

from __future__ import annotations

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cola_env.errors import ColaWorldError, in_short
from cola_train.choices import CHOSEN, KEPT, compose_each, read_choices, retargeted, set_aside
from cola_train.console import ending

Task = Callable[[DictConfig], None]

FOLDERS = {"out", "run", "init"}
"""Settings that are one path, which is taken as it is written."""
HYDRA = (
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra.job.chdir=false",
)
"""Hydra's own settings: a command runs where it is given, and Hydra leaves no files there."""
PLAIN = re.compile(r"[\w./:@+-]+")
"""Values that Hydra reads as they are written."""


def command(
    config_name: str, stopped: str = "Stopped.", lists: Collection[str] = ()
) -> Callable[[Task], Callable[[], None]]:
    """Makes a function of a configuration the command of its module.

    Args:
        config_name: file in the folder ``conf`` beside the module.
        stopped: what is said when it is interrupted.
        lists: groups of settings that may be several, see `choices`.
    """

    def decorate(task: Task) -> Callable[[], None]:
        settings = CommandSettings(
            Path(task.__code__.co_filename).resolve().parent / "conf", config_name, lists
        )
        about = sys.modules[task.__module__].__doc__ or ""

        @functools.wraps(task)
        def checked(config: DictConfig) -> None:
            with ending(stopped):
                if lists:
                    started = HydraConfig.get()
                    named = replace(settings, name=str(started.job.config_name))
                    given = list(started.overrides.task)
                    config = named.with_lists(config, given, started.runtime.choices)
                check_complete(config)
                task(config)

        folder = str(settings.folder)
        start = hydra.main(version_base=None, config_path=folder, config_name=config_name)

        def main() -> None:
            with ending(stopped):
                _run(start(checked), settings, about)

        functools.update_wrapper(main, checked)
        return main

    return decorate


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Torch computes on so many threads inside, and as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_complete(config: DictConfig) -> None:
    """Raises ColaWorldError where settings have to be given and are not, or one refers to another
    that is not there."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
    except OmegaConfBaseException as error:
        told = str(error).splitlines()[0]
        raise ColaWorldError(f"These settings do not fit each other: {told}") from error
    if missing:
        raise ColaWorldError(f"Give {' and '.join(f'{name}=FOLDER' for name in missing)}.")


def nearest(name: str, known: Sequence[str], where: str = "--help") -> str:
    """The sentence on a setting that there is not, which names the most similar ``known`` one."""
    leaf = name.rpartition(".")[2]
    leaves = {key.rpartition(".")[2]: key for key in reversed(known)}
    found = difflib.get_close_matches(name, known, 1, 0.7)
    found = found or [leaves[key] for key in difflib.get_close_matches(leaf, leaves, 1, 0.7)]
    told = f"did you mean {found[0]}?" if found else f"{where} lists those that there are."
    return f"There is no setting {name}: {told}"


def quoted(key: str, value: Any) -> str:
    """The override that gives a setting the text ``value``, whatever characters it has."""
    return f"{key}={written(value)}"


def written(value: Any) -> str:
    """The text ``value`` in Hydra's grammar: quoted where it has other characters than most."""
    text = str(value)
    return text if PLAIN.fullmatch(text) else quote(text)


def quote(text: str) -> str:
    """The text as Hydra's grammar writes it where it has signs of its own."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return "'" + escaped.replace("${", "\\${") + "'"


@dataclass(frozen=True)
class CommandSettings:
    """The configuration ``folder/name.yaml`` and what it is composed of.

    lists: groups that may be several, see `choices`.
    """

    folder: Path
    name: str
    lists: Collection[str] = ()

    def compose(self, overrides: Sequence[str] = ()) -> DictConfig:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(self.folder), version_base=None):
            return self.composed(overrides)

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """The same where Hydra is initialised with the folder."""
        given = self.set_aside(overrides)
        config = hydra.compose(self.name, given, return_hydra_config=True)
        with open_dict(config):
            started = config.pop("hydra")
        return self.with_lists(config, given, started.runtime.choices)

    def set_aside(self, overrides: Sequence[str]) -> list[str]:
        """The overrides as Hydra takes them, which knows no list of choices."""
        groups = {group: self._choices(group) for group in self.lists}
        return [part for each in overrides for part in set_aside(each, groups)]

    def with_lists(
        self, config: DictConfig, overrides: Sequence[str], choices: Mapping[str, str]
    ) -> DictConfig:
        """The configuration of these overrides, after `set_aside`, with the lists in their groups,
        and of groups that are none the names of their ``choices``; Hydra has to be initialised."""
        kept: Any = OmegaConf.to_container(config.get(KEPT) or OmegaConf.create())
        with open_dict(config):
            config.pop(KEPT, None)
            for group, given in kept.items():
                known = GlobalHydra.instance().config_loader().get_group_options(group)
                listed = read_choices(group, given, known)
                try:
                    config[group] = compose_each(
                        group, listed, overrides, functools.partial(hydra.compose, self.name)
                    )
                except (HydraException, OmegaConfBaseException) as error:
                    raise ColaWorldError(self.explain(error, overrides)) from error
            alone = [group for group in self.lists if group not in kept]
            named = {each: choices[each] for each in alone if not retargeted(each, overrides)}
            if named:
                config[CHOSEN] = named
        return config

    def names(self) -> list[str]:
        """The configurations that can be chosen by ``--config-name``."""
        return sorted(file.stem for file in self.folder.glob("*.yaml"))

    def has_file(self, besides: str | None = None) -> bool:
        """Whether the configuration is in its folder, or in another one ``besides``."""
        folders = [self.folder] if besides is None else [self.folder, Path(besides)]
        return any((folder / f"{self.name}.yaml").is_file() for folder in folders)

    def groups(self) -> dict[str, list[str]]:
        """The parts that can be chosen, and the names of their choices."""
        file = OmegaConf.load(self.folder / f"{self.name}.yaml")
        listed = OmegaConf.select(file, "defaults") or []
        keys = [str(key) for entry in listed if OmegaConf.is_dict(entry) for key in entry]
        return {key: self._choices(key) for key in keys if (self.folder / key).is_dir()}

    def _choices(self, group: str) -> list[str]:
        return sorted(file.stem for file in (self.folder / group).glob("*.yaml"))

    def defaults(self, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """All settings by their dotted names, and their values under the overrides."""
        return dict(_dotted(OmegaConf.to_container(self._shown(overrides))))

    def _shown(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of what can be given."""
        config = self.compose(overrides)
        with open_dict(config):
            config.pop(CHOSEN, None)
        return config

    def help(self, overrides: Sequence[str]) -> str:
        """All settings with their defaults, and what the file of the settings says of them."""
        lines = (self.folder / f"{self.name}.yaml").read_text().splitlines()
        about = {m[1]: m[2] for line in lines if (m := re.match(r"( *[\w]+:).*?\s(#.*)", line))}
        text = OmegaConf.to_yaml(self._shown(overrides))
        shown = [
            f"{line}  {about[m[0]]}" if (m := re.match(r" *\w+:", line)) and m[0] in about else line
            for line in text.splitlines()
        ]
        choices = [
            f"{key}={'|'.join(names)}{', or a list' if key in self.lists else ''}"
            for key, names in self.groups().items()
        ]
        head = ["Settings, each as key=value (group.key=value), with their defaults:", ""]
        return "\n".join([*head, *choices, *shown])

    def explain(self, error: Exception, overrides: Sequence[str]) -> str:
        """One sentence for what Hydra could not make a configuration of."""
        told = in_short(error)
        if found := re.match(r"Could not override '([^']*)'", told):
            inside = re.search(r"full_key: (\S+)", str(error.__cause__))
            return self._absent((inside or found)[1].partition("@")[0], overrides)
        if found := re.match(r"Ambiguous value for argument '(.*?)=(.*?)' 1\.", told):
            return (
                f"{found[1]}={found[2]} is several values: write '{found[1]}=[{found[2]}]' for a "
                f"list, or \"{found[1]}='{found[2]}'\" for one text with commas."
            )
        if found := re.search(r"Could not find '([^']*)/([^'/]*)'", told):
            choices = self._choices(found[1])
            close = difflib.get_close_matches(found[2], choices, 1)
            meant = f"did you mean {close[0]}? " if close else ""
            return f"There is no {found[1]}={found[2]}: {meant}Choose {', '.join(choices)}."
        cause = error.__cause__
        if isinstance(cause, OmegaConfBaseException):
            told = f"{told}: {str(cause).splitlines()[0]}"
        return told

    def _absent(self, name: str, overrides: Sequence[str]) -> str:
        """The sentence on a setting that there is not under what the overrides choose."""
        group, _, inside = name.partition(".")
        having = [
            choice
            for choice in self._choices(group)
            if OmegaConf.select(OmegaConf.load(self.folder / group / f"{choice}.yaml"), inside)
            is not None
        ]
        if having:
            only = f"{group}={', '.join(having)}"
            return f"There is no setting {name} with this {group}, only with {only}."
        groups = self.groups()
        chosen = [
            each.input_line
            for each in OverridesParser.create().parse_overrides(list(overrides))
            if not each.is_sweep_override() and each.value() in groups.get(each.key_or_group, ())
        ]
        return nearest(name, [*groups, *self.defaults([str(line) for line in chosen])])


def _run(start: Callable[[], None], settings: CommandSettings, about: str) -> None:
    """Hydra's own start, with arguments that may be any paths, and errors that are one sentence."""
    given = get_args_parser().parse_intermixed_args()
    folder = settings.folder.parent / (given.config_path or settings.folder)
    if given.config_path and not folder.is_dir():
        raise ColaWorldError(f"--config-path: there is no folder {folder}.")
    name = (given.config_name or settings.name).removesuffix(".yaml")
    settings = replace(settings, folder=folder, name=name)
    if not settings.has_file(given.config_dir):
        raise ColaWorldError(
            f"There is no --config-name {settings.name}: choose {', '.join(settings.names())}."
        )
    sweeps = bool(given.multirun)
    written = {text: written_out(text, sweeps) for text in given.overrides}
    before = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    try:
        if given.help:
            print(about.strip(), settings.help(list(written.values())), sep="\n\n")
            return
        if not given.config_dir:
            check_given(list(written.values()), settings)
        own = [*HYDRA, f"hydra.job.name={settings.name}"]
        options = [text for text in sys.argv[1:] if text not in written]
        sys.argv[1:] = [*own, *settings.set_aside(list(written.values())), *options]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and does not print
        start()
    except (HydraException, OmegaConfBaseException) as error:
        if before[1] or not _of_composition(error):
            raise
        raise ColaWorldError(settings.explain(error, list(written.values()))) from error
    finally:
        sys.argv[:] = before[0]
        if before[1] is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def _of_composition(error: Exception) -> bool:
    """Whether the configuration itself failed, not the command that got it."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "run_job":
            return False
        trace = trace.tb_next
    return True


def written_out(override: str, sweeps: bool) -> str:
    """The override in Hydra's grammar, where its value is a path with characters that mean
    something there; also a text which that grammar has no meaning for.

    Raises ColaWorldError for a list or a mapping that cannot be read, and for what is no key=value.
    """
    key, equals, value = override.partition("=")
    if not equals and not override.startswith("~"):
        raise ColaWorldError(f"{override} is no setting: give each as key=value; --help has all.")
    if not value or value[0] in "'\"" or value == "null" or "${" in value:
        return override
    single = key.lstrip("+") in FOLDERS and not sweeps
    if single or (not PLAIN.fullmatch(value) and _is_path(value)):
        return f"{key}={quote(value)}"
    try:
        OverridesParser.create().parse_override(override)
        return override
    except HydraException as error:
        if value[0] in "[{":
            raise ColaWorldError(
                f"{override} cannot be read: inside a list or mapping, put texts with other "
                "characters than letters, digits and /.:@+- into quotes."
            ) from error
    return f"{key}={quote(value)}"


def _is_path(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError):
        return False


def check_given(overrides: Sequence[str], settings: CommandSettings) -> None:
    """Raises ColaWorldError for a ``+key=`` that no command reads, for a text where there is a
    number, or a broken number where there is a whole one, and for what names no choice of a
    part."""
    given = OverridesParser.create().parse_overrides(list(overrides))
    default = settings.defaults() if given else {}
    groups = settings.groups() if given else {}
    for each in given:
        key = each.key_or_group
        if each.is_delete() and key in default:
            raise ColaWorldError(f"{key} cannot be taken away: give it another value.")
        if each.is_add() and not re.search("[./]", key) and key not in default:
            if not (settings.folder / key).is_dir():
                raise ColaWorldError(nearest(key, [name for name in default if "." not in name]))
        if each.is_sweep_override() or each.is_delete():
            continue
        there, value = default.get(key), each.value()
        if key in groups and (value is None or isinstance(value, int | float)):
            raise ColaWorldError(f"{each.input_line}: choose {', '.join(groups[key])}.")
        if isinstance(there, int | float) and (
            (isinstance(value, str | QuotedString) and "${" not in str(each.input_line))
            or (type(there) is int and isinstance(value, bool | float))
        ):
            kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(there)]
            raise ColaWorldError(f"{key} must be {kind}: {each.input_line} cannot be right.")


def _dotted(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
