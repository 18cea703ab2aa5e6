"""Confidence intervals of success rates."""

from math import sqrt
from statistics import NormalDist


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
