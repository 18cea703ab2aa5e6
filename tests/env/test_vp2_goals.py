"""VP2's goal files, of exactly its layout, made with the real simulator."""

import json
import shutil

import h5py
import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalSet
from cola_env.goals.loading import load_goals
from cola_env.simulators.robodesk.env import RoboDeskEnv
from cola_env.simulators.robodesk.vp2_state import PARTS, from_vp2_state
from tests.vp2_states import to_vp2_state


@pytest.fixture(scope="module")
def env():
    env = RoboDeskEnv("push_red", rendering="vp2")
    yield env
    env.close()


@pytest.fixture(scope="module")
def demos(vp2_goals_folder) -> list[dict[str, np.ndarray]]:
    """The arrays of the file's two demonstrations."""
    with h5py.File(vp2_goals_folder / "robodesk_push_red" / "goals.hdf5") as file:
        return [
            {"states": demo["states"][()], "images": demo["obs/camera_image"][()]}
            for demo in (file["data/demo_1"], file["data/demo_2"])
        ]


def test_a_folder_or_a_file_gives_the_problems(vp2_goals_folder, demos):
    goals = load_goals("vp2", vp2_goals_folder)
    alone = load_goals(None, vp2_goals_folder / "robodesk_push_red" / "goals.hdf5")
    assert goals.source == alone.source == "vp2" and goals.rendering == "vp2"
    assert goals.tasks == alone.tasks == ("push_red",)
    for pair, demo, start in zip(goals.of("push_red"), demos, (0, 2), strict=True):
        assert pair.start_index == start
        np.testing.assert_array_equal(pair.initial_frame, demo["images"][start])
        np.testing.assert_array_equal(pair.goal_frame, demo["images"][-1])
        assert pair.expert_actions.shape == (len(demo["states"]) - 1 - start, 5)


def test_states_make_the_round_trip_through_the_real_simulator(vp2_goals_folder, demos, env):
    goals = load_goals("vp2", vp2_goals_folder)
    for pair, demo in zip(goals.pairs, demos, strict=True):
        for vector, index in ((pair.initial_state, pair.start_index), (pair.goal_state, -1)):
            env.restore(RoboDeskEnv.to_snapshot(vector))
            np.testing.assert_allclose(to_vp2_state(env), demo["states"][index], atol=1e-12)
            difference = env.render().astype(int) - demo["images"][index]
            assert np.abs(difference).max() <= 1


def test_the_recorded_actions_lead_from_start_to_goal(vp2_goals_folder, demos, env):
    pair = load_goals("vp2", vp2_goals_folder).pairs[1]
    env.restore(RoboDeskEnv.to_snapshot(pair.initial_state))
    for action in pair.expert_actions:
        env.advance(action)
    reached, goal = to_vp2_state(env), demos[1]["states"][-1]
    positions = np.r_[0:9, 18:47, 73:76]
    np.testing.assert_allclose(reached[positions], goal[positions], atol=5e-3)


def test_saved_goals_keep_their_source(vp2_goals_folder, tmp_path):
    load_goals("vp2", vp2_goals_folder).save(tmp_path / "goals.npz")
    assert GoalSet.load(tmp_path / "goals.npz").source == "vp2"


def test_the_layout_is_that_of_vp2(demos):
    assert sum(PARTS.values()) + 3 == demos[0]["states"].shape[1] == 76


def test_vp2_judges_a_state_wherever_the_other_blocks_were_before():
    env = RoboDeskEnv("flat_block_off_table", rendering="vp2")
    try:
        env.reset(seed=0)
        assert not env.judged("vp2", False)
        state = to_vp2_state(env)
        before = env.desk.original_pos
        fallen = state.copy()
        flat = 18 + env.desk.simulation.model.joint("flat_block").qposadr[0] - 9
        fallen[flat : flat + 3] = 2.0, 0.0, 0.1
        from_vp2_state(env, fallen)
        assert env.judged("vp2", False) and env.desk.succeeds(env.task)
        env.desk.original_pos = {name: where + 0.5 for name, where in before.items()}
        assert env.judged("vp2", False) and not env.desk.succeeds(env.task)
    finally:
        env.close()


def test_states_of_another_layout_are_refused(env, demos):
    state = demos[0]["states"][0]
    with pytest.raises(ColaWorldError, match="73 finite numbers"):
        from_vp2_state(env, state[:60])
    with pytest.raises(ColaWorldError, match="another order"):
        from_vp2_state(env, np.r_[state[9:18], state[:9], state[18:]])


def test_goals_of_another_profile_are_refused(vp2_goals_folder):
    with pytest.raises(ColaWorldError, match="'fast' and 'vp2' cannot be mixed"):
        load_goals("fast", vp2_goals_folder)


def test_other_files_and_folders_are_told_in_a_sentence(vp2_goals_folder, tmp_path):
    with pytest.raises(ColaWorldError, match="no goals of VP2.*robodesk_<task>"):
        load_goals("vp2", tmp_path)
    lonely = tmp_path / "goals.hdf5"
    lonely.write_bytes((vp2_goals_folder / "robodesk_push_red" / "goals.hdf5").read_bytes())
    with pytest.raises(ColaWorldError, match="does not tell its task"):
        load_goals("vp2", lonely)
    named = tmp_path / "robodesk_open_slide"
    named.mkdir()
    with h5py.File(named / "goals.hdf5", "w") as file:
        file["data/demo_0/states"] = np.zeros((3, 76))
    with pytest.raises(ColaWorldError, match="no goal file of VP2.*camera_image"):
        load_goals("vp2", named)


@pytest.fixture
def copy(vp2_goals_folder, tmp_path):
    """The goal file of a copy of VP2's folder."""
    return shutil.copytree(vp2_goals_folder, tmp_path / "vp2") / "robodesk_push_red" / "goals.hdf5"


def external(path, file, secret, raw):
    file[path] = h5py.ExternalLink(str(secret), path)


def virtual(path, file, secret, raw):
    with h5py.File(secret) as source:
        values = source[path]
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource(values)
    file.create_virtual_dataset(path, layout)


def stored_outside(path, file, secret, raw):
    with h5py.File(secret) as source:
        shape, kind = source[path].shape, source[path].dtype
        raw.write_bytes(source[path][()].tobytes())
    file.create_dataset(path, shape, kind, external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize(
    ("path", "put"),
    [
        ("data", external),
        ("data/demo_2", external),
        ("data/demo_2/obs", external),
        ("data/demo_2/start_index", external),
        ("data/demo_1/obs/camera_image", virtual),
        ("data/demo_1/actions", virtual),
        ("data/demo_1/states", stored_outside),
    ],
)
def test_nothing_outside_a_goal_file_is_read(copy, tmp_path, path, put):
    secret = shutil.copy(copy, tmp_path / "secret.hdf5")
    with h5py.File(copy, "a") as file:
        del file[path]
        put(path, file, secret, tmp_path / "secret.bin")
    with pytest.raises(ColaWorldError, match="lies in another file .*secret.* not read"):
        load_goals("vp2", copy)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"env_name": "Lift", "type": 1, "env_kwargs": {}}, "environment Lift: .*of RoboDesk"),
        ([1], "no goal file of VP2 or is damaged"),
    ],
)
def test_goals_of_another_environment_are_refused(copy, environment, told):
    with h5py.File(copy, "a") as file:
        file["data"].attrs["env_args"] = json.dumps(environment)
    with pytest.raises(ColaWorldError, match=told):
        load_goals("vp2", copy)


def test_a_goal_file_need_not_name_its_environment(copy):
    with h5py.File(copy, "a") as file:
        del file["data"].attrs["env_args"]
    assert len(load_goals("vp2", copy).pairs) == 2


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("data/demo_1/states", b"text"),
        ("data/demo_1/states", np.full((5, 76), 1e30)),
        ("data/demo_1/actions", np.full((5, 5), np.nan)),
        ("data/demo_1/actions", np.zeros((5, 7))),
        ("data/demo_1/actions", 3.0),
        ("data/demo_1/obs/camera_image", np.zeros(5)),
        ("data/demo_1/obs/camera_image", np.full((5, 64, 64, 3), np.inf)),
        ("data/demo_2/start_index", np.array([0, 1])),
        ("data/demo_2/start_index", -1),
        ("data/demo_x/states", np.zeros((5, 76))),
    ],
)
def test_content_that_cannot_be_right_is_refused_in_a_sentence(copy, path, values):
    with h5py.File(copy, "a") as file:
        if path in file:
            del file[path]
        file[path] = values
    with pytest.raises(ColaWorldError, match="goals.hdf5") as error:
        load_goals("vp2", copy)
    assert "\n" not in str(error.value)
