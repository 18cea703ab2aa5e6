import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.scoring.ensembles import ClassifierEnsemble, Combination
from cola_env.scoring.rewards import make_reward
from cola_env.scoring.success_classifier import SuccessClassifier

SCORES = torch.tensor([[1.0, 0.0], [3.0, 4.0], [2.0, 2.0]])


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (Combination("mean"), [2.0, 2.0]),
        (Combination("min"), [1.0, 0.0]),
        (Combination("cautious", 0.0), [2.0, 2.0]),
        (Combination("cautious", 3.0), [2 - 6**0.5, 2 - 24**0.5]),
    ],
)
def test_members_are_combined(combine, expected):
    torch.testing.assert_close(combine(SCORES), torch.tensor(expected))


def test_one_member_is_itself():
    for how in ("mean", "min", "cautious"):
        assert torch.equal(Combination(how)(SCORES[:1]), SCORES[0])


def make_classifier(seed: int, **changes) -> SuccessClassifier:
    torch.manual_seed(seed)
    return SuccessClassifier(width=8, **changes).eval()


def test_classifiers_are_a_classifier_together():
    members = [make_classifier(seed, threshold=0.5 + seed / 10) for seed in range(3)]
    frames = torch.rand(2, 3, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    together = ClassifierEnsemble(members, Combination("min"))
    assert together.threshold == 0.7
    reward = make_reward("classifier", "push_blue", together)
    alone = [make_reward("classifier", "push_blue", m)(frames, frames[:, 0]) for m in members]
    torch.testing.assert_close(reward(frames, frames[:, 0]), torch.stack(alone).amin(0))
    assert together.rendering == "fast" and together.tasks == members[0].tasks


def test_bad_ensembles_are_refused():
    with pytest.raises(ColaWorldError, match="'median'.*cautious"):
        Combination("median")
    with pytest.raises(ColaWorldError, match="penalty=-1 must be at least 0"):
        Combination("cautious", -1)
    fast, vp2 = make_classifier(0), make_classifier(0, rendering="vp2")
    with pytest.raises(ColaWorldError, match="one rendering profile"):
        ClassifierEnsemble([fast, vp2], Combination())
    with pytest.raises(ColaWorldError, match=r"discounts are 0\.0, 0\.8"):
        ClassifierEnsemble([fast, make_classifier(0, discount=0.8)], Combination())
    one, other = (make_classifier(0, tasks=(task,)) for task in ("stack", "push_red"))
    with pytest.raises(ColaWorldError, match="no task in common"):
        ClassifierEnsemble([one, other], Combination())
