"""Both worlds by name, and the dream of LIBERO, which needs none of its packages."""

from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import cola_env
from cola_env import ColaWorldEnv, ColaWorldError, GoalPair, GoalSet, SuccessClassifier, load_goals
from cola_env.goals.loading import goals_files
from cola_env.scoring.success_classifier import find_classifier, load_classifier
from cola_env.worlds import GOAL_SCENE_TASKS, LIBERO, ROBODESK, WORLDS, find_world, world_of

TASK = "libero_goal/put_the_bowl_on_the_plate"
Draw = Callable[[int], np.ndarray]


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Draw, libero_model) -> Path:
    """A checkpoint, classifiers and two problems of LIBERO, shipped."""
    monkeypatch.setattr("cola_env.worlds.ASSETS", tmp_path)
    monkeypatch.setattr("cola_env.scoring.success_classifier.SuccessClassifier.threshold", 1.0)
    libero_model.save_pretrained(LIBERO.assets / "cola")
    torch.manual_seed(0)
    SuccessClassifier(LIBERO.goal_tasks, width=8).save_pretrained(LIBERO.assets / "classifiers")
    pairs = tuple(
        GoalPair(
            task=TASK,
            initial_state=np.zeros(3),
            initial_frame=image(i),
            goal_state=np.ones(3),
            goal_frame=image(i + 2),
            expert_actions=np.zeros((4, 7), np.float32),
            start_index=0,
            seed=i,
        )
        for i in range(2)
    )
    GoalSet("fast", 10, pairs, world="libero").save(LIBERO.assets / "goals" / "fast.npz")
    return tmp_path


def test_worlds_by_name() -> None:
    assert find_world("libero") is LIBERO and find_world("robodesk") is ROBODESK
    with pytest.raises(ColaWorldError, match="no world 'atari': choose env=robodesk or env=libero"):
        find_world("atari")
    assert LIBERO.tasks == GOAL_SCENE_TASKS and LIBERO.action_dim == 7
    for world in WORLDS.values():
        assert set(world.goal_tasks) <= set(world.tasks)
        assert gym.spec(f"ColaWorld-{world.simulator}-v0").kwargs == {"world": world.name}


def test_a_worlds_name_will_do_wherever_a_world_is_asked_for(assets: Path) -> None:
    assert find_world(LIBERO) is LIBERO
    for world in ("libero", LIBERO):
        assert load_goals(world=world).world == "libero"
        assert cola_env.load_model(device="cpu", world=world).config.action_dim == 7
        assert cola_env.find_checkpoint(world=world) == LIBERO.assets / "cola"
        assert load_classifier(world=world).tasks == LIBERO.goal_tasks
        assert find_classifier(world=world) == LIBERO.assets / "classifiers"
        assert goals_files(world=world) == [LIBERO.assets / "goals" / "fast.npz"]
    for call in (load_goals, cola_env.load_model, cola_env.find_checkpoint, load_classifier):
        with pytest.raises(ColaWorldError, match="no world 'atari'"):
            call(world="atari")


def test_a_task_finds_the_classifiers_of_its_world(assets: Path) -> None:
    frames = torch.rand(2, 64, 64, 3)
    reward = cola_env.make_reward("classifier", TASK)
    expected = load_classifier(world="libero").logit(frames, TASK)
    torch.testing.assert_close(reward(frames, frames[0]), expected)
    assert cola_env.make_reward("vp2", TASK)(frames, frames[0]).shape == (2,)
    assert world_of("stack") is ROBODESK and world_of(TASK) is LIBERO
    with pytest.raises(ColaWorldError, match="no success classifiers in .*robodesk"):
        cola_env.make_reward("vp2", "push_red")


def test_the_dream_of_libero(assets: Path) -> None:
    env = gym.make("ColaWorld-LIBERO-v0", task=TASK, device="cpu")
    assert env.action_space.shape == (7,)
    first, info = env.reset(seed=0)
    assert first.shape == (64, 64, 3) and 0 <= info["success_probability"] <= 1
    move = np.full(7, 0.5, np.float32)
    frame, reward, *_ = env.step(move)
    assert np.isfinite(reward)
    vec = gym.make_vec("ColaWorld-LIBERO-v0", num_envs=2, task=TASK, device="cpu")
    vec.reset(seed=0)
    frames = vec.step(np.stack([move, move]))[0]
    np.testing.assert_allclose(frames[0].astype(int), frame.astype(int), atol=1)


def test_a_dream_without_a_checkpoint_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cola_env.worlds.ASSETS", tmp_path)
    with pytest.raises(ColaWorldError, match="'cola' of LIBERO.*env=libero.*cola train data="):
        gym.make("ColaWorld-LIBERO-v0")


def test_what_belongs_to_another_world_is_refused(assets: Path, checkpoints) -> None:
    with pytest.raises(ColaWorldError, match="takes 5 actions, but those of LIBERO have 7"):
        ColaWorldEnv(world="libero", checkpoint=checkpoints["direct"], device="cpu")
    with pytest.raises(ColaWorldError, match="Unknown task 'push_red'.*turn_on_the_stove"):
        ColaWorldEnv("push_red", world="libero", device="cpu")
    goals = LIBERO.assets / "goals" / "fast.npz"
    assert load_goals("fast", goals, LIBERO).world == "libero"
    with pytest.raises(ColaWorldError, match="of env=libero, not of env=robodesk"):
        load_goals("fast", goals)
    assert cola_env.find_checkpoint(None, LIBERO) == LIBERO.assets / "cola"
