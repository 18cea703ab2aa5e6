"""The benchmark with the real LIBERO as the judge: problems, oracle, model and random actions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

import benchmarks
from benchmarks.make_goals import make_task
from benchmarks.vp2_protocol.run import Run
from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalSet
from cola_env.models.world_model import ColaWorldModel
from cola_env.simulators.loading import make_simulator
from cola_env.simulators.pool import SimulatorPool
from cola_env.worlds import LIBERO
from cola_train.controllers.libero_arm import Scene

TASK = "libero_goal/put_the_bowl_on_the_stove"


@pytest.fixture(scope="module")
def goals(libero_assets: Path) -> GoalSet:
    """One scripted problem that two actions solve."""
    return make_task(TASK, "fast", count=1, longest=2, world=LIBERO)


def configure(*overrides: str):
    conf = Path(benchmarks.__file__).parent / "conf"
    with initialize_config_dir(str(conf), version_base=None):
        return compose("vp2", ["env=libero", "reward=mse", "workers=1", *overrides])


def test_a_problem_begins_with_the_bowl_in_the_hand(libero_assets: Path) -> None:
    (pair,) = make_task(TASK, "fast", count=1, longest=99, world=LIBERO).pairs
    env = make_simulator(LIBERO, TASK, rendering="fast", action_repeat=LIBERO.action_repeat)
    env.reset(seed=pair.seed)
    on_the_table = Scene(env).object("akita_black_bowl_1")[2]
    env.restore(env.to_snapshot(pair.initial_state))
    scene = Scene(env)
    assert scene.object("akita_black_bowl_1")[2] > on_the_table + 0.05
    assert np.linalg.norm(scene.object("akita_black_bowl_1") - scene.tip) < 0.1
    assert pair.start_index > 0
    env.close()


def test_a_whole_problem_begins_at_one_of_the_benchmarks_own_starts(libero_assets: Path) -> None:
    (pair,) = make_task(TASK, "fast", count=1, longest=None, first_seed=3, world=LIBERO).pairs
    env = make_simulator(LIBERO, TASK, rendering="fast", action_repeat=LIBERO.action_repeat)
    frame, _ = env.reset(seed=pair.seed, options={"start": pair.seed % env.num_starts})
    np.testing.assert_array_equal(env.to_vector(env.snapshot()), pair.initial_state)
    np.testing.assert_array_equal(frame, pair.initial_frame)
    assert pair.start_index == 0 and pair.expert_steps > LIBERO.problem_steps
    assert [env.advance(action) for action in pair.expert_actions].index(
        True
    ) == pair.expert_steps - 1
    env.close()


def test_the_scripts_solution_succeeds_in_another_process(goals: GoalSet) -> None:
    (pair,) = goals.of(TASK)
    assert (goals.world, goals.action_repeat, pair.expert_steps) == ("libero", 10, 2)
    assert pair.expert_actions.shape == (2, 7) and pair.start_index > 0
    with SimulatorPool(1, goals.rendering, goals.action_repeat, world=goals.world) as pool:
        outcome = pool.advance(TASK, pair.initial_state, pair.expert_actions).result()
    assert outcome.success
    np.testing.assert_array_equal(outcome.frames[-1], pair.goal_frame)
    np.testing.assert_array_equal(outcome.state, pair.goal_state)


def test_a_run(goals: GoalSet, tmp_path: Path) -> None:
    goals.save(tmp_path / "goals.npz")
    torch.manual_seed(0)
    ColaWorldModel(action_dim=7, rendering="fast").save_pretrained(tmp_path / "tiny")
    run = Run(
        configure(
            f"model=[tiny:{tmp_path / 'tiny'},simulator,random]",
            f"goals={tmp_path / 'goals.npz'}",
            f"out={tmp_path / 'run'}",
            f"tasks=[{TASK}]",
            "steps=1",
            "replan_every=1",
            "planner.num_samples=3",
            "planner.horizon=1",
            "planner.iterations=1",
            "oracle.num_samples=3",
            "oracle.iterations=1",
        )
    )
    run.play(lambda record: None)
    assert [record.model for record in run.records()] == ["tiny", "simulator", "random"]
    assert run.folder.settings()["common"]["env"] == "libero"


def test_what_libero_cannot_do_is_one_sentence(tmp_path: Path) -> None:
    for settings, sentence in (
        (("judge=vp2", "model=random"), "judge=vp2 and protocol=vp2 are of RoboDesk"),
        (("model=nonsense",), "no checkpoint 'nonsense'"),
    ):
        with pytest.raises(ColaWorldError, match=sentence):
            Run(configure(*settings, f"out={tmp_path}"))
