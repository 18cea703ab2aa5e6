"""Controlled runs: one thing changed an arm, resumable, measured."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks import training_runs
from benchmarks.recipes import jobs, measures, table, train_and_roll_out
from benchmarks.training_runs import Job, finish, finish_all, finished, merged, train
from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.loading import load_model
from cola_train import recipes
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.evaluation.rollout_quality import multi_step_psnr
from cola_train.trained_models import held_out_of

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"


def config(*overrides: str, name: str = "recipes") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(name, ["data=[x,y]", "init=z", *overrides])


def test_an_arm_is_the_base_with_what_it_changes() -> None:
    base, *others = jobs(config("arms=[base,no_motion*]"))
    assert [job.arm for job in others if job.seed == 0] == ["no_motion_input", "no_motion_weight"]
    assert {job.seed for job in others if job.arm == "base"} == {1, 2}
    changed = set(others[0].overrides) - set(base.overrides)
    assert changed == {"model.idm_config.motion=false"}
    (scratch,) = jobs(config("arms=scratch"))
    assert "init_components=[autoencoder]" in scratch.overrides


def test_the_last_override_of_a_key_wins_and_new_keys_are_added() -> None:
    assert merged(["recipe=joint_mini", "a.b=1", "a.b=2"]) == ["recipe=joint_mini", "++a.b=2"]


@pytest.mark.parametrize("study", ["recipes", "adapters", "sharper"])
def test_every_arm_composes(study: str) -> None:
    for job in jobs(config(name=study)):
        with initialize_config_dir(str(training_runs.CONF), version_base=None):
            recipe = compose("train", merged([*job.overrides, "out=none"]))
        names = recipes.chosen_phases(recipe)
        assert names and all(recipes.make_phase(recipe, name).steps > 0 for name in names)


def test_an_unknown_arm_is_named() -> None:
    with pytest.raises(ColaWorldError, match="no arm 'nonsense'"):
        jobs(config("arms=nonsense"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [5]},
    }
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    with LeRobotWriter(folder, features=features, fps=10, robot_type="stub") as writer:
        for _ in range(3):
            frames = rng.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
            actions = rng.uniform(-1, 1, (9, 5)).astype(np.float32)
            writer.add_episode("task", {"observation.image": frames, "action": actions}, {})
        writer.close({"train": "0:2", "test": "2:3"}, rendering="fast")
    return folder


def tiny(data: Path) -> tuple[str, ...]:
    """Overrides of a training of seconds."""
    sizes = [
        "model.stdit_config={hidden_size:32,depth:1,num_heads:2}",
        "model.conditioner_config={hidden_size:32,num_heads:2}",
    ]
    steps = [f"phases.{name}.{key}" for name in ("warm_up", "end_to_end")
             for key in ("steps=2", "batch_size=2", "measured_clips=4")]  # fmt: skip
    start = ["recipe=joint_mini", "start=warm_up", "order=[warm_up,end_to_end]"]
    return (*start, *sizes, *steps, "phases.warm_up.continuous_steps=1", f"data=[{data}]")


def test_a_run_is_trained_measured_and_then_finished(data: Path, tmp_path: Path) -> None:
    overrides = tiny(data)
    job = Job("tiny", 0, "as small as can be", overrides)
    assert not finished(job, tmp_path)
    finish(job, tmp_path)
    assert finished(job, tmp_path)
    finish(job, tmp_path)
    with pytest.raises(
        ColaWorldError, match=r"tiny_0 holds a run of other settings \(\+\+seed=3\)"
    ):
        finish(Job("tiny", 0, "", (*overrides, "seed=3")), tmp_path)
    row = measures(job, tmp_path)
    assert row["held_out"]["end_to_end"]["step"] == 2
    assert json.loads(json.dumps(row)) == row
    assert "| tiny | as small as can be | 0 |" in table([row])
    for wrong in ("phases.warm_up.clip=90", "recipe=nothing"):
        with pytest.raises(ColaWorldError, match=r"The run wrong \(seed 0\) failed: "):
            train(Job("wrong", 0, "", (*overrides, wrong)), tmp_path)


def test_what_a_run_imagines_and_costs_is_measured_once(data: Path, tmp_path: Path) -> None:
    job = Job("tiny", 0, "", tiny(data))
    spent = job.folder(tmp_path) / "core_seconds.json"
    write_json(spent, 3600.0)  # of the times before, which were stopped
    train_and_roll_out(job, tmp_path, horizon=3)
    last = measures(job, tmp_path)["held_out"]["end_to_end"]
    model = load_model(job.folder(tmp_path) / "end_to_end", "cpu")
    clips = held_out_of(DataSources(str(data), LoadingConfig(workers=0)), model, with_actions=True)
    by_step = multi_step_psnr(model, clips, 3, count=256)["own"]
    assert [last["step_1"], last["step_3"]] == pytest.approx([by_step[0], by_step[2]], abs=1e-3)
    assert last["frames_per_second"] > 0 and 1 < last["core_hours"] < 1.2
    begun = spent.stat().st_mtime_ns
    train_and_roll_out(job, tmp_path, horizon=3)
    assert spent.stat().st_mtime_ns == begun
    assert measures(job, tmp_path)["held_out"]["end_to_end"] == last


def test_runs_side_by_side_wait_for_those_they_go_on_from(data: Path, tmp_path: Path) -> None:
    overrides = (*tiny(data), f"trainer.latent_cache={tmp_path}/latents")
    later = (
        *overrides,
        f"init={tmp_path}/first_0/warm_up",
        "order=[end_to_end]",
        "start=end_to_end",
    )
    jobs = [
        Job("first", 0, "", overrides),
        Job("second", 0, "", later, after="first"),
        Job("other", 0, "", (*overrides, "seed=1")),
    ]
    finish_all(jobs, tmp_path, workers=2)
    assert all(finished(job, tmp_path) for job in jobs)
    assert "end_to_end" in (tmp_path / "second_0" / "log.txt").read_text()
    with pytest.raises(ColaWorldError, match=r"The run wrong \(seed 0\) failed: "):
        wrong = Job("wrong", 0, "", (*overrides, "recipe=nothing"))
        finish_all([wrong, Job("never", 0, "", later, after="wrong")], tmp_path, workers=2)
    assert not (tmp_path / "never_0").exists()


def test_workers_that_cannot_train_are_named(data: Path, tmp_path: Path, monkeypatch) -> None:
    jobs = [Job("first", 0, "", tiny(data))]
    with pytest.raises(ColaWorldError, match="workers=0 trains nothing"):
        finish_all(jobs, tmp_path, workers=0)
    monkeypatch.setattr(training_runs, "finish_aside", die)
    with pytest.raises(ColaWorldError, match="worker process ended.*again, with fewer workers="):
        finish_all(jobs, tmp_path, workers=2)


def die(job: Job, out: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
