"""Settings of small commands: key=value, as the fields of a dataclass."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cola_env.errors import ColaWorldError
from cola_train.command import nearest

T = TypeVar("T")


def read_arguments(kind: type[T], arguments: Sequence[str], about: str | None) -> T:
    """The settings that ``arguments`` give. ``--help`` prints ``about`` and all of them, and ends.

    kind: a dataclass with a default for every field.

    Raises ColaWorldError for an unknown setting, and a value of another type.
    """
    default: dict[str, Any] = asdict(kind())  # type: ignore[call-overload]
    if {"--help", "-h"} & set(arguments):
        listed = "\n".join(f"{name}={value}" for name, value in default.items())
        print((about or "").strip(), "Settings, with their defaults:", listed, sep="\n\n")
        sys.exit(0)
    given = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in default:
            raise ColaWorldError(f"{nearest(name, list(default))} Each is given as name=value.")
        given[name] = value
    types = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    try:
        merged = OmegaConf.structured(kind)
        OmegaConf.set_readonly(merged, False)  # a frozen dataclass's is
        for name, value in given.items():
            merged[name] = None if value == "null" and "None" in types[name] else value
        found: T = OmegaConf.to_object(merged)  # type: ignore[assignment]
        return found
    except OmegaConfBaseException as error:
        raise ColaWorldError(f"{str(error).splitlines()[0]}: see --help.") from error
