"""Going on from a saved model."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_env.models.components import COMPONENTS
from cola_env.models.loading import load_model
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import ROBODESK
from cola_train import recipes
from cola_train.trained_models import start_from
from tests.train.small import SMALL, small_model


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
    start_from(model, load_model(folder, "cpu"), folder, ["autoencoder", "stdit"])
    assert same(model, before, "autoencoder") and same(model, before, "stdit")
    assert same(model, small_model(), "idm")
    reference = small_model(conditioning="direct")
    start_from(reference, load_model(folder, "cpu"), folder, None)
    assert same(reference, before, "stdit") and same(reference, before, "conditioner")


def test_what_reads_actions_of_another_size_starts_fresh(tmp_path: Path) -> None:
    before, folder = saved(tmp_path)
    model = small_model(action_dim=7)
    start_from(model, load_model(folder, "cpu"), folder, None)
    assert same(model, before, "stdit") and same(model, before, "idm")
    assert same(model, small_model(action_dim=7), "adapter")


def test_how_weights_are_learned_may_change(tmp_path: Path) -> None:
    before, folder = saved(tmp_path)
    model = small_model(quantizer_config={"commitment_weight": 0.25, "gradient": "rotation"})
    start_from(model, load_model(folder, "cpu"), folder, ["quantizer"])
    assert same(model, before, "quantizer")


def test_a_model_of_another_size_is_told_apart(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    deeper = SMALL["stdit_config"] | {"depth": 3}
    model = ColaWorldModel(**SMALL | {"stdit_config": deeper})
    with pytest.raises(ColaWorldError, match=r"stdit_config.depth: 1 there, 3 here.*leave it out"):
        start_from(model, load_model(folder, "cpu"), folder, None)
    start_from(model, load_model(folder, "cpu"), folder, ["autoencoder", "idm"])


@pytest.mark.parametrize(
    ("told", "settings"),
    [
        (
            "quantizer_config.normalize: True there, False",
            {"quantizer_config": {"normalize": False}},
        ),
        ("adapter_config.soft: True there, False", {"adapter_config": {"soft": False}}),
        ("stdit_config.window: 4 there, 8", {"stdit_config": {"window": 8}}),
        ("stdit_config.fps: None there, of the data", {"stdit_config": {"fps": 10.0}}),
        ("timestep_shift: False there, True", {"timestep_shift": True}),
    ],
)  # fmt: skip
def test_settings_that_change_no_shape_are_compared_too(
    told: str, settings: dict, tmp_path: Path
) -> None:
    _, folder = saved(tmp_path)
    merged = {k: SMALL.get(k, {}) | v if isinstance(v, dict) else v for k, v in settings.items()}
    model = ColaWorldModel(**SMALL | merged)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ColaWorldError, match=rf"model\.{told} here.*leave it out of init_comp"):
        start_from(model, load_model(folder, "cpu"), folder, None)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    others = {"autoencoder", "conditioner", "idm"} - {told.partition("_config")[0]}
    start_from(model, load_model(folder, "cpu"), folder, sorted(others))


def test_how_a_model_is_sampled_by_default_may_differ(tmp_path: Path) -> None:
    small_model(num_inference_steps=10, guidance_scale=4.0, rendering="fast").save_pretrained(
        tmp_path
    )
    model = small_model()
    start_from(model, load_model(str(tmp_path), "cpu"), str(tmp_path), None)
    assert model.config.num_inference_steps == 1


def test_a_part_that_fits_only_its_neighbours_is_told(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    model = small_model(quantizer_config={"code_size": 16})
    with pytest.raises(ColaWorldError, match="conditioner of .* another size .* connected to"):
        start_from(model, load_model(folder, "cpu"), folder, ["conditioner"])


@pytest.mark.parametrize("name", ["robodesk/cola", "robodesk/direct", "libero/cola"])
@pytest.mark.parametrize("recipe", ["joint_mini", "two_stage_mini", "direct_mini", "distill_mini"])
def test_the_recipes_of_mini_go_on_from_the_shipped_models(recipe: str, name: str) -> None:
    init = ROBODESK.assets.parent / name
    with initialize_config_dir(str(Path(cli.__file__).parent / "conf"), version_base=None):
        config = compose("train", [f"recipe={recipe}", "data=x", f"init={init}"])
    model = recipes.build_model(config, "fast", action_dim=7)
    taken = ColaWorldModel.from_pretrained(init).stdit.state_dict()
    assert all(torch.equal(w, taken[key]) for key, w in model.stdit.state_dict().items())


@pytest.mark.parametrize("components", ["[stdit]", "[stdit,idm]"])
def test_some_components_of_a_shipped_model_start_a_training_of_its_size(components: str) -> None:
    init = ROBODESK.assets / "cola"
    with initialize_config_dir(str(Path(cli.__file__).parent / "conf"), version_base=None):
        chosen = [f"init={init}", f"init_components={components}"]
        config = compose("train", ["recipe=joint_mini", "data=x", *chosen])
    model, source = recipes.build_model(config, "fast", 5), ColaWorldModel.from_pretrained(init)
    assert model.stdit.config == source.stdit.config
    taken, own = (m.stdit.state_dict() for m in (source, model))
    assert all(torch.equal(weight, taken[key]) for key, weight in own.items())


@pytest.mark.parametrize("before", ["joint_paper", "two_stage_paper"])
def test_a_paper_model_can_be_distilled(before: str) -> None:
    """Of the paper's size, only the settings: nothing is built."""
    with initialize_config_dir(str(Path(cli.__file__).parent / "conf"), version_base=None):
        config = [compose("train", [f"recipe={r}", "data=x"]) for r in (before, "distill_paper")]
    trained, student = ({**MODEL_SIZES[c.size], **c.model} for c in config)
    trained.pop("fdm_config", None)
    assert trained == student


def test_a_misspelt_component_is_refused(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    with pytest.raises(ColaWorldError, match=r"names stditt; there are autoencoder, vae, stdit"):
        start_from(small_model(), load_model(folder, "cpu"), folder, ["autoencoder", "stditt"])


@pytest.mark.parametrize("fdm_config", [None, {}])
@pytest.mark.parametrize("conditioning", ["latent", "direct"])
def test_every_component_can_be_named(conditioning: str, fdm_config: dict | None) -> None:
    model = small_model(conditioning=conditioning, fdm_config=fdm_config)
    assert {name for name, _ in model.named_children()} <= set(COMPONENTS)
