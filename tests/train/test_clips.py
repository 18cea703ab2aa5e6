"""Clips in memory: subsets, and random crops of them."""

import pytest
import torch

from cola_train.data.clips import ClipBatch, Clips, random_crops
from tests.train.small import moving_square, small_model


def numbered(episodes: int = 3) -> Clips:
    frames = torch.randint(0, 255, (episodes, 5, 16, 16, 3), dtype=torch.uint8)
    return Clips(frames, torch.rand(episodes, 4, 5))


def test_a_crop_is_one_square_of_a_clip_brought_back_to_its_size() -> None:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    frames = (torch.stack([rows, columns, rows + columns], -1) * 8).to(torch.uint8)
    batch = ClipBatch(frames.expand(40, 5, 16, 16, 3), torch.zeros(40, 5, 4), torch.rand(40, 4, 5))
    crops = random_crops(batch, 0.25, torch.Generator().manual_seed(0))
    assert crops.frames.shape == batch.frames.shape and crops.frames.dtype == torch.uint8
    assert torch.equal(crops.actions, batch.actions) and crops.latents.numel() == 0
    assert (crops.frames == crops.frames[:, :1]).all(), "one crop for the whole clip"
    first = crops.frames[:, 0].float() / 8
    height, width = first[:, -1, 8, 0] - first[:, 0, 8, 0], first[:, 8, -1, 1] - first[:, 8, 0, 1]
    torch.testing.assert_close(height, width, atol=0.3, rtol=0)
    assert height.min() > 6 and height.max() < 15.2 and height.std() > 1
    assert first[:, 0, 8, 0].min() < 1 and first[:, -1, 8, 0].max() > 14
    again = random_crops(batch, 0.25, torch.Generator().manual_seed(0))
    assert torch.equal(again.frames, crops.frames)


def test_the_first_episodes_are_a_dataset_of_their_own() -> None:
    clips = numbered()
    assert torch.equal(clips.first(2).frames, clips.frames[:2])
    assert clips.first(2).episodes == 2


def test_large_batches_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model().eval()
    batch = moving_square(episodes=4).sample(5, 3, torch.Generator().manual_seed(0))
    whole, encode, sizes = batch.encoded(model).latents, model.encode, []

    def spy(frames: torch.Tensor) -> torch.Tensor:
        sizes.append(len(frames))
        return encode(frames)

    monkeypatch.setattr(model, "encode", spy)
    monkeypatch.setattr("cola_train.data.clips.ENCODED_PIXELS", 2 * 3 * 64**2)
    torch.testing.assert_close(batch.encoded(model).latents, whole)
    assert sizes == [2, 2, 1]
