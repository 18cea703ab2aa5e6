"""How long dreams stay true, by model and folder."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.measurements import dream_psnr
from cola_train.data.latent_cache import encoded
from cola_train.evaluation.rollout_quality import multi_step_psnr
from tests.train.conftest import write_demos
from tests.train.small import moving_square, small_model

CONF = Path(dream_psnr.__file__).parent / "conf"


def test_every_kind_of_action_has_its_steps_and_measures() -> None:
    clips, model = moving_square(episodes=6, steps=6), small_model().eval()
    found = dream_psnr.dream_quality(model, clips, horizon=3, count=4)
    assert set(found) == {"copy", "own", "adapter"}
    truth = multi_step_psnr(model, encoded(clips, model, cache=None), 3, 4)
    for name, measured in found.items():
        assert measured["moving_by_step"] == pytest.approx(truth[name], abs=0.006)
        assert {"psnr", "ssim", "moving_psnr"} < set(measured)


def test_models_are_measured_on_the_same_folders(tmp_path: Path) -> None:
    data = [str(write_demos(tmp_path / f"{n}.hdf5", [12, 14])) for n in range(2)]
    models = []
    for conditioning in ("latent", "direct"):
        models.append(str(tmp_path / conditioning))
        small_model(conditioning=conditioning).save_pretrained(models[-1])
    with initialize_config_dir(str(CONF), version_base=None):
        given = [f"data=[{','.join(data)}]", f"model=[{','.join(models)}]", "clips=2", "horizon=3"]
        found = dream_psnr.measure(compose("dream_psnr", given))["held_out"]
    assert list(found) == data
    for rows in found.values():
        assert list(rows) == models
        assert len({rows[name]["copy"]["psnr"] for name in models}) == 1  # the same clips
        assert set(rows[models[1]]) == {"copy", "own"}
