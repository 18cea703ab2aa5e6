"""Latents on disk: the same as in memory, resumed, and never those of another autoencoder."""

from pathlib import Path

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips, encode
from cola_train.data.latent_cache import cached_latents, cached_stream
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.data.stream import Stream
from tests.train.conftest import write_videos


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


def stop_after(monkeypatch: pytest.MonkeyPatch, model: ColaWorldModel, spans: int) -> None:
    """``model.encode`` raises KeyboardInterrupt behind so many spans (and one for the shape)."""
    whole, calls = type(model).encode, []

    def encode(frames: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > spans + 1:
            raise KeyboardInterrupt
        return whole(model, frames)

    monkeypatch.setattr(model, "encode", encode)


def encoded_anew(monkeypatch: pytest.MonkeyPatch, model: ColaWorldModel) -> list[int]:
    """Grows by one with every call of ``model.encode``, which works again."""
    whole, calls = type(model).encode, []
    monkeypatch.setattr(model, "encode", lambda frames: calls.append(1) or whole(model, frames))
    return calls


@pytest.mark.parametrize("spans", [0, 1, 2])
def test_a_stopped_run_goes_on_with_the_next_episode(
    model, clips, tmp_path, monkeypatch, spans: int
) -> None:
    expected = clips.encode(model).latents
    stop_after(monkeypatch, model, spans)
    with pytest.raises(KeyboardInterrupt):
        cached_latents(clips, model, tmp_path)
    calls = encoded_anew(monkeypatch, model)
    assert torch.equal(cached_latents(clips, model, tmp_path).latents, expected)
    assert len(calls) == 1 + clips.episodes - spans, "one is for the shape"


def test_two_runs_that_share_a_folder_may_both_be_stopped(
    model, clips, tmp_path, monkeypatch
) -> None:
    expected = clips.encode(model).latents
    other, whole, calls = model, type(model).encode, []

    def another_run_stops_meanwhile(frames: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                stop_after(patch, other, spans=2)
                cached_latents(clips, other, tmp_path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(model, frames)

    monkeypatch.setattr(model, "encode", another_run_stops_meanwhile)
    with pytest.raises(KeyboardInterrupt):
        cached_latents(clips, model, tmp_path)
    monkeypatch.undo()
    assert torch.equal(cached_latents(clips, model, tmp_path).latents, expected)


def test_what_is_noted_of_a_long_stream_is_a_byte_a_piece(model, tmp_path, monkeypatch) -> None:
    folder = write_videos(tmp_path / "videos", [5, 9, 7, 8])
    config = LoadingConfig(memory_gb=0, workers=0, index=str(tmp_path / "index"))
    stream = DataSources(str(folder), config).split("train", 64)
    stop_after(monkeypatch, model, spans=2)
    with pytest.raises(KeyboardInterrupt):
        cached_stream(stream, model, tmp_path / "latents")
    (progress,) = (tmp_path / "latents").glob("*.done")
    assert progress.read_text() == "11"
    calls = encoded_anew(monkeypatch, model)
    cached_stream(stream, model, tmp_path / "latents")
    assert progress.read_text() == "111" and len(calls) == 2


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


def test_two_processes_that_begin_at_once_share_a_file(model, clips, tmp_path, monkeypatch) -> None:
    expected = cached_latents(clips, model, tmp_path).latents.clone()
    calls = encoded_anew(monkeypatch, model)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as seen before the other had begun
    assert torch.equal(cached_latents(clips, model, tmp_path).latents, expected)
    assert len(calls) == 1  # for the shape


def test_a_damaged_file_is_named(model, clips, tmp_path) -> None:
    cached_latents(clips, model, tmp_path)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ColaWorldError, match="are damaged"):
        cached_latents(clips, model, tmp_path)


def test_latents_of_streamed_episodes_leave_out_what_cannot_be_read(model, tmp_path) -> None:
    folder = write_videos(tmp_path / "videos", [5, 9, 7, 8])
    config = LoadingConfig(memory_gb=0, workers=0, index=str(tmp_path / "index"))
    sources = DataSources(str(folder), config)
    stream = sources.split("train", 64)
    assert isinstance(stream, Stream)
    Path(stream.entry(stream.spans[1]).file).write_bytes(b"gone")
    with pytest.warns(UserWarning, match="damaged and skipped"):
        cached = cached_stream(stream, model, tmp_path / "latents")
    assert len(cached.spans) == 2 and len(sources.damage_report.files) == 1
    for _ in range(2):
        batch = cached.sample(4, 3, torch.Generator().manual_seed(0))
        expected = encode(model, batch.frames)
        torch.testing.assert_close(batch.latents, expected, rtol=1e-2, atol=1e-2)
        cached = cached_stream(stream, model, tmp_path / "latents")
    assert len(list((tmp_path / "latents").glob("*.npy"))) == 1
