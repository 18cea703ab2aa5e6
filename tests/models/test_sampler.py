"""The sampler's conventions against its formulas and diffusers' sampler."""

import math
from types import SimpleNamespace

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling

from cola_env.models.rectified_flow import (
    NoisedClip,
    add_noise,
    euler_scheduler,
    shift_factor,
    shift_levels,
    velocity_to_clean,
)
from cola_train.phases.noise_levels import sample_clip_levels, sample_noise_levels
from tests.models.small import small_model


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


def test_the_context_is_as_long_as_asked() -> None:
    levels = sample_noise_levels(4000, 6, 0.9, torch.Generator().manual_seed(0), max_context=2)
    clean = (levels == 0).sum(1)
    assert set(clean.tolist()) == {1, 2}
    assert abs((clean == 1).float().mean() - 0.75) < 0.03


def test_the_shift_is_open_soras_for_the_real_number_of_latent_frames() -> None:
    assert shift_factor(512, 512, 1) == 1
    assert math.isclose(shift_factor(256, 256, 8), math.sqrt(256 * 256 / 512**2) * math.sqrt(8))
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = shift_levels(t, 1.7)
    torch.testing.assert_close(
        shifted[1:-1].logit() - t[1:-1].logit(),
        torch.full((9,), 1.7).log().double(),
        rtol=0,
        atol=1e-6,
    )
    assert (shifted[0], shifted[-1]) == (0, 1)
    torch.testing.assert_close(
        euler_scheduler(10, 1.7).sigmas.double(), shifted.flip(0), rtol=0, atol=1e-6
    )


def test_the_levels_of_training_clips_are_logit_normal_shifted_and_one_a_clip() -> None:
    levels = sample_clip_levels(20000, 6, 1.7, torch.Generator().manual_seed(0)).double()
    assert (levels[:, 0] == 0).all()
    noised = levels[:, -1]
    assert ((levels == noised[:, None]) | (levels == 0)).all()
    before = noised.logit() - math.log(1.7)
    reference = compute_density_for_timestep_sampling(
        "logit_normal", 20000, logit_mean=0, logit_std=1, generator=torch.Generator().manual_seed(1)
    ).logit()
    shares = torch.linspace(0.05, 0.95, 19).double()
    torch.testing.assert_close(
        before.quantile(shares), reference.double().quantile(shares), rtol=0, atol=0.06
    )


def test_sampling_leads_the_noised_frames_to_the_data_and_leaves_the_clean_ones() -> None:
    clean, noise = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    noised = torch.tensor([[False, True, True, True], [False, False, True, True]])
    clip, levels = NoisedClip.of(clean, noise, noised.float(), torch.zeros(2, 3, 1)), []

    def velocity(latents: torch.Tensor, level: torch.Tensor, *others: object) -> tuple:
        levels.append(level)
        return clean - noise, ()

    model = SimpleNamespace(velocity=velocity, clip_context=lambda frames: None)
    found = clip.latents + clip.mean_velocity(model, torch.zeros(2, 4), 5, shift=1.7)
    torch.testing.assert_close(found, clean, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[~noised], clean[~noised])
    assert len(levels) == 5 and all((level > 0).equal(noised) for level in levels)


def test_training_clips_stand_behind_the_models_own_frames_where_asked() -> None:
    model, generator = small_model(conditioning="direct"), torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(3, 5, 16, 8, 8, generator=generator) for _ in range(2))
    actions = torch.randn(3, 4, 64, generator=generator)
    t = torch.ones(3, 5)
    t[:, :2] = 0
    true = NoisedClip.of(latents, noise, t, actions)
    chosen = torch.tensor([[True] * 5, [False] * 5, [False, False, False, False, True]])
    clip = true.behind_predictions(model, chosen)
    end = torch.zeros_like(t)
    with torch.no_grad():
        predicted = true.latents + t[..., None, None, None] * true.mean_velocity(model, end, 1)
    torch.testing.assert_close(clip.previous[0, 3:], predicted[0, 2:4])
    assert (clip.previous[0, 3:] - true.previous[0, 3:]).abs().mean() > 0.1
    torch.testing.assert_close(clip.previous[0, :3], true.previous[0, :3])  # behind clean frames
    assert torch.equal(clip.previous[1], true.previous[1])
    assert torch.equal(clip.previous[2, :4], true.previous[2, :4])
    torch.testing.assert_close(clip.previous[2, 4], predicted[2, 3])
    assert not clip.previous.requires_grad
    with torch.no_grad():
        second = clip.latents + t[..., None, None, None] * clip.mean_velocity(model, end, 1)
    again = clip.behind_predictions(model, chosen)
    torch.testing.assert_close(again.previous[0, 4], second[0, 3])
    assert (again.previous[0, 4] - clip.previous[0, 4]).abs().mean() > 0.01
    torch.testing.assert_close(again.previous[0, :4], clip.previous[0, :4])
