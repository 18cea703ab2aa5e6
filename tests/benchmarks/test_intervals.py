import numpy as np
import pytest

from benchmarks.vp2_protocol.comparison import bonett_price
from benchmarks.vp2_protocol.results import wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (17, 30, 0.3920, 0.7262),
        (30, 30, 0.8865, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (15, 148, 0.0624, 0.1605),
    ],
)
def test_known_intervals(successes, episodes, low, high):
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=1e-4)


def test_interval_holds_the_rate_narrows_with_episodes_and_mirrors():
    for n in (4, 30, 300):
        for k in range(0, n + 1, max(1, n // 10)):
            low, high = wilson(k, n)
            assert 0 <= low <= k / n <= high <= 1
            assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low))
    widths = [high - low for low, high in (wilson(n // 2, n) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("successes", "episodes"), [(1, 0), (0, 0), (-1, 3), (4, 3)])
def test_no_rate_no_interval(successes, episodes):
    with pytest.raises(ValueError):
        wilson(successes, episodes)


def test_a_paired_interval_is_that_of_its_source():
    only_first, only_second, n = 1, 7, 21  # Bonett and Price's formula on the counts themselves
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = 1.959964 * ((first + second - (first - second) ** 2) / (n + 2)) ** 0.5
    differences = np.array([1.0] * only_first + [-1.0] * only_second + [0.0] * (n - 8))
    expected = (first - second - half, first - second + half)
    assert bonett_price(differences) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("chances", [[0.05, 0.0, 0.95], [0.2, 0.1, 0.7], [0.5, 0.3, 0.2]])
def test_a_paired_interval_holds_the_truth_as_often_as_it_says(chances):
    rng = np.random.default_rng(0)
    truth, held = chances[0] - chances[1], 0
    for _ in range(1000):
        low, high = bonett_price(rng.choice([1.0, -1.0, 0.0], size=20, p=chances))
        held += low <= truth <= high
    assert held >= 930
