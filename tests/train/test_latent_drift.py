"""What of a latent action model's change is movement, and what only other names."""

import pytest
import torch

from cola_train.data.clips import fixed_batch
from cola_train.evaluation.latent_drift import (
    LatentActions,
    latent_actions,
    latent_drift,
    linear_cka,
    regrouped,
)
from tests.train.small import moving_square, small_model


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def codes(count: int = 600, size: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randint(size, (count, 2), generator=torch.Generator().manual_seed(seed))


def test_what_has_not_moved_has_no_drift() -> None:
    still = LatentActions(drawn(600, 2, 4), codes())
    found = latent_drift(still, still)
    assert (found.changed, found.regrouped, found.distance) == (0, 0, 0)
    assert found.reshaped == pytest.approx(0, abs=1e-12)
    assert found.chance > 0.5, "of six codes that are as frequent"


def test_codes_that_swap_their_numbers_have_changed_but_not_regrouped() -> None:
    tokens, before = drawn(600, 2, 4), codes()
    names = torch.tensor([3, 0, 4, 5, 1, 2])
    found = latent_drift(LatentActions(tokens, before), LatentActions(tokens, names[before]))
    assert found.changed == 1 and found.regrouped == 0


def test_codes_that_merge_or_go_elsewhere_have_regrouped() -> None:
    before = torch.arange(6).repeat(100)
    merged = torch.where(before == 5, 0, before)
    assert regrouped(before, merged) == pytest.approx(1 / 6)
    moved = before.clone()
    moved[:60] = (moved[:60] + 1) % 6
    assert regrouped(before, moved) == pytest.approx(0.1)
    assert regrouped(torch.zeros(8, dtype=torch.long), torch.full((8,), 30)) == 0


def test_tokens_that_turn_as_a_whole_move_without_being_reshaped() -> None:
    before = drawn(600, 2, 4)
    turn, _ = torch.linalg.qr(drawn(8, 8, seed=1))
    turned = (3 * before.flatten(1) @ turn + 5).view_as(before)
    found = latent_drift(LatentActions(before, codes()), LatentActions(turned, codes()))
    assert found.reshaped == pytest.approx(0, abs=1e-9)
    assert found.distance > 3
    other = latent_drift(
        LatentActions(before, codes()), LatentActions(drawn(600, 2, 4, seed=2), codes())
    )
    assert other.reshaped > 0.9
    assert other.distance == pytest.approx(2**0.5, rel=0.05)


def test_linear_cka_is_that_of_the_gram_matrices() -> None:
    """Kornblith et al. 2019, eq. 1 to 3: HSIC of linear kernels."""
    x, y = drawn(50, 5), drawn(50, 3, seed=1)
    y[:, 0] += x[:, 0]
    centre = torch.eye(50, dtype=torch.float64) - 1 / 50
    k, m = (centre @ each @ each.T @ centre for each in (x, y))
    expected = (k * m).sum() / (k.norm() * m.norm())
    assert linear_cka(x, y) == pytest.approx(float(expected), rel=1e-9)


def test_the_latent_actions_are_those_of_the_model() -> None:
    model, clips = small_model().eval(), moving_square(episodes=6)
    batch = fixed_batch(clips, model, 40, 4)
    found = latent_actions(model, batch)
    assert found.tokens.shape == (40 * 3, 2, 32) and found.codes.shape == (40 * 3, 2)
    expected = model.infer_actions(batch.frames).codes.flatten(0, 1)
    assert (found.codes == expected).float().mean() > 0.99
    with torch.no_grad():
        for weight in model.idm.parameters():
            weight += 0.2 * drawn(*weight.shape).to(weight)
    drift = latent_drift(found, latent_actions(model, batch))
    assert min(drift.changed, drift.reshaped, drift.distance) > 0
