"""A list of choices for a group of settings: `planner=[cem,{small:{base:cem,num_samples:32}}]`.

Hydra would merge the choices of a list into one. Here each entry is what the group would be if it
were given alone, beside the command's other settings, and the group becomes the list of them:
[{LABEL: settings}, ...]. An entry is the name of a choice, or {LABEL: {key: value}}: the choice of
that name, or the choice `base`, with these settings changed. Where it has a `_target_` of its own,
it may go without: then it starts from what the command has without the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cola_env.errors import ColaWorldError

KEPT = "lists"
"""Where the lists are in Hydra's configuration until the groups get them."""
CHOSEN = "chosen"
"""Where the configuration has the name of the choice of a group that may be several, and is one."""
BASE = "base"
TARGET = "_target_"


@dataclass(frozen=True)
class Choice:
    """base: the name that it starts from; None: what the command has without the list."""

    label: str
    base: str | None
    settings: Mapping[str, Any]


def set_aside(override: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The override, or of a list for one of the `groups`, whose names these are, two: one that
    keeps the list, and one that lets Hydra begin with the first name in it. A sweep over lists is
    kept alone."""
    group, _, value = override.partition("=")
    if group not in groups or not value.startswith("["):
        return [override]
    listed = OverridesParser.create().parse_override(override).value()
    entries = listed if isinstance(listed, list) else []
    names = [name for entry in entries for name in _names(entry, groups[group])]
    return [f"+{KEPT}.{override}", *(f"{group}={name}" for name in names[:1])]


def _names(entry: Any, known: Sequence[str]) -> list[str]:
    if not isinstance(entry, Mapping):
        return [str(entry)]
    bases = [s.get(BASE, label) if isinstance(s, Mapping) else label for label, s in entry.items()]
    return [str(base) for base in bases if base in known]


def retargeted(group: str, overrides: Sequence[str]) -> bool:
    """Whether the overrides give the group another `_target_`, so that it is no more what the name
    of its choice says."""
    for each in OverridesParser.create().parse_overrides(list(overrides)):
        value = each.value() if each.key_or_group == group else None
        inside = isinstance(value, Mapping) and TARGET in value
        if inside or each.key_or_group == f"{group}.{TARGET}":
            return True
    return False


def compose_each(
    group: str,
    choices: Sequence[Choice],
    overrides: Sequence[str],
    compose: Callable[[list[str]], DictConfig],
) -> list[dict[str, Any]]:
    """[{label: settings}, ...], each composed under the other overrides of the command."""
    others = [each for each in overrides if not each.startswith((f"{group}=", f"+{KEPT}."))]
    made = []
    for choice in choices:
        alone = [] if choice.base is None else [f"{group}={choice.base}"]
        try:
            node = OmegaConf.to_container(compose([*others, *alone])[group], resolve=True)
        except HydraException as error:
            if found := re.match(rf"Could not override '{group}\.([^']*)'", str(error)):
                raise ColaWorldError(
                    f"{group}={choice.label} has no setting {found[1]}: write it into the entries "
                    f"that have it, as in {group}=[{{OTHER:{{{found[1]}:VALUE}}}},{choice.label}]."
                ) from error
            raise
        merged = OmegaConf.merge(node, choice.settings)
        made.append({choice.label: OmegaConf.to_container(merged)})
    return made


def read_choices(group: str, given: Sequence[Any], known: Sequence[str]) -> list[Choice]:
    """The entries of a list; ColaWorldError for one that cannot be meant, and for two of one label.

    known: the names of the group's choices.
    """
    choices = [choice for entry in given for choice in _read(group, entry, known)]
    labels = [choice.label for choice in choices]
    if not labels or len(set(labels)) != len(labels):
        raise ColaWorldError(
            f"{group}=[{','.join(labels)}] must name at least one, and each under a label of its "
            f"own: {group}=[{known[0]},{{other:{{{BASE}:{known[0]},key:value}}}}]."
        )
    return choices


def _read(group: str, entry: Any, known: Sequence[str]) -> list[Choice]:
    if not isinstance(entry, Mapping):
        return [Choice(str(entry), str(entry), {})]
    if TARGET in entry:
        raise ColaWorldError(
            f"A {group} of your own needs a label: {group}=[{{mine:{{{TARGET}:{entry[TARGET]}}}}}]."
        )
    return [_labelled(group, str(label), settings, known) for label, settings in entry.items()]


def _labelled(group: str, label: str, settings: Any, known: Sequence[str]) -> Choice:
    if not isinstance(settings, Mapping):
        raise ColaWorldError(
            f"{group}=[{{{label}:{settings}}}] has no settings: give {{{label}:{{key:value}}}}."
        )
    own = {str(key): value for key, value in settings.items() if key != BASE}
    base = settings.get(BASE, label if label in known else None)
    if base is None and TARGET not in own:
        raise ColaWorldError(
            f"There is no {group}={label}: give {label} a {BASE}, one of {', '.join(known)}, or a "
            f"{TARGET} of your own."
        )
    return Choice(label.replace("/", "--"), None if base is None else str(base), own)
