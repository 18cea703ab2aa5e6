"""Real actions become latent ones, by the paper's network and by ours."""

import torch
from torch.nn.functional import cross_entropy, gelu, linear

from cola_env.models.latent_action.adapter import Adapter, AdapterConfig
from cola_env.models.sizes import PAPER

LATENTS = (16, 8, 8)


def test_the_papers_is_a_two_layer_mlp_of_the_action() -> None:
    adapter = Adapter(AdapterConfig(**PAPER["adapter_config"]), 7, num_tokens=2, num_codes=32)
    actions = torch.rand(3, 5, 7) * 2 - 1
    first, last = adapter.action_in, adapter.out[-1]
    hidden = gelu(linear(actions, first.weight, first.bias), approximate="tanh")
    expected = linear(hidden, last.weight, last.bias).unflatten(-1, (2, 32))
    assert torch.allclose(adapter(actions, None), expected, atol=1e-6)
    assert sum(p.numel() for p in adapter.parameters()) == 7 * 256 + 256 + 256 * 64 + 64


def test_vectors_are_the_best_code_or_the_mean_under_the_distribution() -> None:
    logits, codes = torch.randn(4, 2, 32), torch.randn(2, 32, 6)
    hard = Adapter(AdapterConfig(soft=False), 5, 2, 32).vectors(logits, codes)
    soft = Adapter(AdapterConfig(soft=True), 5, 2, 32).vectors(logits, codes)
    for token in range(2):
        best = logits[:, token].argmax(-1)
        assert torch.equal(hard[:, token], codes[token][best])
        expected = logits[:, token].softmax(-1) @ codes[token]
        assert torch.allclose(soft[:, token], expected, atol=1e-6)
    sure = torch.full((1, 2, 32), -50.0)
    sure[..., 7] = 50.0
    adapter = Adapter(AdapterConfig(soft=True), 5, 2, 32)
    assert torch.allclose(adapter.vectors(sure, codes)[0], codes[:, 7], atol=1e-6)


def test_the_code_of_an_action_can_depend_on_the_frame_that_it_starts_from() -> None:
    """A sign in the frame turns the action round, so half of the codes are wrong without it."""
    torch.manual_seed(0)
    adapter = Adapter(AdapterConfig(hidden_size=32), 2, num_tokens=1, num_codes=2)
    optimizer = torch.optim.AdamW(adapter.parameters(), 3e-3)
    for _ in range(150):
        sign = torch.randint(0, 2, (128, 1)) * 2.0 - 1
        actions = torch.rand(128, 2) * 2 - 1
        latents = sign[..., None, None].expand(128, *LATENTS)
        codes = (actions[:, 0] * sign[:, 0] > 0).long()
        logits = adapter(actions, latents)[:, 0]
        optimizer.zero_grad()
        cross_entropy(logits, codes).backward()
        optimizer.step()
    assert (logits.argmax(-1) == codes).float().mean() > 0.8
