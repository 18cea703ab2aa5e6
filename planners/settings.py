"""What the numbers among a planner's settings may be; all else is told in one sentence."""

from __future__ import annotations

import math
from numbers import Integral


def check_whole(name: str, value: object, least: int) -> None:
    """Raises ValueError, which names it, unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raises ValueError, which names it, unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")


def check_limit(name: str, value: object) -> None:
    """Raises ValueError, which names it, unless `value` is a positive number or None, no limit."""
    if value is not None and not as_number(name, value) > 0:
        raise ValueError(f"{name} must be positive, not {value}")


def as_number(name: str, value: object) -> float:
    """`value` as a float; ValueError, which names it, unless it is a finite number."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return number
