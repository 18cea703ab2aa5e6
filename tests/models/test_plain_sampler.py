"""Rollouts behind a cached past equal whole sequences without any cache."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cola_env.errors import ColaWorldError
from tests.models.plain_sampler import plain_rollout
from tests.models.small import SMALL, small_model


@pytest.mark.parametrize(
    ("residual", "frame"),
    [(True, True), (False, True), (False, False)],
    ids=["residual", "velocity frame by frame", "velocity together"],
)
@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_rollouts_equal_the_plain_sampler(
    residual: bool,
    frame: bool,
    context: int,
    scale: float,
    device: torch.device,
    full_precision: None,
) -> None:
    stdit = SMALL["stdit_config"] | {"residual": residual, "window": 8}
    model = small_model(stdit_config=stdit, adapter_config={"frame": frame}).to(device)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, context, 64, 64, 3), dtype=torch.uint8, generator=generator)
    actions = torch.rand(2, 3, 4, 5, generator=generator) * 2 - 1
    sampling = {"num_inference_steps": 3, "guidance_scale": scale, "seed": 5}
    plain = plain_rollout(model, frames, actions, **sampling)
    found = model.rollout(
        model.begin(frames), actions, together=not model.sees_frames("real"), **sampling
    )
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-3 if device.type == "cuda" else 1e-4)


def test_a_cached_past_saves_operations() -> None:
    model = small_model()
    frames = torch.zeros(1, 3, 64, 64, 3, dtype=torch.uint8)
    actions = torch.zeros(1, 4, 3, 5)
    sampling = {"num_inference_steps": 2, "guidance_scale": 2.0, "seed": 0}

    def operations(rollout: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            rollout()
        return counter.get_total_flops()

    cached = operations(lambda: model.rollout(model.begin(frames), actions, **sampling))
    plain = operations(lambda: plain_rollout(model, frames, actions, **sampling))
    assert 0 < cached < plain


def test_a_model_that_sees_frames_cannot_denoise_them_together() -> None:
    model = small_model()
    state = model.begin(torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8))
    with pytest.raises(ColaWorldError, match="together=False"):
        model.rollout(state, torch.zeros(1, 2, 3, 5), together=True)
