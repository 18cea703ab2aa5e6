"""What moves seldom counts beside what always moves."""

import pytest
import torch

from cola_train.data.clips import ClipBatch
from cola_train.phases import FlowMatching
from cola_train.phases.phase import Prepared, Step
from tests.train.small import moving_square, small_model

ARM, LAMP, WALL = (0, 0), (1, 1), (2, 2)


class WrongAt(FlowMatching):
    """The last frame of the first clip is wrong by 1 in one place of its latents."""

    place = ARM

    def noise_levels(self, model, batch, frames, generator):
        return torch.ones(batch, frames) * (torch.arange(frames) > 0)

    def target(self, model, clip, straight, prepared):
        wrong = torch.zeros_like(straight)
        wrong[0, -1, :, *self.place] = 1
        return clip.velocity(model) - wrong


def loss_at(
    place: tuple[int, int], motion_weight: float, motion_threshold: float | None = None
) -> float:
    """Of an arm that moves in every frame, and a lamp that goes on in the last of one clip."""
    model = small_model()
    batch = moving_square().sample(4, 4, torch.Generator().manual_seed(0)).encoded(model)
    latents = torch.zeros_like(batch.latents)
    latents[:, ::2, :, *ARM] = 1
    latents[0, -1, :, *LAMP] = 1
    phase = WrongAt(
        "flow",
        1,
        ["stdit"],
        clip=4,
        motion_weight=motion_weight,
        motion_threshold=motion_threshold,
    )
    phase.place = place
    moving = torch.full((8, 8), 0.05)
    moving[ARM], moving[LAMP] = 0.4, 0.01
    prepared = Prepared(moving_square(), moving=moving)
    step = Step(0, torch.Generator().manual_seed(0), prepared)
    made = phase.loss(model, ClipBatch(batch.frames, latents, batch.actions), step)
    return float(made.value.detach())


def test_a_lamp_that_goes_on_weighs_more_than_the_arm_and_the_arm_more_than_the_wall() -> None:
    lamp, arm, wall = (loss_at(place, 2.0) for place in (LAMP, ARM, WALL))
    assert lamp > 3 * arm > 3 * wall > 0


def test_without_a_motion_weight_all_places_weigh_the_same() -> None:
    assert loss_at(LAMP, 0.0) == pytest.approx(loss_at(WALL, 0.0), rel=1e-6)


def test_above_a_threshold_what_moves_weighs_by_how_rarely_it_does() -> None:
    lamp, arm, wall = (loss_at(place, 2.0, 0.25) for place in (LAMP, ARM, WALL))
    usual = (62 * 0.05 + 0.4 + 0.01) / 64
    assert arm == pytest.approx(3 * wall, rel=1e-5)
    assert lamp == pytest.approx((1 + 2 * usual / 0.01) * wall, rel=1e-5)
    assert loss_at(LAMP, 2.0, 0.75) == pytest.approx(loss_at(WALL, 2.0, 0.75), rel=1e-6)


def test_how_often_pixels_move_is_told_by_the_data() -> None:
    phase = FlowMatching("flow", 1, ["stdit"], clip=4, motion_threshold=0.05)
    data = moving_square()
    moving = phase.prepare(data).moving
    assert moving is not None
    pairs = data.sample(3000, 2, torch.Generator().manual_seed(1)).frames.float()
    expected = ((pairs[:, 1] - pairs[:, 0]).abs().amax(-1) > 255 * 0.05).float().mean(0)
    assert expected.max() > 0.05
    torch.testing.assert_close(moving, expected, atol=0.05, rtol=0)
    assert FlowMatching("flow", 1, ["stdit"], clip=4).prepare(data).moving is None
