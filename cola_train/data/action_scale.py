"""Actions of files, in any units, as those in [-1, 1] that the model and its environments take."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.episode_source import Extremes

TOLERANCE = 1e-3
SETTING = "loading.action_range=[LOW,HIGH], each a number or a list of one a component"


@dataclass(frozen=True)
class ActionScale:
    """``low`` becomes -1 and ``high`` 1, linearly; one number serves all components."""

    low: Sequence[float] = (-1.0,)
    high: Sequence[float] = (1.0,)

    @classmethod
    def of(cls, action_range: Any, sizes: Collection[int]) -> Self:
        """From the setting ``loading.action_range``; None: actions stay as they are.

        sizes: of the actions. Raises ColaWorldError for a setting that is none, or does not fit.
        """
        if action_range is None:
            return cls()
        try:
            low, high = ([float(x) for x in np.atleast_1d(np.array(end))] for end in action_range)
        except (TypeError, ValueError) as error:
            raise ColaWorldError(f"loading.action_range={action_range}: give {SETTING}.") from error
        fits = {len(low), len(high)} <= {1, *(sizes if len(sizes) == 1 else ())}
        if not fits or not np.all(np.array(low) < np.array(high)):
            components = " or ".join(map(str, sorted(sizes))) or "no"
            raise ColaWorldError(
                f"loading.action_range={action_range} does not fit actions of {components} "
                f"components: give {SETTING}, LOW below HIGH."
            )
        return cls(low, high)

    def __call__(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """actions (..., A)."""
        if (self.low, self.high) == ((-1.0,), (1.0,)):
            return actions
        low, high = np.array(self.low), np.array(self.high)
        return (2 * (actions - low) / (high - low) - 1).astype(np.float32)

    def check(self, path: str | Path, extremes: Extremes | None) -> None:
        """Raises ColaWorldError when ``extremes`` of the actions of ``path`` leave [-1, 1]."""
        if extremes is None:
            return
        if not np.isfinite(extremes).all():
            raise ColaWorldError(f"The actions of {path} hold NaN or infinity: leave those out.")
        low, high = (self(end.astype(np.float32)) for end in extremes)
        if (low >= -1 - TOLERANCE).all() and (high <= 1 + TOLERANCE).all():
            return
        least, most = (", ".join(f"{x:.4g}" for x in end) for end in extremes)
        raise ColaWorldError(
            f"The actions of {path} go beyond what is [-1, 1] to the model (components: at least "
            f"[{least}], at most [{most}]): say which values become -1 and 1, {SETTING}."
        )
