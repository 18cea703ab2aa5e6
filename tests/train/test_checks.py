"""What is wrong with a later phase is told before the first one trains."""

from pathlib import Path

import pytest

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.phases import Adaptation, FlowMatching, ForwardDynamics, Phase
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.small import SMALL, moving_square, phases, small_model

LATENT = ["idm", "quantizer", "conditioner"]


def refused(recipe: list[Phase], told: str, out: Path, **model: object) -> None:
    clips, config = moving_square(4), TrainerConfig(logger="none")
    with pytest.raises(ColaWorldError, match=told):
        Trainer(small_model(**model), recipe, clips, clips, out, seed=0, config=config)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_gradient_norm", 0.0),
        ("max_gradient_norm", float("nan")),
        ("log_every", 0),
        ("evaluate_every", -1),
        ("accumulation", 0),
        ("save_seconds", -1.0),
    ],
)
def test_a_trainer_that_would_learn_or_tell_nothing_is_refused(name: str, wrong: float) -> None:
    with pytest.raises(ColaWorldError, match=f"trainer.{name}={wrong} must be"):
        TrainerConfig(**{name: wrong})


def test_continuous_actions_have_no_adapter_and_the_order_without_one_is_named(
    tmp_path: Path,
) -> None:
    told = r"no adapter, .* adapter, finetune need: .*order=\[autoencoder,warm_up,end_to_end\]"
    refused(phases(), told, tmp_path, quantizer_config={"kind": "gaussian"})


def test_a_phase_that_only_measures_the_adapter_needs_it_too(tmp_path: Path) -> None:
    common = {"batch_size": 4, "clip": 4, "actions": "latent"}
    recipe: list[Phase] = [
        FlowMatching("warm_up", 1, LATENT, **common),
        FlowMatching("finetune", 1, ["stdit"], adapted=True, **common),
    ]
    gaussian = {"quantizer_config": {"kind": "gaussian"}}
    refused(recipe, r"which the phase\(s\) finetune need", tmp_path, **gaussian)


@pytest.mark.parametrize(
    ("phase", "model", "told"),
    [
        (Adaptation("last", 1, ["adaptor"]), {}, r"phases.last.learns names adaptor; this model"),
        (ForwardDynamics("last", 1, LATENT), {}, "no fdm, which the phase.s. last need"),
        (FlowMatching("last", 1, ["stdit"], actions="direct"), {}, "has no action_in"),
        (
            FlowMatching("last", 1, ["idm"]),
            {"conditioning": "direct"},
            "no idm, .*=.first.,",
        ),
    ],
)
def test_a_component_that_is_not_there_is_told_at_once(
    phase: Phase, model: dict, told: str, tmp_path: Path
) -> None:
    phase.batch_size = phase.clip = 4
    first = FlowMatching("first", 1, ["stdit"], batch_size=4, clip=4)
    refused([first, phase], told, tmp_path, **model)


def test_own_frames_are_for_models_that_see_the_frame_before(tmp_path: Path) -> None:
    phase = FlowMatching("last", 1, ["stdit"], batch_size=4, clip=4, own_frames=0.5)
    network = SMALL["stdit_config"] | {"residual": False}
    model = ColaWorldModel(**SMALL | {"stdit_config": network})
    told = r"phases.last.own_frames=0.5 has no use: .*residual=false"
    with pytest.raises(ColaWorldError, match=told):
        Trainer(model, [phase], moving_square(4), moving_square(4), tmp_path, seed=0)


def test_a_motion_threshold_and_crops_exclude_each_other() -> None:
    with pytest.raises(ColaWorldError, match=r"crop_scale=0.8 must be 1 beside motion_threshold"):
        FlowMatching("last", 1, ["stdit"], motion_threshold=0.05, crop_scale=0.8)


def test_a_motion_threshold_is_for_models_of_pixels(tmp_path: Path) -> None:
    phase = FlowMatching("last", 1, ["stdit"], batch_size=4, clip=4, motion_threshold=0.05)
    with pytest.raises(ColaWorldError, match=r"phases.last.motion_threshold=0.05 .*size=pixels"):
        Trainer(
            ColaWorldModel(**SMALL), [phase], moving_square(4), moving_square(4), tmp_path, seed=0
        )
