"""Latents on disk: the same as in memory, resumed, and never those of another autoencoder."""

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips
from cola_train.data.latent_cache import cached_latents


@pytest.fixture
def model() -> ColaWorldModel:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_heads": 2}
    return ColaWorldModel(
        autoencoder_config={"channels": (8, 8, 8)},
        stdit_config=small | {"depth": 1},
        conditioner_config=small,
    )


@pytest.fixture
def clips() -> Clips:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (3, 4, 64, 64, 3), dtype=torch.uint8, generator=generator)
    return Clips(frames, torch.zeros(3, 3, 5))


def test_they_are_those_of_memory_and_are_made_once(model, clips, tmp_path, monkeypatch) -> None:
    expected = clips.encode(model)
    cached = cached_latents(clips, model, tmp_path)
    assert torch.equal(cached.latents, expected.latents)
    drawn = cached.sample(5, 2, torch.Generator().manual_seed(1))
    same = expected.sample(5, 2, torch.Generator().manual_seed(1))
    assert torch.equal(drawn.latents, same.latents)
    (file,) = tmp_path.glob("*.npy")
    before = file.stat().st_mtime_ns
    assert torch.equal(cached_latents(clips, model, tmp_path).latents, expected.latents)
    assert file.stat().st_mtime_ns == before


def test_a_stopped_run_goes_on_with_the_next_episode(model, clips, tmp_path, monkeypatch) -> None:
    whole, calls = model.encode, []

    def stops(frames: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(frames)

    monkeypatch.setattr(model, "encode", stops)
    with pytest.raises(KeyboardInterrupt):
        cached_latents(clips, model, tmp_path)
    calls.clear()
    monkeypatch.setattr(model, "encode", lambda frames: calls.append(1) or whole(frames))
    cached = cached_latents(clips, model, tmp_path)
    assert len(calls) == 2  # one for the shape, one for the episode that was missing
    assert torch.equal(cached.latents, clips.encode(model).latents)


def test_another_autoencoder_gets_its_own(model, clips, tmp_path) -> None:
    before = cached_latents(clips, model, tmp_path).latents.clone()
    with torch.no_grad():
        model.stdit.x_embedder.weight.zero_()
    cached_latents(clips, model, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    with torch.no_grad():
        model.autoencoder.latent_mean += 1
    after = cached_latents(clips, model, tmp_path).latents
    assert len(list(tmp_path.glob("*.npy"))) == 2
    torch.testing.assert_close(after, before - 1, rtol=0, atol=2e-3)


def test_a_damaged_file_is_named(model, clips, tmp_path) -> None:
    cached_latents(clips, model, tmp_path)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ColaWorldError, match="are damaged"):
        cached_latents(clips, model, tmp_path)
