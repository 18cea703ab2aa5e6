"""What the paper's experiments train, and what is measured of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import cola_train.__main__ as training
from benchmarks import paper
from benchmarks.paper import EXPERIMENTS, check_given, reproduce
from benchmarks.paper_experiments import study as study_module
from benchmarks.paper_experiments.study import (
    Curve,
    Lines,
    Study,
    cached,
    chosen,
    curve,
    health_curve,
    plan,
)
from benchmarks.training_runs import merged
from cola_env.errors import ColaWorldError
from cola_env.models.latent_action.codebook_health import health_measures
from cola_train import recipes
from cola_train.data.clips import Clips
from tests.benchmarks.paper_cases import ALL, config
from tests.train.conftest import write_lerobot


def arms(*overrides: str) -> list[str]:
    settings = config(*overrides)
    return [f"{job.arm}_{job.seed}" for job in plan(settings, chosen(settings))]


def test_experiments_share_their_runs() -> None:
    assert arms("figure=2", "seeds=[0]") == [
        "no_warm_up_0", "both_random_0", "two_stage_0", "pretrained_idm_0",
    ]  # fmt: skip
    together = arms("figure=[2,3]", "seeds=[0,1]")
    assert len(together) == len(set(together)) == 2 * 8
    assert arms("figure=4b", "seeds=3") == ["joint_3", "frozen_lam_3"]
    assert arms("table=3", "seeds=0") == [
        "joint_0", "two_stage_0", "joint_adapted_0", "two_stage_adapted_0",
    ]  # fmt: skip
    assert arms("explanation=drift", "seeds=0") == ["joint_0", "pure_warm_up_0", "frozen_lam_0"]
    assert len(arms(*ALL)) == 3 * len(config().runs)
    assert arms("table=4", "vp2.results=results.json") == []


def test_a_size_may_have_runs_of_its_own() -> None:
    assert "paper_quantizer_0" in arms("figure=3", "seeds=0")
    assert "paper_quantizer_0" not in arms("figure=3", "seeds=0", "scale=paper")


def test_every_experiment_has_runs_and_a_function() -> None:
    assert set(EXPERIMENTS) == set(map(str, config().experiments))


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_every_run_composes(scale: str) -> None:
    settings = config(*ALL, f"scale={scale}", "seeds=0")
    for job in plan(settings, chosen(settings)):
        with initialize_config_dir(str(Path(training.__file__).parent / "conf"), version_base=None):
            recipe = compose("train", merged([*job.overrides, "out=none"]))
        for name in recipes.chosen_phases(recipe):
            phase = instantiate(recipe.phases[name], name=name)
            assert phase.steps == recipe.phases[name].steps > 0
            if scale == "paper" and job.arm == "joint":
                assert phase.steps == {"warm_up": 8000, "end_to_end": 52000}[name]


def test_runs_go_on_from_others_and_the_users_settings_win() -> None:
    settings = config("set=['trainer.log_every=7']", "seeds=5")
    needed = plan(settings, ["figure_2", "figure_3", "figure_4a", "table_3"])
    jobs = {job.arm: merged(list(job.overrides)) for job in needed}
    assert "++init=runs/paper/runs/joint_5/warm_up" in jobs["pure_warm_up"]
    assert "++init=z" in jobs["joint"]
    assert "++init_components=[autoencoder,vae]" in jobs["both_random"]
    assert "++init=runs/paper/runs/two_stage_5/latent_action_model" in jobs["pretrained_idm"]
    assert "++phases.end_to_end.steps=1440" in jobs["both_random"]
    assert "++phases.end_to_end.continuous_steps=120" in jobs["both_random"]
    assert "++phases.warm_up.fit_codes=false" in jobs["paper_quantizer"]
    assert "++phases.warm_up.continuous_steps=0" in jobs["paper_quantizer"]
    assert all("++trainer.log_every=7" in overrides for overrides in jobs.values())


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match=r"figure '7' is no experiment; choose .* 2, 3, 4a"):
        chosen(config("figure=7"))
    with pytest.raises(ColaWorldError, match=r"explanation '6' .* drift, wrong_codes, all"):
        chosen(config("explanation=6"))
    with pytest.raises(ColaWorldError, match="Say what to reproduce"):
        chosen(config())
    with pytest.raises(ColaWorldError, match="scale must be one of mini, paper"):
        plan(config("scale=huge"), ["figure_2"])
    with pytest.raises(ColaWorldError, match=r"Give data=FOLDER and init=FOLDER; .*pretrain"):
        check_given(config("data=null", "init=null"), ["figure_2"])
    with pytest.raises(ColaWorldError, match=r"config\.json"):
        check_given(config(f"init={tmp_path}"), ["figure_2"])
    with pytest.raises(ColaWorldError, match="Table 4 plans on goals of 64 x 64 pixels"):
        check_given(config("scale=paper"), ["table_4"])


def test_curves_go_on_over_phases() -> None:
    lines: Lines = [
        {"phase": "warm_up", "step": 2, "own": 1.0},
        {"phase": "warm_up", "step": 4, "loss": 0.5},
        {"phase": "end_to_end", "step": 3, "own": 2.0},
    ]
    assert curve(lines, "own", ("warm_up", "end_to_end")) == Curve([2, 7], [1.0, 2.0])
    assert curve(lines, "own", ("end_to_end",), start=10) == Curve([13], [2.0])


def test_health_is_the_mean_of_the_tokens() -> None:
    codes = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 4]])
    line = {"phase": "p", "step": 20, **health_measures(codes, num_codes=4 + 4)}
    (health,) = health_curve([line], "p").values()
    assert health.utilisation == pytest.approx((1 / 8 + 4 / 8) / 2)
    assert health.max_usage == pytest.approx((1 + 1 / 4) / 2)
    assert line["max_usage"] == pytest.approx(1 / 4)


def test_measures_are_taken_once(tmp_path: Path) -> None:
    path, taken = tmp_path / "found.json", []

    def measure() -> int:
        taken.append(1)
        return len(taken)

    assert [cached(path, {"clips": n}, measure) for n in (8, 8, 9)] == [1, 1, 2]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the frames of an episode with every measure of a model's quality."""
    lengths: list[int] = []

    def video_quality(model: object, clips: Clips, *_: object, **__: object) -> dict[str, object]:
        lengths.append(clips.frames.shape[1])
        return {"own": {"psnr": float(len(lengths))}}

    model = SimpleNamespace(config=SimpleNamespace(image_size=16))
    monkeypatch.setattr(study_module, "load_model", lambda *_: model)
    monkeypatch.setattr(study_module, "video_quality", video_quality)
    return lengths


def test_a_model_trained_anew_is_measured_anew(tmp_path: Path, measured: list[int]) -> None:
    data = write_lerobot(tmp_path / "data", [14, 14, 14])
    study = Study(config(f"out={tmp_path}", "set=['fps=10']"))
    folder = study.model("joint", 0, "end_to_end")
    folder.mkdir(parents=True)
    for weights, times in ((b"first", 1), (b"first", 1), (b"second", 2)):
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(weights)
        found = study_module.quality(study, "joint", 0, "end_to_end", str(data))
        assert found["own"]["psnr"] == times
    assert measured == [7, 7], "at the frame rate of the training"


def test_short_episodes_are_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_lerobot(tmp_path / "data", [14, 14, 14])
    monkeypatch.setattr(paper, "check_given", lambda *_: None)
    monkeypatch.setattr(paper, "finish_all", lambda *_: pytest.fail("a run was trained"))
    for overrides, frames in (
        (["table=2", "measure.horizon=13"], 15),
        (["table=3", "set=['fps=10']"], 12),
        (["figure=6", "measure.length=15"], 15),
        (["explanation=drift", "measure.length=15"], 15),
        (["explanation=wrong_codes", "measure.horizon=13"], 15),
    ):
        with pytest.raises(ColaWorldError, match=f"has the {frames} frames of a clip"):
            reproduce(config(f"data={data}", f"out={tmp_path}", *overrides))
    with pytest.raises(pytest.fail.Exception, match="a run was trained"):
        reproduce(config(f"data={data}", f"out={tmp_path}", "table=2"))


def test_a_wrong_override_is_told_with_its_run() -> None:
    with pytest.raises(ColaWorldError, match=r"The run joint \(seed 0\) failed: .*nonsense"):
        Study(config("set=['recipe=nonsense']")).loading("joint", 0)
