"""What a run is judged by: the probe and the rollout."""

import numpy as np
import pytest
import torch

import cola_train.evaluation.controllability as evaluation
from cola_env.envs.starts import CONTEXT
from cola_env.errors import ColaWorldError
from cola_train.data.clips import Clips
from cola_train.evaluation.controllability import controllability, linear_probe
from cola_train.evaluation.rollout_quality import (
    Networks,
    multi_step_psnr,
    rollout_picture,
    video_quality,
)
from cola_train.evaluation.steering import action_transfer
from cola_train.phases import FlowMatching
from tests.pictures import read_picture
from tests.train.small import moving_square, small_model


@pytest.fixture(scope="module")
def clips() -> Clips:
    return moving_square(episodes=6, steps=8).encode(small_model().eval())


def test_the_probe_tells_what_can_be_read_off(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)

    def pairs(model, clips, length, count):
        inputs = torch.randn(2000, 9, generator=generator, dtype=torch.float64)
        inputs[:, 7] = 0  # latent actions need not span their space
        inputs[:, -1] = 1
        noise = torch.randn(2000, generator=generator, dtype=torch.float64)
        return inputs, torch.stack([2 * inputs[:, 0] - inputs[:, 1] + 3, noise], dim=1)

    monkeypatch.setattr(evaluation, "_pairs", pairs)
    result = linear_probe(None, None, None, length=8)  # type: ignore[arg-type]
    assert result.r2[0] > 0.999 and abs(result.r2[1]) < 0.05
    assert result.l1[0] < 0.02
    assert result.l1[1] == pytest.approx(0.798, abs=0.04)  # E|z| of a standard normal


def test_the_probe_computes_where_its_data_is() -> None:
    """On a GPU for one: here the CPU is not where tensors that name no device come to lie."""
    inputs = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :2] * 3
    with torch.device("meta"):
        found = [
            evaluation._ridge(inputs, targets),
            evaluation._least_absolute(inputs, targets, steps=5),
        ]
    assert {weight.device for weight in found} == {inputs.device}
    torch.testing.assert_close(inputs @ found[0], targets, rtol=0.05, atol=0.05)


def test_rollouts_of_both_kinds_are_scored_beside_copying(clips: Clips, tmp_path) -> None:
    model = small_model().eval()
    scores = multi_step_psnr(model, clips, horizon=3, count=4)
    assert set(scores) == {"copy", "own", "adapter"}
    assert all(len(values) == 3 for values in scores.values())
    direct = multi_step_psnr(small_model(conditioning="direct").eval(), clips, 3, count=4)
    assert set(direct) == {"copy", "own"}
    assert direct["copy"] == scores["copy"]
    rollout_picture(model, clips, tmp_path / "rollout.png", horizon=3, count=2)
    picture = read_picture(tmp_path / "rollout.png")
    assert picture.shape == (2 * 3 * 128, 4 * 128, 3), "truth and two rollouts of two clips"
    rows = picture.reshape(2, 3, 128, 4, 128, 3).swapaxes(2, 3)
    assert (rows[:, :, 0] == rows[:, :1, 0]).all(), "all begin with the true frame"
    true = clips.sample(2, CONTEXT + 3, torch.Generator().manual_seed(1)).frames[:, CONTEXT - 1 :]
    np.testing.assert_array_equal(rows[:, 0, :, ::2, ::2], true)
    assert (rows[:, 1, 1:] != rows[:, 0, 1:]).any()


def test_episodes_shorter_than_a_rollout_are_told(clips: Clips, tmp_path) -> None:
    model, long = small_model().eval(), clips.frames.shape[1] - CONTEXT + 1
    for measure in (
        lambda: multi_step_psnr(model, clips, long),
        lambda: rollout_picture(model, clips, tmp_path / "rollout.png", long),
        lambda: video_quality(model, clips, long, Networks()),
    ):
        with pytest.raises(ColaWorldError, match="no episode .* has the 10 frames of a clip"):
            measure()
    with pytest.raises(ColaWorldError, match="have no episode of 10 frames"):
        controllability(model, clips, 10, adapter=False)


def test_controllability_shuffles_the_adapter_too(clips: Clips) -> None:
    measures = controllability(small_model().eval(), clips, 4, adapter=True, count=4)
    assert {"own", "shuffled", "none", "adapter", "adapter_shuffled", "copy"} <= measures.keys()
    assert measures["gap"] == pytest.approx(measures["own"] - measures["shuffled"])


def test_actions_are_transferred_to_another_first_frame(clips: Clips) -> None:
    found = action_transfer(small_model().eval(), clips, clips, count=4, clip=5)
    assert found.source.shape == found.imagined.shape == (4, 5, 64, 64, 3)
    first = clips.sample(4, 5, torch.Generator().manual_seed(1)).frames[:, 0].float() / 255
    assert torch.equal(found.imagined[:, 0], first)
    assert 0 <= found.other <= 1 and 0 <= found.same <= 1


def test_a_phase_probes_its_latent_actions_where_it_is_asked_to(clips: Clips) -> None:
    model = small_model().eval()
    plain = FlowMatching("p", 1, ["idm"], actions="latent", clip=5)
    probed = FlowMatching("p", 1, ["idm"], actions="latent", clip=5, probe_clips=8)
    assert probed.needs_actions and not plain.needs_actions
    prepared = probed.prepare(clips)
    measures = probed.evaluate(model, clips, prepared)
    assert measures.keys() - plain.evaluate(model, clips, prepared).keys() == {"probe_l1"}
    assert 0 < measures["probe_l1"] < 2
