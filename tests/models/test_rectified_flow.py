"""The flow's conventions against its formulas and diffusers' sampler."""

import torch

from cola_env.models.rectified_flow import (
    add_noise,
    euler_scheduler,
    sample_noise_levels,
    velocity_to_clean,
)


def test_the_true_velocity_leads_back_to_the_data() -> None:
    clean, noise = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    t = torch.rand(2, 3).clamp_min(0.1)
    noised = add_noise(clean, noise, t)
    torch.testing.assert_close(velocity_to_clean(clean, noised, t), clean - noise)
    x = noise
    scheduler = euler_scheduler(7)
    for timestep in scheduler.timesteps:
        x = scheduler.step(-(clean - noise), timestep, x, return_dict=False)[0]
    torch.testing.assert_close(x, clean, rtol=1e-5, atol=1e-5)


def test_the_sampler_starts_at_pure_noise_on_an_even_grid() -> None:
    torch.testing.assert_close(euler_scheduler(4).sigmas, torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


def test_noise_levels_have_clean_context_and_the_asked_share_of_pure_noise() -> None:
    levels = sample_noise_levels(4000, 6, 0.5, torch.Generator().manual_seed(0))
    assert (levels[:, 0] == 0).all()
    clean = (levels == 0).sum(1)
    assert set(clean.tolist()) == {1, 2, 3, 4, 5}
    assert ((levels == 0).int().diff(dim=1) <= 0).all()
    noised = levels[levels > 0]
    assert abs((noised == 1).float().mean() - 0.5) < 0.02
    rest = noised[noised < 1].logit()
    assert abs(rest.mean()) < 0.05
    assert abs(rest.std() - 1) < 0.05
