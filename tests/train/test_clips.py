"""Clips in memory: subsets and random crops."""

import torch

from cola_train.data.clips import Clips


def numbered(episodes: int = 3) -> Clips:
    frames = torch.randint(0, 255, (episodes, 5, 16, 16, 3), dtype=torch.uint8)
    return Clips(frames, torch.rand(episodes, 4, 5))


def test_crops_are_shifted_copies_with_the_same_actions() -> None:
    clips = numbered()
    more = clips.with_crops(2, margin=3, generator=torch.Generator().manual_seed(0))
    assert more.episodes == 9 and more.latents is None
    assert torch.equal(more.frames[:3], clips.frames)
    assert torch.equal(more.actions[6:], clips.actions)
    shifts = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    inner = slice(3, 13)
    for episode in range(3, 9):
        source = clips.frames[episode % 3]
        crop = more.frames[episode][:, inner, inner]
        found = [
            (y, x) for y, x in shifts
            if torch.equal(crop, source[:, 3 + y : 13 + y, 3 + x : 13 + x])
        ]  # fmt: skip
        assert len(found) == 1, "one shift for the whole episode"


def test_the_first_episodes_are_a_dataset_of_their_own() -> None:
    clips = numbered()
    assert torch.equal(clips.first(2).frames, clips.frames[:2])
    assert clips.first(2).episodes == 2
