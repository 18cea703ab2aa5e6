"""One command says whether a model obeys: its keys, and that an obedient model is told apart."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks import obeys
from benchmarks.obeys import measure, planning_run
from cola_env.errors import ColaWorldError
from tests.pictures import read_picture
from tests.train.conftest import write_demos
from tests.train.small import SMALL, moving_square, small_model

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"
KEYS = """copy own shuffled none adapter direct_own direct_shuffled utilisation max_usage entropy
          probe_r2 probe_l1 psnr_by_step""".split()


def test_everything_that_a_run_is_judged_by_is_measured() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        settings = ["data=x", "clips=4", "length=4", "horizon=3", "rollouts=6"]
        config = compose("obeys", settings)
    clips = moving_square(episodes=6, steps=6)
    cola, direct = small_model().eval(), small_model(conditioning="direct").eval()
    results = measure(cola, direct, clips, clips, config)
    assert set(KEYS) <= results.keys()
    assert set(results["entropy"]) == {"lam", "adapter"}
    assert len(results["probe_r2"]) == 5
    assert set(results["psnr_by_step"]["cola"]) == {"copy", "own", "adapter"}
    assert json.loads(json.dumps(results)) == results


def test_planning_is_that_of_the_benchmark_with_the_models_measured(tmp_path: Path) -> None:
    given = ["+planning.env=robodesk", "+planning.episodes=2", "planning.tasks=[push_red]"]
    given += ["+planning.planner.num_samples=7", "+planning.rendering=null"]
    with initialize_config_dir(str(CONF), version_base=None):
        run = planning_run(compose("obeys", ["data=x", f"out='{tmp_path}/a=1'", *given]))
        with pytest.raises(ColaWorldError, match="planning does not fit.*'episode'"):
            planning_run(compose("obeys", ["data=x", "+planning.episode=2"]))
    assert [label for label, _, _ in run.planned] == ["cola"] * 2 + ["direct"] * 2 + ["random"] * 2
    assert run.folder.path == tmp_path / "a=1" / "planning" and run.tasks == ["push_red"]
    assert run.rules.replan_every == 3
    assert run.methods["cola"].name.planner == "cem"
    assert run.methods["cola"].settings["planner_settings"]["num_samples"] == 7


def test_any_data_will_do_at_the_frame_rate_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obeys, "video_quality", lambda *_, **__: {})
    demos = write_demos(tmp_path / "demos.hdf5", [30, 24, 26])  # 20 frames a second
    small_model().save_pretrained(tmp_path / "run" / "finetune")
    small_model(conditioning="direct").save_pretrained(tmp_path / "direct")
    recipe = {"data": str(demos), "fps": 10}
    OmegaConf.save(OmegaConf.create(recipe), tmp_path / "run" / "recipe.yaml")
    model, given = (
        tmp_path / "run" / "finetune",
        ["clips=2", "length=4", "horizon=6", f"out={tmp_path}"],
    )
    with initialize_config_dir(str(CONF), version_base=None):
        judged = compose("obeys", [
            f"model={model}", f"reference={tmp_path / 'direct'}", "planning=null", *given,
        ])  # fmt: skip
    obeys.main.__wrapped__(judged)
    found = json.loads((tmp_path / "obeys.json").read_text())
    assert found["held_out_episodes"] == 1 and read_picture(tmp_path / "rollout.png").std() > 10
    assert found["adapter_5"] == found["psnr_by_step"]["cola"]["adapter"][4]
    assert "adapter_10" not in found
    judged.horizon = 12  # 13 frames are held out
    with pytest.raises(SystemExit, match="has the 14 frames of a clip"):
        obeys.main.__wrapped__(judged)


CONTINUOUS = {"quantizer_config": {"kind": "gaussian"}}
SMALL_FRAMES = {"image_size": 32, "stdit_config": SMALL["stdit_config"] | {"input_size": 4}}


@pytest.mark.parametrize(
    ("model", "reference", "told"),
    [
        ({"conditioning": "direct"}, {}, "model=.* lacks the codes .* or the adapter"),
        (CONTINUOUS, {}, "model=.* lacks the codes .* or the adapter"),
        ({"action_dim": 0}, {}, "model=.* lacks the codes .* or the adapter"),
        ({"action_dim": 7}, {}, "reference=.* has action_dim=5, but model=.* action_dim=7"),
        ({}, SMALL_FRAMES, "reference=.* has image_size=32, but model=.* image_size=64"),
        ({}, {"rendering": "fast"}, "reference=.* has rendering=fast, but model=.* rendering=vp2"),
        ({}, CONTINUOUS | {"conditioning": "latent"}, "reference=.* takes no real actions"),
    ],
)
def test_models_that_cannot_be_measured_together_are_told_of_before_anything_is_read(
    tmp_path: Path, model: dict[str, Any], reference: dict[str, Any], told: str
) -> None:
    small_model(**model).save_pretrained(tmp_path / "model")
    small_model(**{"conditioning": "direct", **reference}).save_pretrained(tmp_path / "reference")
    named = [f"{name}={tmp_path / name}" for name in ("model", "reference")]
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("obeys", [*named, "data=nowhere", f"out={tmp_path / 'out'}"])
    with pytest.raises(SystemExit, match=told) as error:
        obeys.main.__wrapped__(config)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
