"""The world model: causality, caching, guidance, saving."""

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.dream_state import Candidates, DreamState
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from tests.models.small import SMALL, small_model


@pytest.fixture(
    params=[
        {"residual": True},
        {"residual": False},
        {"temporal_every": 2, "depth": 3},
        {"conv_channels": 16},
        {"channels": (16,)},
        {"channels": (8, 16), "patch_size": 1, "flows": 2},
    ],
    ids=["residual", "velocity", "fewer_temporal_blocks", "convolutions", "pyramid", "flows"],
)
def model(request: pytest.FixtureRequest, device: torch.device) -> ColaWorldModel:
    return small_model(stdit_config=SMALL["stdit_config"] | request.param).to(device)


def clip(model: ColaWorldModel, frames: int = 5, batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, frames, 16, 8, 8, generator=generator)
    inputs = {
        "noised": torch.randn(latents.shape, generator=generator),
        "t": torch.rand(batch, frames, generator=generator),
        "actions": torch.randn(batch, frames, 64, generator=generator),
        "previous": torch.cat([latents[:, :1], latents[:, :-1]], dim=1),
    }
    return {name: x.to(model.device) for name, x in inputs.items()}


@pytest.mark.parametrize("batch", [2, pytest.param(5, id="as many clips as frames")])
def test_no_frame_depends_on_a_later_one(model: ColaWorldModel, batch: int) -> None:
    inputs = {name: x.requires_grad_() for name, x in clip(model, 5, batch).items()}
    velocity, _ = model.velocity(**inputs, time=model.clip_context(5))
    velocity[:, 2].square().sum().backward()
    for name in ("noised", "t", "actions"):
        gradient = inputs[name].grad
        assert gradient is not None
        assert gradient[:, 3:].abs().sum() == 0
        assert gradient[:, 2].abs().sum() > 0
    assert inputs["actions"].grad[:, 1].abs().sum() > 0


@torch.no_grad()
def test_frame_by_frame_behind_a_cached_past_equals_the_whole_clip(model: ColaWorldModel) -> None:
    frames, known = 9, 3
    inputs = clip(model, frames)
    whole, _ = model.velocity(**inputs, time=model.clip_context(frames))
    past = {name: x[:, :known] for name, x in inputs.items()}
    _, cache = model.velocity(**past, time=model.clip_context(known))
    seen = torch.full((2,), known, device=model.device)
    state = DreamState(inputs["previous"][:, known], cache, seen)
    candidates = Candidates.of(state, 1, frames - known, model.window, guided=False)
    parts = []
    for i in range(frames - known):
        now = {name: x[:, known + i : known + i + 1] for name, x in inputs.items()}
        time = candidates.time(model.head_dim, i)
        parts.append(model.velocity(**now, time=time, past=candidates.past_of(i))[0])
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, known:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_candidates_of_a_rollout_equal_dreams_of_their_own(
    model: ColaWorldModel, scale: float
) -> None:
    frames = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    young = model.begin(frames[1:, :1])
    state = model.begin(frames).put(torch.tensor([1], device=model.device), young)
    actions = torch.rand(2, 3, 4, 5) * 2 - 1
    sampling = {"num_inference_steps": 2, "guidance_scale": scale}
    noise = torch.randn(4, 2, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    together = model.rollout(state, actions, noise=noise, **sampling)
    alone = state.select(torch.tensor([0] * 3 + [1] * 3, device=model.device))
    for t in range(4):
        own = noise[t].repeat_interleave(3, 0)
        alone = model.step(alone, actions[:, :, t].flatten(0, 1), noise=own, **sampling)
        expected = model.frames(alone).float() / 255
        torch.testing.assert_close(together[:, :, t].flatten(0, 1), expected, rtol=0, atol=0.02)


def test_later_frames_attend_to_the_clean_frame() -> None:
    model = small_model(stdit_config=SMALL["stdit_config"] | {"residual": False})
    state = model.begin(torch.randint(0, 256, (1, 1, 64, 64, 3), dtype=torch.uint8))
    codes = torch.tensor([[1, 2]])
    keep = {"action_mode": "latent", "num_inference_steps": 3}
    after = model.step(state, codes, guidance_scale=2.0, **keep)
    candidates = Candidates.of(state, 1, 1, model.window, guided=False)
    with torch.no_grad(), autocast(model.device):
        vectors, _ = model.condition(codes, state.latents, "latent")
        model.velocity(
            after.latents[:, None],
            torch.zeros(1, 1),
            vectors[:, None],
            state.latents[:, None],
            candidates.time(model.head_dim, 0),
            candidates.past_of(0),
        )
    for kept, clean in zip(after.cache, candidates.caches(), strict=True):
        torch.testing.assert_close(kept.key.float(), clean.key.float(), rtol=0.05, atol=0.05)


@torch.no_grad()
def test_the_window_forgets_older_frames() -> None:
    model = small_model(
        stdit_config=SMALL["stdit_config"] | {"depth": 1, "window": 3},
        conditioner_config=SMALL["conditioner_config"] | {"num_layers": 1},
    )
    inputs = clip(model)
    before, _ = model.velocity(**inputs, time=model.clip_context(5))
    inputs["noised"][:, 0] += 1
    after, _ = model.velocity(**inputs, time=model.clip_context(5))
    assert not torch.equal(before[:, 2], after[:, 2])
    torch.testing.assert_close(before[:, 3:], after[:, 3:])


def test_dreams_of_different_age_share_a_batch(device: torch.device) -> None:
    model = small_model().to(device)
    frames = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    old = model.begin(frames)
    young = model.begin(frames[:1, :1])
    mixed = old.put(torch.tensor([1], device=device), young)
    assert mixed.seen.tolist() == [3, 1]
    actions, noise = torch.rand(2, 5) * 2 - 1, torch.randn(2, 16, 8, 8)
    together = model.step(mixed, actions, noise=noise)
    alone = model.step(young, actions[1:], noise=noise[1:])
    torch.testing.assert_close(together.latents[1:], alone.latents, rtol=0.05, atol=0.05)
    first = model.step(old, actions, noise=noise)
    torch.testing.assert_close(together.latents[:1], first.latents[:1], rtol=0.05, atol=0.05)


def test_guidance_moves_away_from_the_prediction_without_action(device: torch.device) -> None:
    model = small_model().to(device)
    state = model.begin(torch.randint(0, 256, (2, 2, 64, 64, 3), dtype=torch.uint8))
    codes, noise = torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 16, 8, 8)

    def predict(scale: float) -> torch.Tensor:
        return model.step(
            state, codes, action_mode="latent", guidance_scale=scale, noise=noise
        ).latents

    without, plain, guided = predict(0.0), predict(1.0), predict(3.0)
    assert (plain - without).abs().max() > 0.01
    torch.testing.assert_close(guided, without + 3 * (plain - without), rtol=0.1, atol=0.1)


def test_candidates_share_the_noise_and_leave_the_state() -> None:
    model = small_model()
    state = model.begin(torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8))
    latents = state.latents.clone()
    actions = (torch.rand(2, 1, 4, 5) * 2 - 1).repeat(1, 3, 1, 1)
    frames = model.rollout(state, actions, seed=3)
    assert frames.shape == (2, 3, 4, 64, 64, 3)
    torch.testing.assert_close(frames[:, 0], frames[:, 2])
    assert torch.equal(frames, model.rollout(state, actions, seed=3))
    undecoded = model.rollout(state, actions, seed=3, decoded=False)
    with torch.no_grad(), autocast(model.device):
        assert torch.equal(model.decode(undecoded.flatten(0, 1)).unflatten(0, (2, -1)), frames)
    assert not torch.equal(frames, model.rollout(state, actions, seed=4))
    assert torch.equal(state.latents, latents)


def test_noise_can_be_given_in_place_of_its_seed() -> None:
    model = small_model()
    state = model.begin(torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8))
    codes = torch.zeros(2, 3, 4, 2)
    noise = torch.randn(4, 2, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    given = {"action_mode": "latent", "decoded": False}
    drawn = model.rollout(state, codes, seed=3, **given)
    assert torch.equal(model.rollout(state, codes, noise=noise, **given), drawn)


def test_actions_of_a_long_video_are_read_off_windows_as_in_training() -> None:
    model = small_model()
    frames = torch.rand(1, model.window + 2, 64, 64, 3)
    found = model.infer_actions(frames)
    assert found.vectors.shape[1] == model.window + 1
    for first in range(3):
        part = model.infer_actions(frames[:, first : first + model.window])
        torch.testing.assert_close(found.vectors[:, first + model.window - 2], part.vectors[:, -1])


def test_actions_of_the_future_do_not_change_inferred_ones() -> None:
    model = small_model()
    frames = torch.rand(1, 5, 64, 64, 3)
    before = model.action_tokens(frames, model.encode(frames))
    frames[:, 3:] = 0
    after = model.action_tokens(frames, model.encode(frames))
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


@pytest.mark.parametrize("conditioning", ["latent", "direct"])
def test_saving_and_loading_changes_nothing(conditioning: str, tmp_path) -> None:
    model = small_model(conditioning=conditioning, rendering="fast")
    model.save_pretrained(tmp_path)
    loaded = ColaWorldModel.from_pretrained(tmp_path)
    assert loaded.config.rendering == "fast"
    state = model.begin(torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8))
    action, noise = torch.ones(1, 5), torch.randn(1, 16, 8, 8)
    expected = model.step(state, action, noise=noise).latents
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    torch.testing.assert_close(loaded.step(state, action, noise=noise).latents, expected)


def test_wrong_mode_and_missing_actions_are_named() -> None:
    model = small_model(conditioning="direct")
    frames = torch.zeros(1, 2, 64, 64, 3, dtype=torch.uint8)
    with pytest.raises(ColaWorldError, match="needs the 1 actions"):
        model.begin(frames)
    state = model.begin(frames, torch.zeros(1, 1, 5))
    with pytest.raises(ColaWorldError, match="takes action_mode 'direct'"):
        model.step(state, torch.zeros(1, 2), action_mode="latent")
    for wrong in ((4, 6, 5), (2, 4, 6, 5), (1, 4, 6, 4), (1, 4, 0, 5)):
        with pytest.raises(ColaWorldError, match=r"Actions must have shape \(1, N, H, 5\)"):
            model.rollout(state, torch.zeros(wrong))
    with pytest.raises(ColaWorldError, match=r"Actions must have shape \(1, H, 5\)"):
        model.predict(frames, torch.zeros(1, 6, 4), context_actions=torch.zeros(1, 1, 5))
    with pytest.raises(ColaWorldError, match=r"takes frames of shape"):
        model.begin(frames[:, 0])
    with pytest.raises(ColaWorldError, match="conditioning must be"):
        ColaWorldModel(conditioning="telepathy")
