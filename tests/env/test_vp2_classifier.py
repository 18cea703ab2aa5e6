"""VP2's classifier files against its layout written down with plain modules."""

import pytest
import torch
from torch import nn

from cola_env.errors import ColaWorldError
from cola_env.scoring.rewards import make_reward
from cola_env.scoring.success_classifier import find_classifier, load_classifier


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        convolutions = (nn.Conv2d(32, 32, 3, 1, 1) for _ in range(2))
        self.cnv = nn.Sequential(next(convolutions), nn.ReLU(), next(convolutions))

    def forward(self, x):
        return x + self.cnv(x)


class Reference(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = [layer for _ in range(3) for layer in (Block(), nn.ReLU())]
        self.net = nn.Sequential(
            nn.Conv2d(3, 32, 3, 1, 1),
            *blocks,
            nn.Conv2d(32, 3, 3, 1, 1),
            nn.Flatten(),
            nn.Linear(12288, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1),
        )


@pytest.fixture(scope="module")
def references():
    torch.manual_seed(0)
    return {task: Reference() for task in ("push_red", "open_slide")}


@pytest.fixture(scope="module")
def folder(references, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cost_classifiers")
    for task, network in references.items():
        torch.save(network.state_dict(), folder / f"{task}.pt")
    return folder


def test_the_logits_are_those_of_the_plain_network(folder, references):
    assert find_classifier(folder) == folder
    classifier = load_classifier(folder)
    assert set(classifier.tasks) == set(references) and classifier.rendering == "vp2"
    frames = torch.rand(2, 3, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    for task, network in references.items():
        with torch.no_grad():
            expected = network.net(frames.flatten(0, 1).permute(0, 3, 1, 2)).view(2, 3)
        torch.testing.assert_close(classifier.logit(frames, task), expected)
        reward = make_reward("classifier", task, folder)
        torch.testing.assert_close(reward(frames, frames[:, 0]), expected)


def test_the_names_of_the_weights_are_vp2s(references):
    names = {name.rpartition(".")[0] for name in references["push_red"].state_dict()}
    blocks = {f"net.{i}.cnv.{j}" for i in (1, 3, 5) for j in (0, 2)}
    assert names == {"net.0", "net.7", "net.9", "net.11"} | blocks


def test_other_tasks_and_other_files_are_told(folder, tmp_path):
    with pytest.raises(ColaWorldError, match="for task 'stack' .only for open_slide, push_red"):
        make_reward("classifier", "stack", folder)
    for wrong in ({"net.0.weight": torch.zeros(2)}, [1, 2]):
        torch.save(wrong, tmp_path / "push_red.pt")
        with pytest.raises(ColaWorldError, match="push_red.pt is no classifier of VP2.*net.0"):
            load_classifier(tmp_path)
    (tmp_path / "push_red.pt").write_bytes(b"nothing")
    with pytest.raises(ColaWorldError, match="is no classifier of VP2"):
        load_classifier(tmp_path)
