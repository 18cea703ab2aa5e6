import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_env.goals.loading import load_goals
from cola_env.models.visual_policy import VisualPolicy
from cola_env.simulators.loading import make_simulator
from cola_env.worlds import find_world
from cola_train.collect import CollectConfig, collect
from cola_train.data.lerobot import LeRobotDataset
from cola_train.recording import EpisodeMixture, WorldSpec, draw_plan, make_world, record_episode

STEPS = 6


class StubPolicy:
    def __init__(self, bias: float, rng: np.random.Generator) -> None:
        self.bias, self.rng = bias, rng

    @property
    def intended(self) -> np.ndarray:
        return np.full(2, self.bias, np.float32)

    def act(self) -> np.ndarray:
        return np.clip(self.bias + 0.1 * self.rng.standard_normal(2), -1, 1).astype(np.float32)


class StubWorld:
    """A point that drifts with the actions; "right" is solved at 2, "left" at -2."""

    def __init__(self, rendering: str, pause: float) -> None:
        self.spec = WorldSpec(
            "stub", 10, ("right", "left"), ("right", "left"), ("x", "y"), rendering, 1
        )
        self.pause = pause

    def reset(self, seed: int) -> None:
        self.point = 0.1 * np.random.default_rng(seed).standard_normal(2)

    def advance(self, action: np.ndarray) -> None:
        time.sleep(self.pause)
        self.point = self.point + action

    def frame(self) -> np.ndarray:
        grid = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1) - 16
        glow = np.exp(-((grid - self.point) ** 2).sum(-1) / 80)
        return np.repeat((255 * glow).astype(np.uint8)[..., None], 3, -1)

    def state(self) -> np.ndarray:
        return self.point.copy()

    def successes(self) -> np.ndarray:
        return np.array([self.point[0] > 2, self.point[0] < -2])

    def policy(self, name: str, noise: float, rng: np.random.Generator) -> StubPolicy:
        return StubPolicy({"right": 0.7, "left": -0.7}.get(name, 0.0), rng)


def make_stub(env: str, rendering: str, action_repeat: int) -> StubWorld:
    return StubWorld(rendering, 0.0)


def make_slow_stub(env: str, rendering: str, action_repeat: int) -> StubWorld:
    return StubWorld(rendering, 0.02)


class MortalWorld(StubWorld):
    """Its process is killed in the midst of the third episode, as when memory runs out."""

    episodes = 0

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.episodes += 1

    def advance(self, action: np.ndarray) -> None:
        if self.episodes == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        super().advance(action)


def make_mortal(env: str, rendering: str, action_repeat: int) -> StubWorld:
    return MortalWorld(rendering, 0.0)


def settings(out: Path, **changes: object) -> CollectConfig:
    mixture = EpisodeMixture(steps=STEPS, max_warm_steps=3)
    config = CollectConfig(out=str(out), episodes=20, workers=0, held_out=0.1, mixture=mixture)
    return replace(config, **changes)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    return collect(settings(tmp_path_factory.mktemp("collect") / "stub"), make_stub)


def test_dataset_holds_what_the_world_did(collected):
    dataset = LeRobotDataset(collected)
    assert dataset.num_episodes == 20
    assert dataset.split("train") == range(18) and dataset.split("test") == range(18, 20)
    assert dataset.info["rendering"] == "fast" and dataset.info["tasks"] == ["right", "left"]
    for i in range(dataset.num_episodes):
        episode = dataset.episode(i)
        assert episode.frames.shape == (STEPS + 1, 32, 32, 3)
        moves = np.diff(episode.states, axis=0)
        np.testing.assert_allclose(moves, episode.actions, atol=1e-6)
        bias = {"right": 0.7, "left": -0.7}.get(episode.task, 0.0)
        np.testing.assert_array_equal(episode.intended[0], np.full(2, bias, np.float32))
        np.testing.assert_array_equal(episode.successes[:, 0], episode.states[1:, 0] > 2)
        own = {"right": 0, "left": 1}.get(episode.task)
        reward = np.zeros(STEPS) if own is None else episode.successes[:, own]
        np.testing.assert_array_equal(episode.rewards, reward)
    assert not (collected / "parts").exists()


def test_episodes_differ_in_policy_noise_and_start(collected):
    dataset = LeRobotDataset(collected)
    starts = {tuple(dataset.episode(i).states[0]) for i in range(20)}
    assert len(starts) == 20
    policies = {row["policy"] for row in dataset.episodes}
    assert policies == {"right", "left", "play", "random", "unsteered"}
    assert len({row["noise"] for row in dataset.episodes}) > 2
    assert {row["warm_steps"] > 0 for row in dataset.episodes} == {True, False}


def test_killed_and_restarted_gives_the_same_dataset(collected, tmp_path):
    out = tmp_path / "killed"
    code = (
        "import sys; from pathlib import Path; from test_collect import *;"
        "collect(settings(Path(sys.argv[1]), workers=2), make_slow_stub)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("parts/*.npz"))) < 4:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = {file: file.stat().st_mtime_ns for file in out.glob("parts/*.npz")}
    assert len(before) < 20
    collect(settings(out, keep_parts=True), make_stub)
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in before.items())
    killed = {name: data for name, data in contents(out).items() if not name.startswith("parts")}
    assert killed == contents(collected)


def test_a_killed_worker_is_told_of_and_its_episodes_are_kept(collected, tmp_path):
    out = tmp_path / "worker"
    with pytest.raises(ColaWorldError, match="A worker process ended.*What was finished is kept"):
        collect(settings(out, workers=1), make_mortal)
    before = {file: file.stat().st_mtime_ns for file in out.glob("parts/*.npz")}
    assert len(before) == 2 and not list(out.rglob("*.tmp"))
    collect(settings(out, keep_parts=True), make_stub)
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in before.items())
    made = {name: data for name, data in contents(out).items() if not name.startswith("parts")}
    assert made == contents(collected)


def test_a_finished_dataset_is_left_alone_or_extended(collected, tmp_path):
    out = collect(settings(tmp_path / "grown", episodes=12, keep_parts=True), make_stub)
    first = LeRobotDataset(out).episode(3)
    collect(settings(out), make_stub)
    grown = contents(out)
    assert grown == contents(collected)
    np.testing.assert_array_equal(LeRobotDataset(out).episode(3).states, first.states)
    assert LeRobotDataset(out).episode(19).task == LeRobotDataset(collected).episode(19).task
    collect(settings(out), make_stub)
    assert contents(out) == grown
    with pytest.raises(ColaWorldError, match="parts are gone"):
        collect(settings(out, episodes=21), make_stub)


def test_other_settings_cannot_join(tmp_path):
    def fail(env: str, rendering: str, action_repeat: int) -> StubWorld:
        raise RuntimeError("the simulator broke")

    out = tmp_path / "mixed"
    with pytest.raises(RuntimeError):
        collect(settings(out), fail)
    for change in ({"rendering": "vp2"}, {"seed": 1}, {"mixture": EpisodeMixture(steps=3)}):
        with pytest.raises(ColaWorldError, match=f"{next(iter(change))}=.* another out="):
            collect(settings(out, **change), make_stub)
    collect(settings(out), make_stub)
    with pytest.raises(ColaWorldError, match="rendering=fast"):
        collect(settings(out, rendering="vp2"), make_stub)


def test_a_damaged_part_is_named(tmp_path):
    out = tmp_path / "damaged"
    (out / "parts").mkdir(parents=True)
    (out / "parts/episode-000003.npz").write_bytes(b"nonsense")
    with pytest.raises(ColaWorldError, match="episode-000003.npz is damaged"):
        collect(settings(out), make_stub)


def test_impossible_settings_are_refused(tmp_path):
    for change in ({"episodes": 0}, {"workers": -1}, {"held_out": 1.0}, {"env": "atari"}):
        with pytest.raises(ColaWorldError):
            collect(settings(tmp_path / "bad", **change))


def test_scripts_share_the_mixture_as_asked():
    rng = np.random.default_rng(0)
    plans = [draw_plan(EpisodeMixture(), ("right", "left"), rng) for _ in range(2000)]
    scripted = [plan for plan in plans if plan.policy in ("right", "left")]
    assert len(scripted) / len(plans) == pytest.approx(EpisodeMixture().scripted, abs=0.05)
    assert {plan.noise for plan in scripted} == set(EpisodeMixture().noise)
    free = Counter(plan.policy for plan in plans if plan not in scripted)
    assert set(free) == set(EpisodeMixture().free)
    assert max(free.values()) < 1.5 * min(free.values())
    warm = [plan.warm_steps for plan in plans if plan.warm_steps]
    assert len(warm) / len(plans) == pytest.approx(EpisodeMixture().warm_start, abs=0.05)
    assert (min(warm), max(warm)) == (1, EpisodeMixture().max_warm_steps)
    chosen = EpisodeMixture(scripted=1.0, tasks=("left",))
    assert {draw_plan(chosen, ("right", "left"), rng).policy for _ in range(20)} == {"left"}


def test_a_task_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ColaWorldError, match="mixture.tasks=.'fly'. are no tasks of robodesk"):
        collect(settings(tmp_path, mixture=EpisodeMixture(tasks=("fly", "push_red"))), make_stub)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("steps", 0),
        ("scripted", 70),
        ("warm_start", -1.0),
        ("max_warm_steps", 0),
        ("noise", (-0.3,)),
        ("noise", ()),
        ("free", ()),
        ("teacher", "nobody"),
    ],
)
def test_a_mixture_that_cannot_be_drawn_is_refused(name, wrong):
    with pytest.raises(ColaWorldError, match=f"mixture.{name}=.* must be"):
        EpisodeMixture(**{name: wrong})


def test_policies_that_there_are_not_are_named_before_anything_is_recorded(tmp_path):
    mixtures = EpisodeMixture(free=("ply",)), EpisodeMixture(tasks=("right", "up"))
    for mixture, name in zip(mixtures, ("ply", "up"), strict=True):
        with pytest.raises(ColaWorldError, match=f"no policy {name}; .* scripts of right, left"):
            record_episode(StubWorld("fast", 0.0), mixture, 0, 0)


def test_goals_to_plan_towards_are_checked_before_anything_is_recorded(tmp_path):
    shipped = load_goals()
    some = tmp_path / "some.npz"
    replace(shipped, pairs=shipped.of("open_slide")).save(some)
    for goals, told in ((tmp_path / "none.npz", "no goal file"), (some, "no goals for task")):
        mixture = EpisodeMixture(tasks=("push_red",), goals=str(goals))
        with pytest.raises(ColaWorldError, match=told):
            collect(settings(tmp_path / "out", mixture=mixture), make_stub)
    assert not (tmp_path / "out").exists()


def test_rendering_and_action_repeat_are_the_worlds_own(tmp_path):
    for env, repeat in (("robodesk", 50), ("libero", 10)):
        out = collect(settings(tmp_path / env, env=env, episodes=2, held_out=0.0), make_stub)
        info = LeRobotDataset(out).info
        assert (info["env"], info["rendering"], info["action_repeat"]) == (env, "fast", repeat)


@pytest.mark.parametrize("name", ["robodesk", "libero"])
def test_a_simulated_episode_is_reproducible_and_its_states_restore(name, request, tmp_path):
    if name == "libero":
        request.getfixturevalue("libero_assets")
    elif find_spec("robodesk") is None:
        pytest.skip("robodesk is not installed")
    info = find_world(name)
    mixture = EpisodeMixture(steps=3, scripted=1.0, warm_start=1.0, max_warm_steps=2)
    world = make_world(name, info.rendering, info.action_repeat)
    assert set(world.spec.scripted) >= set(info.goal_tasks)
    first = record_episode(world, mixture, 0, 1)
    record_episode(world, mixture, 0, 2)
    again = record_episode(world, mixture, 0, 1)
    for name in ("frames", "actions", "intended", "states", "successes", "rewards"):
        np.testing.assert_array_equal(first[name], again[name])
    still = record_episode(world, replace(mixture, noise=(0.0,)), 0, 1)
    np.testing.assert_array_equal(still["actions"], still["intended"])
    shaken = record_episode(world, replace(mixture, noise=(0.5,)), 0, 1)
    assert np.abs(shaken["actions"] - shaken["intended"]).max() > 0.1
    assert first["frames"].shape == (4, 64, 64, 3) and first["frames"].std() > 10
    assert first["successes"].shape == (3, len(world.spec.tasks))

    VisualPolicy(world.spec.scripted, len(world.spec.actions), width=4).save_pretrained(tmp_path)
    unlike = record_episode(world, replace(mixture, noise=(0.0,), pilot=str(tmp_path)), 0, 1)
    np.testing.assert_array_equal(unlike["intended"][0], still["intended"][0])
    assert np.abs(unlike["actions"] - unlike["intended"]).max() > 0.1, "the pilot acts"
    own = replace(mixture, pilot=str(tmp_path), teacher="pilot")
    taught = record_episode(world, replace(own, noise=(0.0,)), 0, 1)
    np.testing.assert_array_equal(taught["actions"], unlike["actions"])
    np.testing.assert_array_equal(taught["actions"], taught["intended"])
    shaken = record_episode(world, replace(own, noise=(0.5,)), 0, 1)
    assert np.abs(shaken["actions"] - shaken["intended"]).max() > 0.1

    env = make_simulator(
        info, info.goal_tasks[0], rendering="fast", action_repeat=info.action_repeat
    )
    env.restore(env.to_snapshot(first["states"][1]))
    env.advance(first["actions"][1])
    np.testing.assert_array_equal(env.render(), first["frames"][2])
