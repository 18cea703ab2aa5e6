"""What moves seldom counts beside what always moves."""

import pytest
import torch

from cola_train.data.clips import ClipBatch, Clips
from cola_train.phases import FlowMatching
from cola_train.phases.flow_matching import RARE_WEIGHT
from cola_train.phases.phase import Prepared, Step
from tests.train.small import moving_square, small_model

ARM, TABLE, LAMP, WALL = (0, 0), (1, 1), (6, 1), (7, 7)


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
    rare = torch.zeros(8, 8, dtype=torch.bool)
    rare[LAMP] = True
    prepared = Prepared(moving_square(), rare=rare)
    step = Step(0, torch.Generator().manual_seed(0), prepared)
    made = phase.loss(model, ClipBatch(batch.frames, latents, batch.actions), step)
    return float(made.value.detach())


def test_a_lamp_that_goes_on_weighs_more_than_the_arm_and_the_arm_more_than_the_wall() -> None:
    lamp, arm, wall = (loss_at(place, 2.0) for place in (LAMP, ARM, WALL))
    assert lamp > 3 * arm > 3 * wall > 0


def test_without_a_motion_weight_all_places_weigh_the_same() -> None:
    assert loss_at(LAMP, 0.0) == pytest.approx(loss_at(WALL, 0.0), rel=1e-6)


def test_above_a_threshold_what_is_near_motion_weighs_more_and_what_rarely_moves_always() -> None:
    lamp, arm, table, wall = (loss_at(place, 2.0, 0.25) for place in (LAMP, ARM, TABLE, WALL))
    assert arm == table == pytest.approx(3 * wall, rel=1e-5)
    assert lamp == pytest.approx((1 + 2 * RARE_WEIGHT) * wall, rel=1e-5)
    unlit = loss_at(LAMP, 2.0, 0.75)
    assert unlit == pytest.approx((1 + 2 * RARE_WEIGHT) * loss_at(WALL, 2.0, 0.75), rel=1e-5)


def test_a_mean_of_moving_and_staying_is_not_drawn_towards_motion() -> None:
    """A thing beside the arm moves in one of two clips that look the same before: half of its
    motion is predicted, as the plain mean would."""
    change = torch.zeros(2, 1, 1, 16, 16)
    change[:, :, :, 8, 4], change[0, :, :, 8, 7] = 1, 1
    phase = FlowMatching("flow", 1, ["stdit"], clip=4, motion_weight=8.0, motion_threshold=0.05)
    weight = 1 + phase.motion_weight * phase._motion(change, torch.zeros(16, 16, dtype=torch.bool))
    at = weight[:, 0, 8, 7]
    assert float((at * change[:, 0, 0, 8, 7]).sum() / at.sum()) == pytest.approx(0.5)


def test_which_pixels_rarely_move_is_told_by_the_data() -> None:
    """A square that moves, and a lamp that is lit in one of 250 frames."""
    square = moving_square()
    frames = square.frames.clone()
    frames[:, :, -4:, -4:] = 0
    lit = torch.rand(frames.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.004
    frames[:, :, -4:, -4:] += (200 * lit)[..., None, None, None].to(torch.uint8)
    data = Clips(frames, square.actions)
    phase = FlowMatching("flow", 1, ["stdit"], clip=4, motion_threshold=0.05)
    rare = phase.prepare(data).rare
    assert rare is not None
    pairs = data.sample(3000, 2, torch.Generator().manual_seed(1)).frames.float()
    often = ((pairs[:, 1] - pairs[:, 0]).abs().amax(-1) > 255 * 0.05).float().mean(0)
    assert rare[-4:, -4:].all()
    assert not rare[often == 0].any() and not rare[often > often.mean()].any()
    assert FlowMatching("flow", 1, ["stdit"], clip=4).prepare(data).rare is None
