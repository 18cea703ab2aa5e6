"""Dreams in libraries of reinforcement learning, against the real packages (`make adapters`)."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv, ColaWorldVectorEnv
from cola_env.errors import ColaWorldError

pytestmark = pytest.mark.usefixtures("goals")
DOCS = Path(__file__).parents[2] / "docs" / "policies.md"
MISSING = "is not installed: make adapters"


@pytest.fixture
def vec_env(checkpoints):
    """vec_env(num_envs, **options): dreams of "direct" as Stable-Baselines3 takes them."""
    pytest.importorskip("stable_baselines3", reason=f"stable_baselines3 {MISSING}")
    from cola_env.envs.adapters.stable_baselines3 import DreamVecEnv

    def make(num_envs=2, **options):
        made = gym.make_vec(
            "ColaWorld-RoboDesk-v0",
            num_envs=num_envs,
            task="push_red",
            checkpoint=checkpoints["direct"],
            device="cpu",
            **({"autoreset_mode": "SameStep"} | options),
        )
        return DreamVecEnv(made)

    return make


def nearly_equal(one, other):
    return np.abs(one.astype(int) - other).max() <= 4  # bfloat16, batched otherwise


def test_dreams_are_what_the_librarys_own_vec_env_makes_of_single_ones(vec_env, checkpoints, never):
    from stable_baselines3.common.vec_env import DummyVecEnv

    ours = vec_env(max_episode_steps=3)
    made = {"task": "push_red", "checkpoint": checkpoints["direct"], "device": "cpu"}
    theirs = DummyVecEnv([lambda: ColaWorldEnv(max_episode_steps=3, **made)] * 2)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.seed(5) == theirs.seed(5) == [5, 6]
    assert nearly_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos[0].keys() == theirs.reset_infos[0].keys()
    rng = np.random.default_rng(0)
    for step in range(1, 8):
        actions = rng.uniform(-1, 1, (2, 5)).astype(np.float32)
        frames, rewards, dones, infos = ours.step(actions)
        others = theirs.step(actions)
        assert nearly_equal(frames, others[0])
        np.testing.assert_allclose(rewards, others[1], atol=2e-3)
        assert rewards.dtype == others[1].dtype == np.float32
        np.testing.assert_array_equal(dones, others[2])
        assert dones.all() == (step % 3 == 0)
        for info, other in zip(infos, others[3], strict=True):
            assert info.keys() == other.keys()
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"] == (step % 3 == 0)
            if step % 3 == 0:
                assert nearly_equal(info["terminal_observation"], other["terminal_observation"])
    assert ours.reset_infos[1]["success_probability"] == pytest.approx(
        theirs.reset_infos[1]["success_probability"], abs=2e-2
    )


def test_wrappers_around_the_dreams_count(vec_env):
    from gymnasium.wrappers.vector import TransformReward

    from cola_env.envs.adapters.stable_baselines3 import DreamVecEnv

    plain = vec_env(max_episode_steps=3)
    wrapped = DreamVecEnv(TransformReward(vec_env(max_episode_steps=3).dreams, lambda r: r + 7))
    actions = np.zeros((2, 5), np.float32)
    for dreams in (plain, wrapped):
        dreams.seed(5)
        dreams.reset()
    np.testing.assert_allclose(wrapped.step(actions)[1], plain.step(actions)[1] + 7, atol=1e-5)
    assert wrapped.get_attr("action_space") == plain.get_attr("action_space")
    assert len(wrapped.env_method("snapshot")) == 2


def test_a_success_is_not_told_as_truncated(vec_env, monkeypatch):
    classifier = "cola_env.scoring.success_classifier.SuccessClassifier.threshold"
    monkeypatch.setattr(classifier, 0.0)
    dreams = vec_env(max_episode_steps=1)
    dreams.reset()
    _, _, dones, infos = dreams.step(np.zeros((2, 5), np.float32))
    assert dones.all() and not any(info["TimeLimit.truncated"] for info in infos)
    assert infos[0]["terminal_observation"].shape == (64, 64, 3)


def test_options_are_one_worlds_or_those_of_each(vec_env, goals, never):
    dreams = vec_env(max_episode_steps=1)
    dreams.set_options([{"pair": 2}, {"pair": 1}])
    starts = [goals.pairs[i].initial_frame for i in (2, 1)]
    np.testing.assert_array_equal(dreams.reset(), starts)
    frames, _, dones, _ = dreams.step(np.zeros((2, 5), np.float32))
    assert dones.all()
    np.testing.assert_array_equal(frames, starts)
    dreams.set_options({"pair": 0})
    np.testing.assert_array_equal(dreams.reset(), [goals.pairs[0].initial_frame] * 2)
    dreams.set_options([{"pair": 0}, {}])
    with pytest.raises(ColaWorldError, match="the same options for all dreams"):
        dreams.reset()


def test_attributes_and_methods_are_of_all_worlds(vec_env):
    dreams = vec_env(render_mode="rgb_array")
    frames = dreams.reset()
    dreams.set_attr("max_episode_steps", 4)
    assert dreams.get_attr("max_episode_steps") == [4, 4]
    assert dreams.get_attr("max_episode_steps", indices=[1]) == [4]
    with pytest.raises(ColaWorldError, match="leave out indices"):
        dreams.set_attr("max_episode_steps", 3, indices=0)
    before, _ = dreams.env_method("snapshot")
    dreams.step(np.ones((2, 5), np.float32))
    dreams.env_method("restore", before)
    np.testing.assert_array_equal(dreams.get_images(), frames)
    assert dreams.env_is_wrapped(gym.Wrapper) == [False, False] and not dreams.has_attr("nothing")
    assert dreams.render().shape[-1] == 3
    assert vec_env(1).get_images() == [None]


def test_what_it_cannot_take_is_refused(vec_env):
    with pytest.raises(ColaWorldError, match="autoreset_mode='SameStep'"):
        vec_env(autoreset_mode="NextStep")
    from cola_env.envs.adapters.stable_baselines3 import DreamVecEnv

    with pytest.raises(ColaWorldError, match="takes dreams of gym.make_vec"):
        DreamVecEnv(gym.make_vec("CartPole-v1"))


def test_the_documented_python_trains_in_the_dream(
    vec_env, checkpoints, never, monkeypatch, tmp_path
):
    """docs/policies.md with a small model and few steps."""
    import stable_baselines3

    monkeypatch.chdir(tmp_path)
    make_vec, learn = gym.make_vec, stable_baselines3.PPO.learn
    small = {"checkpoint": checkpoints["direct"], "device": "cpu", "num_envs": 2}
    small["task"] = "push_red"
    monkeypatch.setattr(gym, "make_vec", lambda env, **given: make_vec(env, **given | small))
    trained = []

    def few(self, total_timesteps):
        self.n_steps, self.n_epochs = 4, 1
        self._setup_model()
        trained.append(total_timesteps)
        return learn(self, 8)

    monkeypatch.setattr(stable_baselines3.PPO, "learn", few)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(DOCS), "exec"), names)
    assert trained and Path("runs/ppo/open_slide.zip").stat().st_size


def test_a_saved_agent_is_a_function_of_frames(vec_env, tmp_path):
    from stable_baselines3 import PPO

    from cola_env.envs.adapters.stable_baselines3 import load_agent

    dreams = vec_env()
    agent = PPO("CnnPolicy", dreams, n_steps=2, seed=0)
    agent.save(tmp_path / "agent.zip")
    act = load_agent(tmp_path / "agent.zip", dreams.action_space, "cpu")
    frames = dreams.reset()
    actions = act(torch.from_numpy(frames))
    assert actions.shape == (2, 5) and actions.dtype == torch.float32
    expected, _ = agent.predict(frames, deterministic=True)
    np.testing.assert_allclose(actions, expected.clip(-1, 1), atol=1e-5)
    with pytest.raises(ColaWorldError, match="not \\(7,\\): train it in a dream of this world"):
        load_agent(tmp_path / "agent.zip", gym.spaces.Box(-1, 1, (7,)), "cpu")
    (tmp_path / "other.zip").write_bytes(b"none")
    with pytest.raises(ColaWorldError, match="other.zip is no saved PPO"):
        load_agent(tmp_path / "other.zip", dreams.action_space, "cpu")


def test_torchrl_takes_many_dreams(checkpoints, never):
    libs = pytest.importorskip("torchrl.envs", reason=f"torchrl {MISSING}")
    dreams = ColaWorldVectorEnv(
        2, "push_red", checkpoint=checkpoints["direct"], device="cpu",
        autoreset_mode="SameStep", max_episode_steps=3,
    )  # fmt: skip
    wrapped = libs.GymWrapper(dreams)
    rollout = wrapped.rollout(4, break_when_any_done=False)
    assert rollout["next", "reward"].shape[:2] == (2, 4)
    assert rollout["next", "truncated"][:, :, 0].tolist() == [[False, False, True, False]] * 2
