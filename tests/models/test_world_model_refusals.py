"""What a world model refuses, in a sentence each, in place of other frames than were asked for."""

import copy

import pytest
import torch

from cola_env.envs.dream_model import open_model
from cola_env.errors import ColaWorldError
from cola_env.models.dream_state import DreamState
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import OWN

NOISE = (16, 8, 8)


@pytest.fixture(scope="module")
def model() -> ColaWorldModel:
    torch.manual_seed(0)
    return ColaWorldModel(
        stdit_config={"hidden_size": 16, "depth": 1, "num_heads": 2, "window": 4},
        conditioner_config={"hidden_size": 16, "num_heads": 2, "num_layers": 1},
        autoencoder_config={"channels": (8, 8, 8)},
        idm_config={"hidden_size": 16, "depth": 1, "num_heads": 2},
        adapter_config={"hidden_size": 16},
        num_inference_steps=2,
    ).eval()


@pytest.fixture(scope="module")
def state(model: ColaWorldModel) -> DreamState:
    return model.begin(torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(3, 2, *NOISE), (5, 2, *NOISE), (4, 1, *NOISE), (4, 2, 16, 8)])
def test_noise_of_a_rollout_has_a_frame_for_each_step(
    model: ColaWorldModel, state: DreamState, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ColaWorldError, match=r"noise must have shape \(4, 2, 16, 8, 8\), not"):
        model.rollout(state, torch.zeros(2, 3, 4, 5), noise=torch.zeros(shape))
    with pytest.raises(ColaWorldError, match=r"noise must have shape \(2, 16, 8, 8\), not"):
        model.step(state, torch.zeros(2, 5), noise=torch.zeros(shape))


@pytest.mark.parametrize("code", [-1, 32, 40, 0.5, float("nan")])
def test_codes_outside_the_codebook(model: ColaWorldModel, state: DreamState, code: float) -> None:
    codes = torch.full((2, 1, 3, 2), 31.0)
    codes[1, 0, 2, 1] = code
    frames = torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8)
    for call in (
        lambda: model.rollout(state, codes, action_mode="latent"),
        lambda: model.step(state, codes[:, 0, 2], action_mode="latent"),
        lambda: model.predict(frames, codes[:, 0], action_mode="latent"),
    ):
        with pytest.raises(ColaWorldError, match="whole numbers from 0 to 31"):
            call()
    model.step(state, codes[:, 0, 0], action_mode="latent")


def test_no_sampling_step_is_not_the_default(model: ColaWorldModel, state: DreamState) -> None:
    for steps in (0, -1, 1.5):
        sampling = {"num_inference_steps": steps}
        with pytest.raises(ColaWorldError, match="num_inference_steps must be .* at least 1"):
            model.step(state, torch.zeros(2, 5), **sampling)
        with pytest.raises(ColaWorldError, match="num_inference_steps must be .* at least 1"):
            model.rollout(state, torch.zeros(2, 1, 1, 5), **sampling)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_frames_are_bytes(model: ColaWorldModel, dtype: torch.dtype) -> None:
    frames = torch.zeros(1, 2, 64, 64, 3, dtype=dtype)
    with pytest.raises(ColaWorldError, match="as uint8, not .* as "):
        model.begin(frames)
    with pytest.raises(ColaWorldError, match="as uint8, not .* as "):
        model.predict(frames, torch.zeros(1, 2, 5))


def test_a_step_takes_one_action_a_dream(model: ColaWorldModel, state: DreamState) -> None:
    for shape in ((2, 4), (1, 5), (2, 1, 5), (5,)):
        with pytest.raises(ColaWorldError, match=r"Actions must have shape \(2, 5\)"):
            model.step(state, torch.zeros(shape))
    with pytest.raises(ColaWorldError, match=r"Latent actions must have shape \(2, 2\)"):
        model.step(state, torch.zeros(2, 3), action_mode="latent")


def test_the_actions_between_context_frames_are_checked(model: ColaWorldModel) -> None:
    direct = ColaWorldModel(**dict(model.config) | {"conditioning": "direct"}).eval()
    with pytest.raises(ColaWorldError, match=r"Actions must have shape \(1, C - 1, 5\)"):
        direct.begin(torch.zeros(1, 3, 64, 64, 3, dtype=torch.uint8), torch.zeros(1, 2, 4))


def test_a_dream_goes_to_a_device_whole(state: DreamState) -> None:
    gone = state.to(torch.device("meta"), torch.float32)
    tensors = [gone.latents, gone.seen, *(x for kv in gone.cache for x in (kv.key, kv.value))]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_actions_that_are_none_are_refused(
    model: ColaWorldModel, state: DreamState, bad: float
) -> None:
    frames = torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8)
    action = torch.full((2, model.config.action_dim), bad)
    for call in (
        lambda: model.step(state, action, action_mode="real"),
        lambda: model.rollout(state, action[:, None, None], action_mode="real"),
        lambda: model.predict(frames, action[:, None], action_mode="real"),
    ):
        with pytest.raises(ColaWorldError, match="NaN|must lie"):
            call()


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_guidance_is_finite(model: ColaWorldModel, state: DreamState, scale: float) -> None:
    codes = torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(ColaWorldError, match="guidance_scale must be a finite"):
        model.step(state, codes, action_mode="latent", guidance_scale=scale)


@pytest.mark.parametrize("bad", [float("nan"), 255.0])
def test_float_frames_lie_between_0_and_1(model: ColaWorldModel, bad: float) -> None:
    frames = torch.full((1, 2, 64, 64, 3), bad)
    for call in (model.encode, model.infer_actions):
        with pytest.raises(ColaWorldError, match="floats in \\[0, 1\\]"):
            call(frames)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_model_dreams_and_stays_as_it_is(
    model: ColaWorldModel, dtype: torch.dtype
) -> None:
    half = copy.deepcopy(model).to(dtype).train()
    opened, _ = open_model(half, OWN, "cpu")
    assert (opened.dtype, opened.training) == (torch.float32, False)
    assert (half.dtype, half.training) == (dtype, True)
    state = opened.begin(torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8))
    codes = torch.zeros(2, 2, dtype=torch.long)
    assert torch.isfinite(opened.step(state, codes, action_mode="latent").latents).all()
    assert open_model(opened, OWN, "cpu")[0] is opened


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_noise_that_is_not_finite(model: ColaWorldModel, state: DreamState, value: float) -> None:
    noise = torch.zeros(2, *NOISE)
    noise[1, 0, 0, 0] = value
    with pytest.raises(ColaWorldError, match="noise contains NaN or infinity"):
        model.step(state, torch.zeros(2, 5), noise=noise)
    with pytest.raises(ColaWorldError, match="noise contains NaN or infinity"):
        model.rollout(state, torch.zeros(2, 3, 1, 5), noise=noise[None])
