"""benchmarks/dream_rl.py with the real packages (`make adapters`): a few steps of PPO."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks import dream_rl
from benchmarks.dream_rl import beside, draw, rows, train
from benchmarks.dream_study import Study
from cola_env.errors import ColaWorldError
from cola_env.goals.loading import goals_files, load_goals
from cola_env.models.visual_policy import VisualPolicy, load_policy

for package in ("stable_baselines3", "robodesk"):
    pytest.importorskip(package, reason=f"{package} is not installed: make adapters")

TASK = "push_red"
CONF = Path(dream_rl.__file__).parent / "conf"


def settings(out: Path, *more: str) -> DictConfig:
    shipped, goals = load_goals("fast"), out.with_suffix(".npz")
    others = tuple(replace(pair, seed=pair.seed + 10**6) for pair in shipped.of(TASK))
    replace(shipped, pairs=others).save(goals)
    given = [
        f"tasks=[{TASK}]", f"goals={goals}", f"out={out}", "device=cpu", "steps=8",
        "evaluate_every=4", "num_envs=2", "pairs=2", "episode_steps=2", "ppo.n_steps=2",
        "ppo.batch_size=4", "ppo.n_epochs=1",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("dream_rl", [*given, *more])


def test_agents_learn_in_dream_and_simulator_and_go_on(tmp_path: Path) -> None:
    study = Study(settings(tmp_path))
    for training in study.trainings:
        found = list(train(study, training))
        assert [each["steps"] for each in found] == [0, 4, 8]
        assert all(each["episodes"] == len(each["pairs"]) == 2 for each in found)
        assert found[0]["seconds"] < found[1]["seconds"] < found[2]["seconds"]
        assert not list(train(study, training)), "nothing is left to do"
    longer = Study(settings(tmp_path, "steps=12"))
    dream = longer.trainings[0]
    before = (dream.folder / "agent.zip").read_bytes()
    assert [each["steps"] for each in train(longer, dream)] == [12]
    assert [each["steps"] for each in dream.evaluations()] == [0, 4, 8, 12]
    assert (dream.folder / "agent.zip").read_bytes() != before
    assert {row["arm"]: row["steps"] for row in rows(longer)} == {"dream": 12, "real": 8}
    draw(longer, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    lines = tmp_path / "results.json"
    solved = [{"task": TASK, "model": m, "successes": 3, "episodes": 30} for m in ("a", "b", "b")]
    lines.write_text(json.dumps({"rows": solved}))
    lined = Study(settings(tmp_path, f"+beside.search=[{lines},b]", f"+beside.other=[{lines},c]"))
    assert beside(lined, TASK) == {"search": 0.1}
    draw(lined, tmp_path / "lined.png")
    with pytest.raises(ColaWorldError, match="no results.json"):
        Study(settings(tmp_path, f"+beside.search=[{tmp_path / 'figure.png'},b]"))
    with pytest.raises(ColaWorldError, match="other settings"):
        Study(settings(tmp_path, "std=0.5"))
    assert json.loads((dream.folder / "evaluations.json").read_text())


def test_arms_are_checked_and_say_how_long_episodes_of_training_are(tmp_path: Path) -> None:
    from benchmarks.adapters.stable_baselines3 import Agent

    dream = "{checkpoint: cola, reward: mse, horizon: 1, trust_penalty: 0.5}"
    study = Study(settings(tmp_path / "out", f"+arms.short={dream}", "arms.real=null"))
    agent = Agent(study, study.trainings[1])
    agent.envs.reset()
    _, _, done, infos = agent.envs.step(np.zeros((2, 5), np.float32))
    assert done.all() and "expected_psnr" in infos[0]
    agent.close()
    for arm, told in {
        "{checkpoint: null, reward: mse, trust_penalty: 1}": "simulator has no trust_penalty",
        "{checkpoint: cola, reward: mse, horizon: 0}": "arms.wrong.horizon",
        "{checkpoint: cola, reward: mse, horzion: 5}": "may have trust_penalty and horizon",
        "{reward: mse}": "arms.wrong must be",
        "cola": "arms.wrong must be",
    }.items():
        with pytest.raises(ColaWorldError, match=told):
            Study(settings(tmp_path / "wrong", f"+arms.wrong={arm}"))
    with pytest.raises(ColaWorldError, match="evaluate_every must be a whole number of at least"):
        Study(settings(tmp_path / "wrong", "evaluate_every=0"))


def test_problems_that_agents_are_judged_by_are_not_trained_from(tmp_path: Path) -> None:
    (shipped,) = goals_files("fast")
    with pytest.raises(ColaWorldError, match="judged by: make others"):
        Study(settings(tmp_path / "out", f"goals={shipped}"))


def test_an_agent_that_begins_as_a_clone_acts_as_it_does(tmp_path: Path) -> None:
    from benchmarks.adapters.stable_baselines3 import Agent

    torch.manual_seed(0)
    clone = VisualPolicy(("open_slide", TASK), width=8)
    clone.save_pretrained(tmp_path / "clone")
    study = Study(settings(tmp_path / "out", f"clone={tmp_path / 'clone'}"))
    agent = Agent(study, study.trainings[0])
    frames = np.stack([pair.initial_frame for pair in load_goals("fast").of(TASK)[:4]])
    actions, _ = agent.ppo.predict(frames, deterministic=True)
    np.testing.assert_allclose(actions, clone.act(torch.tensor(frames), TASK), atol=1e-4)
    agent.save(0)
    kept = load_policy(study.trainings[0].folder / "policies" / "0", "cpu")
    assert kept.tasks == (TASK,)
    VisualPolicy(("open_slide", TASK), width=8).save_pretrained(tmp_path / "clone")
    with pytest.raises(ColaWorldError, match="other settings.*clone"):
        Study(study.config)
    np.testing.assert_allclose(actions, kept.act(torch.tensor(frames), TASK), atol=1e-4)
    agent.close()


def test_a_clone_that_does_not_know_the_task_is_refused(tmp_path: Path) -> None:
    from benchmarks.adapters.stable_baselines3 import Agent

    VisualPolicy(("open_slide",), width=8).save_pretrained(tmp_path / "clone")
    study = Study(settings(tmp_path / "out", f"clone={tmp_path / 'clone'}"))
    with pytest.raises(ColaWorldError, match=f"does not know the task '{TASK}'"):
        Agent(study, study.trainings[0])
