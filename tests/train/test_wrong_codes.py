"""What is swapped, and what that costs a model that follows its codes and one that does not."""

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_train.data.clips import Clips
from cola_train.evaluation.rollout_quality import Networks, video_quality
from cola_train.evaluation.wrong_codes import SHARES, swapped, wrong_codes
from tests.train.small import moving_square, small_model, teacher_model, with_codes


@pytest.fixture(scope="module")
def clips() -> Clips:
    return moving_square(episodes=6, steps=8)


def test_a_share_of_the_actions_is_another_clips_at_the_same_step() -> None:
    codes = torch.arange(2 * 40 * 10).view(40, 10, 2)
    before = torch.zeros(40, 10, dtype=torch.bool)
    for share in SHARES:
        wrong = swapped(codes, share)
        differ = (wrong != codes).all(-1)
        assert torch.equal(differ, (wrong != codes).any(-1)), "both tokens or none"
        assert differ.float().mean() == pytest.approx(share)
        assert torch.equal(wrong[differ], codes.roll(1, 0)[differ])
        assert not (before & ~differ).any(), "what few take, more take too"
        before = differ
    assert not torch.equal(swapped(codes, 0.5), swapped(codes, 0.5, seed=1))


def test_right_codes_cost_nothing_and_wrong_ones_are_seen(clips: Clips) -> None:
    model = with_codes(teacher_model(), clips)
    found = wrong_codes(model, clips, horizon=3, count=6)
    quality = video_quality(model, clips, 3, Networks(), count=6)
    assert found.psnr[0] == pytest.approx(quality["own"]["psnr"], abs=1e-4)
    assert len(found.psnr) == len(found.error) == len(SHARES)
    assert 0.5 < found.differ <= 1
    assert found.error[0] not in found.error[2:]


def test_a_model_that_ignores_its_codes_loses_nothing(clips: Clips) -> None:
    """An untrained conditioner gives no modulation."""
    found = wrong_codes(with_codes(small_model(), clips), clips, 3, count=6)
    assert found.differ > 0.5
    assert found.psnr == pytest.approx([found.psnr[0]] * len(SHARES), abs=1e-5)


def test_clips_that_are_too_short_are_told(clips: Clips) -> None:
    with pytest.raises(ColaWorldError, match="no episode .* has the 14 frames of a clip"):
        wrong_codes(small_model().eval(), clips, horizon=12)
