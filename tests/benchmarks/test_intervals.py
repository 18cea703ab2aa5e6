import pytest

from benchmarks.vp2_protocol.intervals import wilson


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
