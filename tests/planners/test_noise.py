import pytest
import torch

from planners import CEM, AR1Noise, ColoredNoise, WhiteNoise
from planners.noise import NoiseStream, problem_seeds

NOISES = [WhiteNoise(), AR1Noise(0.5), AR1Noise(0.95), AR1Noise([0.5, 0.95]), ColoredNoise(1.0),
          ColoredNoise(2.0), ColoredNoise(6.0)]  # fmt: skip


def draw(noise, horizon=12, batch=2, num=20_000, dims=2):
    stream = NoiseStream(noise, problem_seeds(0, batch), horizon, dims, torch.device("cpu"))
    return stream.draw(num, torch.ones(batch, horizon, dims))


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("horizon", [1, 2, 12])
def test_unit_variance_at_every_step_and_independent_elsewhere(noise, horizon):
    x = draw(noise, horizon)
    assert x.shape == (2, 20_000, horizon, 2) and x.dtype == torch.float32 and x.is_contiguous()
    torch.testing.assert_close(x.mean(1), torch.zeros(2, horizon, 2), atol=0.04, rtol=0)
    torch.testing.assert_close(x.std(1), torch.ones(2, horizon, 2), atol=0.03, rtol=0)
    assert (x[..., 0] * x[..., 1]).mean().abs() < 0.03, "dimensions"
    assert (x[0] * x[1]).mean().abs() < 0.03, "problems"
    assert (x[:, 1:] * x[:, :-1]).mean().abs() < 0.03, "candidates"


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("count", [1, 6, 7])
def test_antithetic_noise_is_mirrored_and_otherwise_the_same(noise, count):
    def stream(antithetic):
        cpu = torch.device("cpu")
        return NoiseStream(noise, problem_seeds(0, 2), 12, 2, cpu, antithetic)

    std = torch.rand(2, 12, 2)
    half = -(-count // 2)
    x = stream(True).draw(count, std)
    assert x.shape == (2, count, 12, 2) and x.is_contiguous()
    torch.testing.assert_close(x[:, half:], -x[:, : count - half])
    torch.testing.assert_close(x[:, :half], stream(False).draw(half, std))
    mean = torch.rand(2, 12, 2)
    torch.testing.assert_close(stream(True).draw(count, std, mean), x + mean.unsqueeze(1))


def test_seeds_of_problems_differ_and_depend_on_nothing_else():
    seeds = problem_seeds(0, 1000) + problem_seeds(1, 1000)
    assert len(set(seeds)) == 2000 and all(0 <= seed < 2**63 for seed in seeds)
    assert problem_seeds(5, 3)[0] == problem_seeds([5, 9], 2)[0]
    bits = torch.tensor([[seed >> k & 1 for k in range(63)] for seed in seeds]).float()
    torch.testing.assert_close(bits.mean(0), torch.full((63,), 0.5), atol=0.06, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_ar1_autocorrelation_is_beta_to_the_lag(beta):
    x = draw(AR1Noise(beta))
    for lag in range(1, 12):
        correlation = (x[:, :, lag:] * x[:, :, :-lag]).mean()
        assert correlation == pytest.approx(beta**lag, abs=0.03)


def test_ar1_noise_of_each_component():
    x = draw(AR1Noise([0.0, 0.9]))
    for component, beta in enumerate((0.0, 0.9)):
        correlation = (x[:, :, 1:, component] * x[:, :, :-1, component]).mean()
        assert correlation == pytest.approx(beta, abs=0.03)
    with pytest.raises(ValueError, match=r"3 components, but an action has 2"):
        draw(AR1Noise([0.0, 0.9, 0.9]))
    for beta in ([], [0.5, 1.0]):
        with pytest.raises(ValueError, match=r"beta must be in \[0, 1\)"):
            AR1Noise(beta)


def test_ar1_matrix_is_the_recursion():
    z = torch.randn(9, generator=torch.Generator().manual_seed(1))
    x = [z[0]]
    for value in z[1:]:
        x.append(0.7 * x[-1] + (1 - 0.7**2) ** 0.5 * value)
    torch.testing.assert_close(AR1Noise(0.7).matrix(9) @ z, torch.stack(x))


def test_colored_noise_has_its_power_spectrum():
    x = draw(ColoredNoise(2.0), horizon=256, batch=1, num=2000, dims=1)[0, ..., 0]
    power = torch.fft.rfft(x * torch.hann_window(256)).abs().square().mean(0)[4:60]
    frequency = torch.arange(4, 60).log()
    slope = torch.linalg.lstsq(
        torch.stack([frequency, torch.ones(56)], 1), power.log().unsqueeze(1)
    ).solution[0]
    assert slope.item() == pytest.approx(-2.0, abs=0.15)


def test_colored_noise_is_white_at_zero_smoother_with_the_exponent_and_does_not_wrap_around():
    lag_one = [draw(ColoredNoise(e))[:, :, 1:].mul(draw(ColoredNoise(e))[:, :, :-1]).mean()
               for e in (0.0, 1.0, 2.0)]  # fmt: skip
    assert abs(lag_one[0]) < 0.1 < lag_one[1] < lag_one[2] < 1
    x = draw(ColoredNoise(2.0))
    assert (x[:, :, -1] * x[:, :, 0]).mean() < 0, "the last step must not resemble the first"


def test_bad_parameters():
    for make in (lambda: AR1Noise(1.0), lambda: AR1Noise(-0.1), lambda: ColoredNoise(-1.0),
                 lambda: ColoredNoise(float("nan"))):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            make()


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_candidates_have_the_std_asked_for_in_each_dimension(noise, box):
    seen = []

    def cost(actions):
        seen.append(actions.clone())
        return actions.sum((-1, -2))

    CEM(horizon=8, num_samples=20_000, iterations=1, std=[0.2, 0.05], noise=noise).plan(
        cost, box(2)
    )
    expected = torch.tensor([0.2, 0.05]).expand(8, 2)
    torch.testing.assert_close(seen[0][0].std(0), expected, rtol=0.03, atol=0)
