"""What all planners can be told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar, Literal

from planners.noise import AR1Noise, Noise


def check_whole(name: str, value: object, least: int) -> None:
    """Raises ValueError, which names it, unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def as_number(name: str, value: object) -> float:
    """`value` as a float; ValueError, which names it, unless it is a finite number."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return number


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Raises ValueError for a value out of its range."""

    horizon: int = 10
    """H, the number of actions in a plan."""
    num_samples: int = 200
    """N, the candidates of one iteration."""
    iterations: int = 3
    std: float | Sequence[float] | None = None
    """Initial standard deviation in units of the action, one for all dimensions or one each.
    None: `default_std` of each dimension's range, a quarter unless the planner says otherwise."""
    noise: Noise = AR1Noise(0.5)
    """How the noise is correlated over time. Correlated noise finds smooth plans in few iterations;
    white noise converges more closely over many."""
    antithetic: bool = True
    """Half of the candidates mirror the others at the mean (Hammersley and Morton 1956; in
    evolution strategies, Brockhoff et al. 2010): their noise has mean zero exactly, and half the
    random numbers are half the work."""
    elite_fraction: float = 0.05
    """The share of candidates that are elites, at least two of them; CEM fits them."""

    returns: Literal["mean", "best", "finalist"] = "mean"
    """The plan returned. "mean": the mean of the final distribution. "best": the best candidate
    ever seen; it suits deterministic costs, above all with obstacles, where the mean of two ways
    round is none, and is merely the luckiest one under a noisy cost. "finalist": the mean, unless
    one of the last elites proves better by three standard errors when all are evaluated again."""
    finalists: int = 8
    """How many plans, the mean included, "finalist" evaluates again."""
    reevaluations: int = 8
    """>= 2: how often it evaluates each, every time with new noise."""
    evaluate_plan: bool = True
    """Evaluate the mean that is returned (one more call of the cost, N = 1), and if its cost is
    not finite return the best candidate instead. False: its cost is NaN."""

    common_noise: Literal["plan", "iteration"] = "plan"
    """How long a cost that takes a `seed` gets the same one. "plan": costs can be compared between
    iterations, but the plan is made for this one noise. "iteration": in each iteration all
    candidates meet the same noise, a new one, to which no plan can adapt."""

    chunk_size: int | None = None
    """At most this many candidates a problem in one call of the cost, to bound its memory."""
    max_memory_gb: float | None = None
    """What one call of the cost may take, in 10^9 bytes: chunks are measured and sized to fit.
    The chunks of two runs may differ, and with them the rounding of the costs."""
    max_seconds: float | None = None
    """No iteration begins that would probably end later than this; the first always runs."""
    tolerance: float | None = None
    """Stop when no element of the mean (of the candidates, where gradients move them) moves by more
    than this in an iteration, in any problem; in units of the initial std."""

    default_std: ClassVar[float] = 0.25

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples", "iterations", "finalists"):
            check_whole(name, getattr(self, name), 1)
        check_whole("reevaluations", self.reevaluations, 2)
        if self.chunk_size is not None:
            check_whole("chunk_size", self.chunk_size, 1)
        for name in ("max_memory_gb", "max_seconds", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 < as_number(name, value):
                raise ValueError(f"{name} must be positive, not {value}")
        if not 0 < as_number("elite_fraction", self.elite_fraction) <= 1:
            raise ValueError(f"elite_fraction must be in (0, 1], not {self.elite_fraction}")
        if not callable(getattr(self.noise, "matrix", None)):
            raise TypeError(
                f"noise must be one of planners' noises, e.g. AR1Noise(0.5), not {self.noise!r}"
            )
        if self.returns not in ("mean", "best", "finalist"):
            raise ValueError(f"returns must be 'mean', 'best' or 'finalist', not {self.returns!r}")
        if self.common_noise not in ("plan", "iteration"):
            raise ValueError(
                f"common_noise must be 'plan' or 'iteration', not {self.common_noise!r}"
            )
        if self.std is not None:
            values = self.std if isinstance(self.std, Iterable) else [self.std]
            std = tuple(as_number("std", value) for value in values)
            if not all(value >= 0 for value in std):
                raise ValueError(f"std must be finite and not negative, not {self.std}")
            object.__setattr__(self, "std", std)

    @property
    def num_elites(self) -> int:
        """K: one elite would have no spread to search on with."""
        return min(self.num_samples, max(2, round(self.elite_fraction * self.num_samples)))
