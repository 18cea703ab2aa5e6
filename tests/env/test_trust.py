"""The expected likeness of imagined frames, told without the real ones."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv, ColaWorldVectorEnv, load_goals, load_model
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import frame_psnr
from cola_env.scoring.trust import TRUSTED, Agreement, Change, Recognition, find_signal
from cola_env.worlds import OWN, ROBODESK
from tests.models.small import small_model


@pytest.fixture(scope="module")
def cola() -> ColaWorldModel:
    return load_model("cola", "cpu")


@pytest.fixture
def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8, generator=generator)


def test_psnr_is_that_of_bytes() -> None:
    black = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    gray = torch.stack([black[0] + 51, black[0]])
    assert frame_psnr(black, gray).tolist() == pytest.approx([13.979, 100], abs=1e-3)


def test_each_model_gets_the_other_as_second_where_that_knows_its_frames_and_actions(
    cola: ColaWorldModel,
) -> None:
    signal = find_signal(cola, "real", ROBODESK)
    assert isinstance(signal, Agreement) and signal.second.config.conditioning == "direct"
    back = find_signal(signal.second, "direct", ROBODESK)
    assert isinstance(back, Agreement) and back.second.config.conditioning == "latent"
    assert not isinstance(find_signal(cola, "latent", ROBODESK), Agreement)
    assert not isinstance(find_signal(cola, "real", OWN), Agreement)
    other_look = small_model(rendering="vp2")
    assert isinstance(find_signal(other_look, "real", ROBODESK), Recognition)


def test_the_memory_is_the_callers_and_a_step_repeats_exactly(frames: torch.Tensor) -> None:
    model, second = small_model().eval(), small_model().eval()
    signal = Agreement(second)
    begun, state = signal.begin(frames), model.begin(frames)
    actions = torch.rand(2, 5) * 2 - 1
    after = model.step(state, actions)
    seen = model.frames(after)
    (_, first), (memory, again) = (signal.step(begun, after, seen, actions) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (2,)
    assert memory.seen.tolist() == [2, 2] and begun.seen.tolist() == [1, 1]
    own = second.frames(memory)
    assert torch.equal(signal.step(begun, after, own, actions)[1], torch.full((2,), 100.0))


def test_a_model_recognises_its_own_frames_less_the_further_their_latents_are(
    cola: ColaWorldModel,
) -> None:
    pairs = load_goals("fast").of("push_red")[:2]
    frames = torch.stack([torch.tensor(pair.initial_frame) for pair in pairs])[:, None]
    signal, state = Recognition(cola), cola.begin(frames)
    memory = signal.begin(frames)
    _, same = signal.step(memory, state, cola.frames(state), torch.zeros(2, 5))
    torch.testing.assert_close(same, torch.zeros(2), atol=0.5, rtol=0)
    state.latents.add_(torch.randn(state.latents.shape, generator=torch.Generator().manual_seed(0)))
    _, other = signal.step(memory, state, cola.frames(state), torch.zeros(2, 5))
    assert (other < same - 3).all()


def of_pixels() -> ColaWorldModel:
    return small_model(
        autoencoder_config={"kind": "pixels"},
        stdit_config={"hidden_size": 32, "depth": 1, "num_heads": 2, "in_channels": 3,
                      "input_size": 64, "channels": (8, 8), "flows": 1},
        idm_config={"in_channels": 3, "input_size": 64, "patch_size": 16, "hidden_size": 32,
                    "num_heads": 2},
        adapter_config={"frame_size": 3 * 64 * 64},
    )  # fmt: skip


def test_a_model_of_pixels_is_trusted_less_the_more_has_changed(frames: torch.Tensor) -> None:
    model = of_pixels()
    signal = find_signal(model, "real", OWN)
    assert isinstance(signal, Change)
    state, memory = model.begin(frames), signal.begin(frames)
    still, other = frames[:, -1].clone(), frames[:, -1].flip(1)
    expected = [
        signal.line(signal.step(memory, state, seen, torch.zeros(2, 5))[1])
        for seen in (still, other)
    ]
    assert (expected[0] > TRUSTED).all() and (expected[1] < TRUSTED).all()


def test_what_is_expected_goes_with_what_is_true(cola: ColaWorldModel) -> None:
    """At the end of the shipped demonstrations, whose last real frames are the goal images."""
    signal = find_signal(cola, "real", ROBODESK)
    groups = defaultdict(list)
    for pair in load_goals("fast").pairs:
        groups[pair.expert_steps].append(pair)
    expected, true = [], []
    generator = torch.Generator().manual_seed(0)
    for steps, pairs in groups.items():
        frames = torch.stack([torch.tensor(pair.initial_frame) for pair in pairs])[:, None]
        actions = torch.stack([torch.tensor(pair.expert_actions) for pair in pairs])
        state, memory = cola.begin(frames), signal.begin(frames)
        for t in range(steps):
            state = cola.step(state, actions[:, t], noise=generator)
            seen = cola.frames(state)
            memory, compared = signal.step(memory, state, seen, actions[:, t])
        goals = torch.stack([torch.tensor(pair.goal_frame) for pair in pairs])
        expected.append(signal.line(compared))
        true.append(frame_psnr(seen, goals))
    told, found = torch.cat(expected).numpy(), torch.cat(true).numpy()
    ranks = [values.argsort().argsort() for values in (told, found)]
    assert np.corrcoef(ranks)[0, 1] > 0.6
    assert np.abs(told - found).mean() < 2


def moves(steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, 2, 5)).astype(np.float32)


def test_a_penalty_takes_what_the_second_model_does_not_agree_with(cola: ColaWorldModel) -> None:
    options = {"task": "open_slide", "checkpoint": cola, "device": "cpu"}
    plain = ColaWorldVectorEnv(2, max_episode_steps=7, **options)
    careful = ColaWorldVectorEnv(2, max_episode_steps=7, trust_penalty=0.5, **options)
    alone = ColaWorldEnv(trust_penalty=0.5, **options)
    for env in (plain, careful):
        env.reset(seed=3)
    alone.reset(seed=4)
    actions = moves(9)
    sequences = actions[:6].swapaxes(0, 1)[:, None]
    ahead = careful.rollout(sequences).rewards[:, 0]
    assert "expected_psnr" not in plain.step(actions[0])[-1]
    found = []
    for step, action in enumerate(actions):
        frames, rewards, _, ended, info = careful.step(action)
        if step:
            same = plain.step(action)
            np.testing.assert_array_equal(frames, same[0])
            expected = info["expected_psnr"] + 100 * ~info["_expected_psnr"]
            lost = 0.5 * np.clip(20 - expected, 0, None)
            np.testing.assert_allclose(same[1] - rewards, lost, atol=1e-5)
            found.extend(lost)
        if step < 6:
            np.testing.assert_allclose(rewards, ahead[:, step], atol=1e-4)
            of_one = alone.step(action[1])
            assert of_one[1] == pytest.approx(rewards[1], abs=2e-2)
            assert of_one[-1]["expected_psnr"] == pytest.approx(info["expected_psnr"][1], abs=0.1)
        assert ended.all() == (step == 6)
    assert max(found) > 0.1, "random actions leave what the models know"


def test_a_penalty_is_foreseen_whatever_the_two_models_draw() -> None:
    """Noise of 64 x 64 pixels for the one, of 8 x 8 latents for the other."""
    model = of_pixels()
    model.register_to_config(rendering="fast")
    options = {"task": "open_slide", "checkpoint": model, "device": "cpu"}
    dream = ColaWorldEnv(trust_penalty=0.5, **options)
    dream.reset(seed=3)
    actions = moves(4)[:, 0]
    ahead = dream.rollout(actions[None]).rewards[0]
    np.testing.assert_allclose([dream.step(each)[1] for each in actions], ahead, atol=1e-4)


def test_a_penalised_dream_goes_on_exactly_from_a_snapshot(cola: ColaWorldModel) -> None:
    options = {"task": "open_slide", "checkpoint": cola, "device": "cpu"}
    dreams = ColaWorldVectorEnv(2, trust_penalty=1.0, **options)
    dreams.reset(seed=0)
    before, first, second = moves(3)
    dreams.step(before)
    kept = dreams.snapshot()
    went = [dreams.step(action) for action in (first, second)]
    dreams.restore(kept)
    for action, there in zip((first, second), went, strict=True):
        again = dreams.step(action)
        np.testing.assert_array_equal(again[1], there[1])
        np.testing.assert_array_equal(again[-1]["expected_psnr"], there[-1]["expected_psnr"])
    dreams.reset(options={"state": kept, "reset_mask": np.array([True, False])})
    mixed = dreams.step(first)[-1]["expected_psnr"]
    assert mixed[0] == pytest.approx(went[0][-1]["expected_psnr"][0], abs=0.5)
    with pytest.raises(ColaWorldError, match="another trust_penalty"):
        ColaWorldVectorEnv(2, **options).restore(kept)


def test_a_penalty_needs_a_second_model_and_a_weight(cola: ColaWorldModel) -> None:
    options = {"task": "open_slide", "checkpoint": cola, "device": "cpu"}
    with pytest.raises(ColaWorldError, match="none is shipped for such frames and actions"):
        ColaWorldEnv(trust_penalty=1.0, action_mode="latent", **options)
    with pytest.raises(ColaWorldError, match="trust_penalty"):
        ColaWorldEnv(trust_penalty=-1.0, **options)
