"""The quantizer and the health of its codebook."""

import math

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.latent_action.codebook_health import (
    code_counts,
    health_of_counts,
    joint_index,
)
from cola_env.models.latent_action.quantizer import (
    GaussianBottleneck,
    QuantizerConfig,
    VectorQuantizer,
)


@pytest.mark.parametrize("shared", [True, False])
def test_codes_are_the_nearest_and_gradients_pass_straight_through(shared: bool) -> None:
    torch.manual_seed(0)
    config = QuantizerConfig(normalize=False, commitment_weight=0.25, shared=shared)
    quantizer = VectorQuantizer(config)
    books = quantizer.codebook.expand(2, 32, 32)
    tokens = torch.randn(7, 2, 32, requires_grad=True)
    quantized = quantizer(tokens)
    distance = (tokens[:, :, None] - books).square().sum(-1)
    assert torch.equal(quantized.codes, distance.argmin(-1))
    expected = torch.stack([books[i][quantized.codes[:, i]] for i in range(2)], dim=1)
    torch.testing.assert_close(quantized.vectors, expected)
    error = (tokens - expected).square().mean()
    torch.testing.assert_close(quantized.loss, 1.25 * error)
    upstream = torch.randn_like(tokens)
    (gradient,) = torch.autograd.grad((quantized.vectors * upstream).sum(), tokens)
    torch.testing.assert_close(gradient, upstream)


def test_the_two_losses_move_code_and_token_apart() -> None:
    quantizer = VectorQuantizer(QuantizerConfig(codebook_weight=1.0, commitment_weight=0.0))
    tokens = torch.randn(5, 2, 32, requires_grad=True)
    quantizer(tokens).loss.backward()
    assert tokens.grad is None or tokens.grad.abs().sum() == 0
    assert quantizer.codebook.grad is not None
    assert quantizer.codebook.grad.abs().sum() > 0


def test_k_means_finds_the_clusters_of_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    config = QuantizerConfig(num_codes=4, code_size=2, normalize=False)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    picks = torch.randint(4, (400, 2), generator=generator)
    tokens = centres[picks] + 0.1 * torch.randn(400, 2, 2, generator=generator)
    quantizer = VectorQuantizer(config)
    quantizer.fit_codebook(tokens, generator)
    assert quantizer(tokens).loss < 0.05


def test_dead_codes_move_onto_the_data_of_their_token_and_live_ones_stay() -> None:
    quantizer = VectorQuantizer(QuantizerConfig(normalize=False))
    before = quantizer.codebook.detach().clone()
    first = torch.tensor([i for i in range(32) if i not in (3, 9)])
    second = torch.tensor([i for i in range(32) if i not in (5, 6)])
    for _ in range(200):
        quantizer.track_usage(torch.stack([first, second], dim=1))
    assert quantizer.usage[0, first].sum() > 0.99
    tokens = torch.tensor([5.0, 7.0])[:, None].expand(6, 2, 32)
    assert quantizer.restart_dead_codes(tokens, torch.Generator().manual_seed(0)) == 4
    assert (quantizer.codebook[0, [3, 9]] == 5).all()
    assert (quantizer.codebook[1, [5, 6]] == 7).all()
    assert torch.equal(quantizer.codebook[0, first], before[0, first])
    assert torch.equal(quantizer.codebook[1, second], before[1, second])
    assert quantizer.restart_dead_codes(tokens, torch.Generator().manual_seed(0)) == 0


def test_a_shared_codebook_serves_all_tokens() -> None:
    quantizer = VectorQuantizer(QuantizerConfig(shared=True))
    assert quantizer.codebook.shape == (1, 32, 32)
    codes = torch.tensor([[4, 4]])
    assert torch.equal(quantizer.lookup(codes)[0, 0], quantizer.lookup(codes)[0, 1])
    quantizer.track_usage(torch.tensor([[0, 1]]))
    assert quantizer.usage[0, 0] == quantizer.usage[0, 1] > quantizer.usage[0, 2]


def test_health_of_a_uniform_and_of_a_collapsed_codebook() -> None:
    grid = torch.cartesian_prod(torch.arange(32), torch.arange(32))
    assert joint_index(grid, 32).tolist() == list(range(1024))
    healthy = health_of_counts(code_counts(grid, 32))
    assert healthy.utilisation == 1
    assert healthy.entropy == pytest.approx(math.log(1024))
    collapsed = health_of_counts(code_counts(torch.zeros(100, 2, dtype=torch.long), 32))
    assert (collapsed.max_usage, collapsed.entropy) == (1, 0)


def test_the_rotation_trick_turns_gradients_with_the_token() -> None:
    torch.manual_seed(0)
    config = QuantizerConfig(num_tokens=1, code_size=5, normalize=False, gradient="rotation")
    quantizer = VectorQuantizer(config).double()
    tokens = torch.randn(1, 1, 5, dtype=torch.float64, requires_grad=True)
    quantized = quantizer(tokens)
    code = quantizer.lookup(quantized.codes)
    torch.testing.assert_close(quantized.vectors, code, rtol=0, atol=1e-6)
    # The rotation within the plane of token and code, from the cosine and sine of their angle.
    a = (tokens / tokens.norm()).detach().flatten()
    b = (code / code.norm()).detach().flatten()
    cos = a @ b
    c = (b - cos * a) / (b - cos * a).norm()
    sin = b @ c
    rotation = torch.eye(5).double() + sin * (torch.outer(c, a) - torch.outer(a, c))
    rotation += (cos - 1) * (torch.outer(a, a) + torch.outer(c, c))
    upstream = torch.randn(5, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((quantized.vectors.flatten() * upstream).sum(), tokens)
    scale = (code.norm() / tokens.norm()).detach()
    expected = scale * rotation.T @ upstream
    torch.testing.assert_close(gradient.flatten(), expected, rtol=1e-5, atol=1e-6)


def test_the_gaussian_bottleneck_is_drawn_from_only_where_the_idm_learns() -> None:
    torch.manual_seed(0)
    config = QuantizerConfig(kind="gaussian", num_tokens=1, kl_weight=0.5)
    bottleneck = GaussianBottleneck(config)
    tokens = torch.randn(4000, 1, 32)
    still = bottleneck(tokens)
    assert still.codes.shape == (4000, 0)
    torch.testing.assert_close(still.vectors, bottleneck.normalize(tokens))
    assert health_of_counts(code_counts(still.codes, 32)).entropy == 0
    mean, log_variance = bottleneck.moments(tokens).double().chunk(2, -1)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).sum((-2, -1)).mean()
    torch.testing.assert_close(still.loss.double(), 0.5 * expected, rtol=1e-4, atol=0)
    drawn = bottleneck(tokens.requires_grad_()).vectors - still.vectors
    deviation = (drawn / (0.5 * log_variance).exp()).detach()
    assert abs(float(deviation.mean())) < 0.02
    assert abs(float(deviation.std()) - 1) < 0.02


def test_unknown_options_are_named() -> None:
    with pytest.raises(ColaWorldError, match="quantizer_config.kind must be 'codes' or 'gaussian'"):
        QuantizerConfig(kind="fuzzy")
    with pytest.raises(ColaWorldError, match="quantizer_config.gradient"):
        QuantizerConfig(gradient="none")


def test_what_all_tokens_have_in_common_goes_over_the_batch() -> None:
    config = QuantizerConfig(num_codes=4, code_size=3, over_batch=True)
    quantizer = VectorQuantizer(config)
    told = torch.randn(256, 2, 3, generator=torch.Generator().manual_seed(0))
    tokens = (20 + told).requires_grad_()
    found = quantizer.normalize(tokens)
    torch.testing.assert_close(found.mean(0), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(2, 3), atol=1e-2, rtol=0)
    one = tokens.detach()[:1]
    quantizer.fit_statistics(tokens.detach())
    torch.testing.assert_close(quantizer.normalize(one), found[:1], atol=0.02, rtol=0.02)
    again = VectorQuantizer(config)
    again.load_state_dict(quantizer.state_dict())
    torch.testing.assert_close(again(one).vectors, quantizer(one).vectors)
    for refused in ({"normalize": False}, {"kind": "gaussian"}):
        with pytest.raises(ColaWorldError, match="over_batch=true .* needs normalize=true"):
            QuantizerConfig(over_batch=True, **refused)
