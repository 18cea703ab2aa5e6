"""Confidence intervals of success rates and of their differences."""

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson(successes: float, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (low, high) of a binomial rate.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference"
    (1927). Unlike the normal interval it stays within [0, 1] and is no point at 0 of n. Fractions
    of a success come from episodes that were played under several seeds.
    Raises ValueError unless 0 <= successes <= episodes and episodes > 0.
    """
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(f"{successes} successes of {episodes} episodes is no rate.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / episodes
    scale = 1 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / scale
    half = z * sqrt(rate * (1 - rate) / episodes + (z / (2 * episodes)) ** 2) / scale
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == episodes else centre + half
    return low, high


def bonett_price(differences: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Interval (low, high) of the mean of paired differences (n,) in [-1, 1] of successes.

    Source: D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data" (2012). One win and one loss are added to what was
    observed, so that it is no point where all pairs agree. Here a pair may also have a difference
    in between, its mean over several seeds.
    """
    observed = np.concatenate([differences, [1.0, -1.0]])
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(observed.std()) / sqrt(len(observed))
    centre = float(observed.mean())
    return max(centre - half, -1.0), min(centre + half, 1.0)
