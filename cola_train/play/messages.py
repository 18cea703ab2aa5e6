"""What the page may ask for: typed, checked, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from cola_env.errors import ColaWorldError

LONGEST = 4096
"""Characters of a message."""
MANY = 32
"""Keys or codes of one."""


@dataclass(frozen=True)
class Act:
    """A step under the keys that are held; none of them is a step that waits.

    size: of the movement, in (0, 1].
    """

    keys: tuple[str, ...]
    size: float

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ColaWorldError(f"The size of a step lies in (0, 1], it is not {self.size}.")


@dataclass(frozen=True)
class Codes:
    """A step under these latent action codes, one a token."""

    codes: tuple[int, ...]


@dataclass(frozen=True)
class Back:
    """The last step never happened."""


@dataclass(frozen=True)
class Wake:
    """The dream goes on from the real frame."""


@dataclass(frozen=True)
class Reset:
    """A new episode from a pair of start and goal, by its number."""

    pair: int


@dataclass(frozen=True)
class Choose:
    """Another task and checkpoint; the latter by its place in the menu."""

    task: str
    checkpoint: int


@dataclass(frozen=True)
class Twin:
    """Whether the real simulator goes along."""

    on: bool


@dataclass(frozen=True)
class Drive:
    """Whether the planner drives."""

    on: bool


@dataclass(frozen=True)
class Record:
    """Whether steps are recorded."""

    on: bool


Message = Act | Codes | Back | Wake | Reset | Choose | Twin | Drive | Record
KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Act, Codes, Back, Wake, Reset, Choose, Twin, Drive, Record)
}


def parse(text: str) -> Message:
    """A message of JSON {"do": kind, field: value, ...}, with all fields of its kind and no others.

    Raises ColaWorldError for anything else.
    """
    if len(text) > LONGEST:
        raise ColaWorldError(f"A message has at most {LONGEST} characters.")
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ColaWorldError("A message is a JSON object.") from error
    kind = found.pop("do", None) if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ColaWorldError(f"A message says what to do: one of {', '.join(KINDS)}.")
    wanted = get_type_hints(KINDS[kind])
    if found.keys() != {field.name for field in fields(KINDS[kind])}:
        given = ", ".join(wanted) or "nothing"
        raise ColaWorldError(f"The message '{kind}' comes with {given}, and with nothing else.")
    return KINDS[kind](**{name: _checked(kind, name, found[name], wanted[name]) for name in wanted})


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _checked(kind: str, name: str, value: Any, wanted: Any) -> Any:
    if wanted in (tuple[str, ...], tuple[int, ...]) and isinstance(value, list):
        one = str if wanted == tuple[str, ...] else int
        if len(value) <= MANY and all(type(each) is one for each in value):
            return tuple(value)
    elif wanted is float and type(value) in (int, float) and abs(value) < 1e9:
        return float(value)
    elif type(value) is wanted and (wanted is not int or math.fabs(value) < 1e9):
        return value
    raise ColaWorldError(f"The message '{kind}' has no such {name}.")
