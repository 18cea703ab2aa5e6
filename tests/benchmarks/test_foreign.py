"""Models of the user's own: what they are given and what is said of what they give back."""

import numpy as np
import pytest
import torch

from benchmarks.vp2_protocol.agents import PlanningAgent, _checked
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import VideoPredictionDynamics
from benchmarks.vp2_protocol.methods import make_foreign
from benchmarks.vp2_protocol.records import Rules
from cola_env.errors import ColaWorldError

COUNT, HORIZON = 3, 4


class Brighter:
    """VP2's interface: the last frame, brighter by the first action; keeps what it was given."""

    def __init__(self, num_context: int = 2, whole: bool = True):
        self.num_context = num_context
        self.whole = whole

    def __call__(self, batch):
        self.batch = batch
        light = batch["actions"][..., 0].cumsum(1)[..., None, None, None]
        frames = batch["video"][:, -1:] + light.astype(np.float32)
        return {
            "rgb": frames if self.whole else torch.from_numpy(frames[:, self.num_context - 1 :])
        }


@pytest.fixture
def problem():
    frames = torch.stack((torch.full((2, 64, 64, 3), 51), torch.full((2, 64, 64, 3), 102)), 1)
    return PlanningProblem(
        task="push_red",
        frames=frames.to(torch.uint8),
        actions=torch.full((2, 1, 5), 0.25),
        states=np.zeros((2, 4)),
        goals=torch.ones(2, 64, 64, 3),
        seed=0,
    )


def candidates(problems: int) -> torch.Tensor:
    levels = torch.arange(problems * COUNT).reshape(problems, COUNT, 1, 1) / 100
    return levels.expand(-1, -1, HORIZON, 5)


@pytest.mark.parametrize("whole", [True, False])
def test_a_callable_gets_and_gives_vp2s_arrays(problem, whole):
    model = Brighter(whole=whole)
    imagination = VideoPredictionDynamics(model).imagine(problem)
    frames = imagination(slice(1, 2), candidates(2)[1:])
    video, actions = model.batch["video"], model.batch["actions"]
    assert video.dtype == actions.dtype == np.float32
    assert video.shape == (COUNT, 2, 64, 64, 3) and actions.shape == (COUNT, 1 + HORIZON, 5)
    assert video[0, :, 0, 0, 0] == pytest.approx([0.2, 0.4])
    assert actions[1, :, 0] == pytest.approx([0.25, *[0.04] * HORIZON])
    assert frames.shape == (1, COUNT, HORIZON, 64, 64, 3) and frames.dtype == torch.float32
    expected = 0.4 + 0.25 + 0.04 * np.arange(1, HORIZON + 1)
    assert frames[0, 1, :, 0, 0, 0].numpy() == pytest.approx(expected)


@pytest.mark.parametrize(("context", "levels"), [(1, [0.4]), (4, [0.2, 0.2, 0.2, 0.4])])
def test_a_short_past_is_filled_up_and_a_long_one_cut(problem, context, levels):
    model = Brighter(context)
    VideoPredictionDynamics(model).imagine(problem)(slice(None), candidates(2))
    assert model.batch["video"][0, :, 0, 0, 0] == pytest.approx(levels)
    past = model.batch["actions"][0, : context - 1, 0]
    assert past == pytest.approx(([0.0] * 2 + [0.25])[4 - context :])
    assert model.batch["actions"].shape[1] == context - 1 + HORIZON


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "dict"),
        (None, "NoneType"),
        ({"rgb": np.zeros((6, 9, 64, 64, 3), np.float32)}, r"\(6, 9, 64, 64, 3\)"),
        ({"rgb": np.zeros((6, 5, 3, 64, 64), np.float32)}, r"\(6, 5, 3, 64, 64\)"),
        ({"rgb": np.zeros((6, 5, 64, 64, 3), np.uint8)}, "uint8"),
    ],
)
def test_a_wrong_return_is_told_in_one_sentence(problem, given, told):
    imagination = VideoPredictionDynamics(lambda batch: given).imagine(problem)
    with pytest.raises(ColaWorldError, match=rf"\(6, 5, 64, 64, 3\), not .*{told}") as error:
        imagination(slice(None), candidates(2))
    assert "\n" not in str(error.value)


class Wrong:
    """Our interface, with the horizon missing."""

    device = torch.device("cpu")

    def imagine(self, problem):
        return lambda rows, actions: torch.zeros(*actions.shape[:2], 64, 64, 3)


def test_so_is_a_wrong_return_of_an_imagination(problem):
    from gymnasium.spaces import Box

    from cola_env.scoring.rewards import MSEReward
    from planners import CEM

    rules = Rules("mse", episodes=1, seed=0)
    agent = PlanningAgent(
        CEM(horizon=2, num_samples=3), [Wrong()], MSEReward(), Box(-1, 1, (5,)), rules
    )
    with pytest.raises(ColaWorldError, match=r"shape \(2, 3, 2, 64, 64, 3\).*gave"):
        agent.reset(batch=2)
        agent.decide(problem)


MODULE = """
import torch

class Callable:
    num_context = 3
    def __init__(self, gain=1): self.gain = gain
    def __call__(self, batch): ...

class Ours:
    device = torch.device("cpu")
    def imagine(self, problem): ...

class Neither: ...

class Broken:
    def __init__(self): raise OSError("weights are missing")
"""


def test_a_target_is_built_and_told_apart(tmp_path, monkeypatch):
    (tmp_path / "their_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    device = torch.device("cpu")
    callable_ = make_foreign({"_target_": "their_models.Callable", "gain": 7}, device, 3)
    assert isinstance(callable_, VideoPredictionDynamics)
    assert callable_.model.gain == 7 and callable_.context == 3
    ours = make_foreign({"_target_": "their_models.Ours"}, device, 2)
    assert type(ours).__name__ == "Ours"
    for wrong, told in ((255.0, "0 to 255"), (float("nan"), "nan to nan")):
        frames = torch.zeros(1, 2, 3, 64, 64, 3)
        frames[..., 1] = wrong
        with pytest.raises(ColaWorldError, match=rf"frames in \[0, 1\], but.*{told}"):
            _checked(frames, torch.zeros(1, 2, 3, 5))
    with pytest.raises(ColaWorldError, match="sees num_context=3 frames.* give context=3"):
        make_foreign({"_target_": "their_models.Callable"}, device, 2)
    for name, told in (
        ("Neither", "neither a callable"),
        ("Broken", "cannot be built: .*weights are missing"),
        ("Nobody", "cannot be built"),
    ):
        with pytest.raises(ColaWorldError, match=told):
            make_foreign({"_target_": f"their_models.{name}"}, device, 2)
