"""What the package ships, judged by the solved planning problems that it ships too."""

import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv, GoalPair, load_goals
from cola_env.checkpoints import NEXT, SHIPPED
from cola_env.models.visual_policy import load_policy
from cola_env.scoring.success_classifier import load_classifier
from cola_env.worlds import LIBERO, ROBODESK, WORLDS, WorldInfo

WORLD = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


def some_pairs(world: WorldInfo, each: int) -> list[GoalPair]:
    goals = load_goals(world.rendering, world=world)
    return [pair for task in world.goal_tasks for pair in goals.of(task)[:each]]


def error(frame: np.ndarray, pair: GoalPair) -> float:
    """Mean squared error, on the pixels in which the goal differs from the start."""
    start, goal, shown = (x / 255.0 for x in (pair.initial_frame, pair.goal_frame, frame))
    return float(((shown - goal) ** 2)[abs(goal - start).max(-1) > 0.1].mean())


MODELS = [*((world, name) for world in WORLDS.values() for name in SHIPPED), (ROBODESK, NEXT)]


@pytest.mark.parametrize(
    ("world", "name"), MODELS, ids=[f"{world.name}-{name}" for world, name in MODELS]
)
def test_a_shipped_model_foresees_where_actions_lead(world: WorldInfo, name: str) -> None:
    env = ColaWorldEnv(world=world.name, checkpoint=name, reward="mse", device="cpu")
    pairs = some_pairs(world, 2)
    errors = []
    for pair, stranger in zip(pairs, pairs[3:] + pairs[:3], strict=True):
        length, width = pair.expert_actions.shape
        ends = []
        for actions in (pair.expert_actions, np.resize(stranger.expert_actions, (length, width))):
            env.reset(seed=0, options={"frame": pair.initial_frame, "goal": pair.goal_frame})
            ends.append([env.step(action)[0] for action in actions][-1])
        errors.append([error(frame, pair) for frame in (*ends, pair.initial_frame)])
    own, of_other_actions, unmoved = np.mean(errors, axis=0)
    assert own < 0.8 * of_other_actions
    assert own < 0.5 * unmoved


@pytest.mark.parametrize(
    ("world", "model"), [(ROBODESK, "cola"), (ROBODESK, "cola_pixels"), (LIBERO, "cola")]
)
def test_the_shipped_classifiers_tell_goals_from_starts(world: WorldInfo, model: str) -> None:
    classifier = load_classifier(world.assets / model, world)
    pairs = some_pairs(world, 10)

    def logits(which: str) -> torch.Tensor:
        frames = ((torch.tensor(getattr(pair, which)) / 255, pair.task) for pair in pairs)
        return torch.stack([classifier.logit(*frame) for frame in frames])

    start, goal = logits("initial_frame"), logits("goal_frame")
    assert (goal > start).float().mean() > 0.9
    assert (goal > 0).float().mean() > 0.7


def test_the_next_model_has_classifiers_of_its_own() -> None:
    env = ColaWorldEnv(world="robodesk", checkpoint=NEXT, task="open_slide", device="cpu")
    own = load_classifier(ROBODESK.assets / NEXT / "classifiers")
    frame, info = env.reset(seed=0)
    expected = float(own.logit(torch.tensor(frame) / 255, "open_slide"))
    shown = np.log(info["success_probability"] / (1 - info["success_probability"]))
    assert shown == pytest.approx(expected, abs=0.1)
    shipped = load_classifier(ROBODESK.assets / "cola")
    assert abs(float(shipped.logit(torch.tensor(frame) / 255, "open_slide")) - expected) > 1


def test_the_shipped_value_function_rises_on_the_way_to_success() -> None:
    values = load_classifier(LIBERO.assets / "values")
    assert values.discount > 0
    env = ColaWorldEnv(world="libero", checkpoint="cola", reward="mse", device="cpu")
    better = []
    for pair in some_pairs(LIBERO, 4):
        env.reset(seed=0, options={"frame": pair.initial_frame, "goal": pair.goal_frame})
        imagined = [env.step(action)[0] for action in pair.expert_actions]
        frames = torch.tensor(np.stack([pair.initial_frame, pair.goal_frame, imagined[-1]])) / 255
        start, goal, dreamt = values.logit(frames, pair.task).tolist()
        better.append([goal > start, dreamt > start])
    assert (np.mean(better, axis=0) > 0.8).all()


def test_the_shipped_policy_begins_as_the_scripts_do() -> None:
    policy = load_policy("policy", "cpu")
    pairs = some_pairs(ROBODESK, 10)
    frames = torch.tensor(np.stack([pair.initial_frame for pair in pairs]))
    first = torch.tensor(np.stack([pair.expert_actions[0] for pair in pairs]))
    errors = []
    for tasks in ([pair.task for pair in pairs], [pair.task for pair in pairs[10:] + pairs[:10]]):
        acted = [
            policy.act(frame[None], task)[0] for frame, task in zip(frames, tasks, strict=True)
        ]
        errors.append(float((torch.stack(acted) - first).abs().mean()))
    own, of_another_task = errors
    assert own < 0.25 and own < 0.6 * of_another_task


@WORLD
def test_the_checkpoints_of_a_world_are_small(world: WorldInfo) -> None:
    for name in SHIPPED:
        size = sum(file.stat().st_size for file in (world.assets / name).iterdir())
        assert size <= 25e6
