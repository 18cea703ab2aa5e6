"""Going on from a saved model."""

from pathlib import Path

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.components import COMPONENTS
from cola_env.models.world_model import ColaWorldModel
from cola_train.__main__ import start_from
from tests.train.test_trainer import SMALL, small_model


def saved(tmp_path: Path) -> tuple[ColaWorldModel, str]:
    model = small_model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    model.save_pretrained(tmp_path)
    return model, str(tmp_path)


def same(one: ColaWorldModel, other: ColaWorldModel, part: str) -> bool:
    parts = (model.get_submodule(part).state_dict().values() for model in (one, other))
    return all(map(torch.equal, *parts))


def test_chosen_components_are_taken_and_the_rest_starts_fresh(tmp_path: Path) -> None:
    before, folder = saved(tmp_path)
    model = small_model()
    start_from(model, folder, ["autoencoder", "stdit"])
    assert same(model, before, "autoencoder") and same(model, before, "stdit")
    assert same(model, small_model(), "idm")
    reference = small_model(conditioning="direct")
    start_from(reference, folder, None)
    assert same(reference, before, "stdit") and same(reference, before, "conditioner")


def test_what_reads_actions_of_another_size_starts_fresh(tmp_path: Path) -> None:
    before, folder = saved(tmp_path)
    model = small_model(action_dim=7)
    start_from(model, folder, None)
    assert same(model, before, "stdit") and same(model, before, "idm")
    assert same(model, small_model(action_dim=7), "adapter")


def test_a_model_of_another_size_is_told_apart(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    deeper = SMALL["stdit_config"] | {"depth": 3}
    model = ColaWorldModel(**SMALL | {"stdit_config": deeper})
    with pytest.raises(ColaWorldError, match=r"stdit of .* give the model.stdit_config"):
        start_from(model, folder, None)
    start_from(model, folder, ["autoencoder", "idm"])


def test_a_misspelt_component_is_refused(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    with pytest.raises(ColaWorldError, match=r"names stditt; there are autoencoder, vae, stdit"):
        start_from(small_model(), folder, ["autoencoder", "stditt"])


@pytest.mark.parametrize("fdm_config", [None, {}])
@pytest.mark.parametrize("conditioning", ["latent", "direct"])
def test_every_component_can_be_named(conditioning: str, fdm_config: dict | None) -> None:
    model = small_model(conditioning=conditioning, fdm_config=fdm_config)
    assert {name for name, _ in model.named_children()} <= set(COMPONENTS)
