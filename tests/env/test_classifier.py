import json

import numpy as np
import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.scoring.success_classifier import SuccessClassifier, load_classifier
from cola_env.worlds import ROBODESK_TASKS, VP2_TASKS
from cola_train.classifier import (
    ClassifierConfig,
    area_under_curve,
    fit,
    train_classifier,
)
from cola_train.data.labelled_frames import (
    IMAGINED_STEPS,
    JoinedDataset,
    LabelledFrames,
    augment,
    imagine_frames,
    label,
)
from cola_train.data.sources import DataSources
from cola_train.run_folder import MODEL_CARD
from tests.env.labelled import write_dataset


def test_the_default_network_is_small_and_shaped_for_any_leading_axes():
    model = SuccessClassifier()
    assert model.num_parameters() < 300_000
    frames = torch.rand(2, 3, 64, 64, 3)
    logits = model(frames)
    assert logits.shape == (2, 3, len(VP2_TASKS))
    torch.testing.assert_close(model(frames, chunk=4), logits)


def test_save_and_load(tmp_path):
    model = SuccessClassifier(tasks=("stack", "push_red"), rendering="vp2", width=8)
    model.save_pretrained(tmp_path)
    again = load_classifier(tmp_path)
    assert again.tasks == ("stack", "push_red") and again.rendering == "vp2"
    frames = torch.rand(3, 64, 64, 3)
    torch.testing.assert_close(again(frames), model(frames))


def test_sampling_gives_each_task_and_each_label_its_share():
    labels = torch.zeros(1000, 2, dtype=torch.bool)
    labels[:10, 0] = True
    labels[10:12, 1] = True
    data = LabelledFrames(torch.zeros(1000, 1, 1, 3, dtype=torch.uint8), labels)
    chances = data.probabilities()
    assert chances.sum() == pytest.approx(1)
    assert chances[:10].sum() == pytest.approx(0.25, abs=0.01)
    assert chances[10:12].sum() == pytest.approx(0.25, abs=0.01)
    weight, other = data.label_weights()
    for head in range(2):
        share = chances @ labels[:, head].float()
        assert weight[head] * share == pytest.approx(0.5)
        assert other[head] * (1 - share) == pytest.approx(0.5)


def test_a_task_that_never_succeeds_takes_no_share_of_anything():
    labels = torch.zeros(100, 2, dtype=torch.bool)
    labels[:5, 0] = True
    chances = LabelledFrames(torch.zeros(100, 1, 1, 3), labels).probabilities()
    assert chances.sum() == pytest.approx(1) and (chances > 0).all()


def test_augmentation_blurs_shifts_and_relights_but_keeps_the_picture():
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    frame = torch.nn.functional.interpolate(coarse, size=64).permute(0, 2, 3, 1)
    frames = 0.2 + 0.6 * frame.expand(64, -1, -1, -1)
    made = augment(frames, torch.Generator().manual_seed(1))
    assert made.shape == frames.shape and made.min() >= 0 and made.max() <= 1
    assert len({float(image.mean()) for image in made}) == 64
    edges = (made[:, :, 1:] - made[:, :, :-1]).abs().amax((1, 2, 3))
    assert edges.max() > 2 * edges.min()
    assert (made - frames).abs().mean() < 0.15
    same = augment(frames, torch.Generator().manual_seed(1))
    torch.testing.assert_close(made, same)


def test_area_under_curve_is_the_chance_of_the_right_order():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 6, 40) + 1.0, rng.integers(0, 6, 60) + 0.0
    pairs = positive[:, None] - negative
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert area_under_curve(positive, negative) == pytest.approx(expected)
    assert area_under_curve(negative[:1] + 9, negative) == 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset")


def test_training_tells_success_on_held_out_episodes_sharp_or_blurred(dataset, tmp_path):
    config = ClassifierConfig(
        str(dataset), str(tmp_path), steps=120, batch=64, width=8, lr=3e-3, held_out=0.35
    )
    measures = train_classifier(config)
    assert set(measures) == set(VP2_TASKS)
    assert np.mean([m.auc for m in measures.values()]) > 0.95
    assert np.mean([m.balanced_accuracy for m in measures.values()]) > 0.85
    card = json.loads((tmp_path / MODEL_CARD).read_text())
    assert card["data"]["rendering"] == "fast"
    assert card["held_out"]["push_red"]["auc"] == measures["push_red"].auc
    model = load_classifier(tmp_path)
    assert model.rendering == "fast"
    plain = torch.full((1, 64, 64, 3), 100 / 255)
    solved = plain.clone()
    solved[:, 16:24, 16:24] = torch.tensor([220.0, 40.0, 40.0]) / 255
    blurred = augment(torch.cat([solved, plain]).repeat(20, 1, 1, 1), torch.Generator())
    logits = model(blurred)[:, model.head(VP2_TASKS[2])]
    assert (logits[0::2] > logits[1::2].max()).all()
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        MODEL_CARD,
    }


def test_labels_fall_with_the_actions_until_success():
    successes = np.array([[0, 0], [0, 1], [1, 0], [0, 0], [1, 0]], bool)
    np.testing.assert_array_equal(label(successes, 0.0), successes)
    np.testing.assert_allclose(
        label(successes, 0.5), [[0.25, 0.5], [0.5, 1], [1, 0], [0.5, 0], [1, 0]]
    )


def test_a_value_function_orders_frames_by_how_near_success_is():
    """Brightness tells how near; the labels are its third power, never sure in between."""
    nearness = torch.linspace(0, 1, 200)
    frames = (60 + 120 * nearness)[:, None, None, None].expand(-1, 64, 64, 3).to(torch.uint8)
    torch.manual_seed(0)
    model = SuccessClassifier(tasks=("push_red",), width=4, discount=0.8)
    data = LabelledFrames(frames, (nearness**3)[:, None])
    fit(model, data, ClassifierConfig("", "", steps=150, batch=64, lr=5e-3))
    found = model.logit(frames[::20].float() / 255, "push_red")
    assert (found.diff() > 0).all()
    assert model.discount == 0.8 and SuccessClassifier(width=4).discount == 0


def test_smoothed_labels_bound_the_logits_of_what_is_sure():
    frames = torch.cat([torch.full((60, 64, 64, 3), 60), torch.full((60, 64, 64, 3), 190)])
    labels = torch.cat([torch.zeros(60, 1), torch.ones(60, 1)])
    found = {}
    for smoothing in (0.0, 0.1):
        torch.manual_seed(0)
        model = SuccessClassifier(tasks=("push_red",), width=4)
        config = ClassifierConfig("", "", steps=200, batch=64, lr=5e-3, label_smoothing=smoothing)
        fit(model, LabelledFrames(frames.to(torch.uint8), labels), config)
        found[smoothing] = model.logit(frames[[0, -1]].float() / 255, "push_red")
    limit = torch.logit(torch.tensor(0.9))
    assert (found[0.1].abs() < limit + 0.5).all() and found[0.1].diff() > limit
    assert (found[0.0].abs() > limit + 1).all()


class Clock:
    """A world model that paints a frame with the numbers of episode and action, 100 times those of
    the data."""

    action_modes = ("real", "latent")

    def begin(self, frames, actions):
        assert frames.shape[1:] == (2, 64, 64, 3) and frames.dtype == torch.uint8
        return actions

    def rollout(self, before, actions, *, action_mode, seed):
        first, last = actions[:, 0, 0, 1], before[:, 0, 1]
        assert action_mode == "real" and torch.allclose(first, last + 0.01)
        painted = torch.zeros(*actions.shape[:3], 64, 64, 3)
        painted[..., :2] = 100 * actions[..., None, None, :] / 255
        return painted


def test_imagined_frames_have_the_labels_of_what_truly_happened(dataset):
    joined = JoinedDataset(str(dataset))
    episodes = np.array([3, 11, 12])
    made = imagine_frames(Clock(), joined, episodes, VP2_TASKS, 0.5, seed=0)
    assert made.frames.shape == (9 * IMAGINED_STEPS, 64, 64, 3) and made.frames.dtype == torch.uint8
    columns = [ROBODESK_TASKS.index(task) for task in VP2_TASKS]
    for frame, found in zip(made.frames, made.labels, strict=True):
        number, step = frame[0, 0, :2].tolist()
        assert number in episodes and 1 <= step < 10
        known = label(joined.episode(number).successes[:, columns], 0.5)[step]
        np.testing.assert_allclose(found, known)
    again = imagine_frames(Clock(), joined, episodes, VP2_TASKS, 0.5, seed=0)
    assert torch.equal(made.frames, again.frames)


def test_held_out_episodes_are_a_share_of_every_policys(dataset):
    dataset = JoinedDataset(str(dataset))
    trained, numbers = dataset.hold_out(0.34, seed=0)
    assert len(numbers) == len(set(numbers)) == 14
    assert sorted([*trained, *numbers]) == list(range(40))
    policies = [dataset.episodes[i]["tasks"][0] for i in numbers]
    assert all(policies.count(task) >= 1 for task in VP2_TASKS)
    assert (dataset.hold_out(0.34, seed=1)[1] != numbers).any()


def test_classifiers_are_measured_on_episodes_that_no_world_model_was_trained_on(tmp_path):
    folders = [
        str(write_dataset(tmp_path / "a", 14, splits={"train": "0:11", "validation": "11:14"})),
        str(write_dataset(tmp_path / "b", 14, splits={"test": "0:2", "train": "2:14"})),
    ]
    train_classifier(ClassifierConfig(folders, str(tmp_path / "out"), steps=2, batch=8, width=4))
    data = json.loads((tmp_path / "out" / MODEL_CARD).read_text())["data"]
    assert data["held_out_episodes"] == [11, 12, 13, 14, 15]
    assert data["train_frames"] == 23 * 10
    a, b = ({span.episode for span in s.spans} for s in DataSources(folders).streams("train"))
    assert not {*a, *(14 + number for number in b)} & {*data["held_out_episodes"]}


def test_bad_settings(dataset, tmp_path):
    with pytest.raises(ColaWorldError, match="held_out"):
        train_classifier(ClassifierConfig(str(dataset), str(tmp_path), held_out=0.0))
    with pytest.raises(ColaWorldError, match="discount=1"):
        train_classifier(ClassifierConfig(str(dataset), str(tmp_path), discount=1.0))
    with pytest.raises(ColaWorldError, match="lr=0.0 must be positive"):
        train_classifier(ClassifierConfig(str(dataset), str(tmp_path), lr=0.0))
    with pytest.raises(ColaWorldError, match="label_smoothing=0.5 must be"):
        train_classifier(ClassifierConfig(str(dataset), str(tmp_path), label_smoothing=0.5))
    with pytest.raises(ColaWorldError, match="no checkpoint 'nobody'"):
        train_classifier(ClassifierConfig(str(dataset), str(tmp_path), imagined=("nobody",)))
    with pytest.raises(ColaWorldError, match="no dataset folder"):
        train_classifier(ClassifierConfig(str(tmp_path / "nowhere"), str(tmp_path)))
