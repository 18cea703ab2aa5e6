"""PPO of Stable-Baselines3 that learns in a dream or in the real simulator, and is judged there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.dream_study import Study, Training
from benchmarks.harness import plain
from benchmarks.twin import make_twin, solved_pairs
from cola_env.envs.pair import PairReset
from cola_env.errors import ColaWorldError
from cola_env.files import write_atomically
from cola_env.models.image_trunk import TRUNK_FEATURES, image_trunk
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.simulators.rendering import check_same_profile
from cola_train.run_folder import write_folder

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import (
        DummyVecEnv,
        VecEnv,
        VecMonitor,
        VecNormalize,
        unwrap_vec_normalize,
    )

    from cola_env.envs.adapters.stable_baselines3 import DreamVecEnv
except ModuleNotFoundError as error:
    raise ColaWorldError(
        "Training policies in the dream needs Stable-Baselines3: pip install 'colaworld[rl]'."
    ) from error

NEWEST, SCALES, POLICIES = "agent.zip", "rewards.pkl", "policies"


class Trunk(BaseFeaturesExtractor):
    """The network of `cola clone` up to its heads, on SB3's images (B, 3, 64, 64) in [0, 1]."""

    def __init__(self, observation_space: gymnasium.spaces.Box, width: int) -> None:
        super().__init__(observation_space, TRUNK_FEATURES * width)
        self.width = width
        self.trunk = image_trunk(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.trunk(2 * images - 1)
        return features


class RandomPair(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A simulator whose episodes begin in pairs drawn at random."""

    def __init__(self, env: gymnasium.Env[Any, Any], pairs: int) -> None:
        super().__init__(env)
        self._pairs = pairs

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.np_random = np.random.default_rng(seed)
        return self.env.reset(
            seed=seed, options={"pair": int(self.np_random.integers(self._pairs))}
        )


class Agent:
    """The agent of a training, as it was left at the last evaluation."""

    def __init__(self, study: Study, training: Training) -> None:
        self.study, self.training = study, training
        folder, config = training.folder, study.config
        folder.mkdir(parents=True, exist_ok=True)
        envs = VecMonitor(self._envs())
        scales, newest = folder / SCALES, folder / NEWEST
        if newest.is_file():
            self.envs = VecNormalize.load(str(scales), envs)
            self.ppo = PPO.load(newest, env=self.envs, device=study.device)
        else:
            self.envs = VecNormalize(envs, norm_obs=False, gamma=config.ppo.gamma)
            self.ppo = self._new_ppo()
        simulator = self._simulator("success", config.episode_steps)
        self.twin = PairReset(simulator, config.judged)

    def act(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Its likeliest action."""
        action, _ = self.ppo.predict(frame, deterministic=True)
        return action

    def learn_until(self, steps: int) -> None:
        if steps > self.ppo.num_timesteps:
            self.ppo.learn(steps - self.ppo.num_timesteps, reset_num_timesteps=False)

    def solved(self) -> list[bool]:
        """Whether its likeliest actions solve each of the problems that judge it."""
        pairs = min(self.study.config.pairs, len(self._judged))
        return solved_pairs(self.twin, self.act, pairs)

    def save(self, mark: int) -> None:
        """Its newest state, and its policy as the one of the evaluation behind `mark` steps."""
        folder = self.training.folder
        scales = unwrap_vec_normalize(self.envs)
        assert scales is not None
        write_atomically(folder / SCALES, lambda target: scales.save(str(target)))
        write_atomically(folder / NEWEST, self._write)
        write_folder(folder / POLICIES / str(mark), self.policy().save_pretrained)

    def policy(self) -> VisualPolicy:
        """Its mean actions, as what `cola clone` makes: a policy of the one task."""
        trunk: Any = self.ppo.policy.pi_features_extractor
        mean: Any = self.ppo.policy.action_net
        rendering = self.study.judged.rendering
        found = VisualPolicy((self.training.task,), mean.out_features, rendering, trunk.width)
        found.trunk.load_state_dict(trunk.trunk.state_dict())
        found.heads.load_state_dict(mean.state_dict())
        return found

    def close(self) -> None:
        self.envs.close()
        self.twin.close()

    def _write(self, target: Path) -> None:
        with target.open("wb") as file:
            self.ppo.save(file)

    @property
    def _judged(self) -> tuple[Any, ...]:
        return self.study.judged.of(self.training.task)

    def _envs(self) -> VecEnv:
        study, arm, config = self.study, self.training.arm, self.study.config
        steps = arm.horizon or config.episode_steps
        if arm.checkpoint is not None:
            dreams = gymnasium.make_vec(
                f"ColaWorld-{study.world.simulator}-v0",
                num_envs=config.num_envs,
                task=self.training.task,
                checkpoint=arm.checkpoint,
                reward=arm.reward,
                trust_penalty=arm.trust_penalty,
                goals=config.goals,
                device=str(study.device),
                max_episode_steps=steps,
                autoreset_mode="SameStep",
            )
            return DreamVecEnv(dreams)
        pairs = len(study.starts.of(self.training.task))

        def make() -> gymnasium.Env[Any, Any]:
            return RandomPair(PairReset(self._simulator(arm.reward, steps), config.goals), pairs)

        return DummyVecEnv([make] * config.num_envs)

    def _simulator(self, reward: Any, steps: int) -> gymnasium.Env[Any, Any]:
        study = self.study
        rendering = study.judged.rendering
        return make_twin(study.world, self.training.task, rendering, steps, reward)

    def _new_ppo(self) -> PPO:
        config, task = self.study.config, self.training.task
        cloned = None
        if config.clone is not None:
            cloned = load_policy(config.clone, "cpu", self.study.world)
            rendering = str(cloned.config.rendering)
            check_same_profile(self.study.judged.rendering, rendering, "goals and the clone")
        width = int(cloned.config.width) if cloned is not None else 32
        ppo = PPO(
            "CnnPolicy",
            self.envs,
            seed=self.training.seed,
            device=self.study.device,
            policy_kwargs={
                "features_extractor_class": Trunk,
                "features_extractor_kwargs": {"width": width},
                "share_features_extractor": False,
                "net_arch": [],
                "log_std_init": math.log(config.std),
            },
            **plain(config.ppo),
        )
        if cloned is not None:
            _begin_as(ppo, cloned, cloned.head(task))
        return ppo


@torch.no_grad()
def _begin_as(ppo: PPO, cloned: VisualPolicy, head: int) -> None:
    """Give the agent's mean action and both of its trunks the weights of a cloned policy."""
    policy: Any = ppo.policy
    for extractor in (policy.pi_features_extractor, policy.vf_features_extractor):
        extractor.trunk.load_state_dict(cloned.trunk.state_dict())
    size = int(cloned.config.action_dim)
    rows = slice(head * size, (head + 1) * size)
    policy.action_net.weight.copy_(cloned.heads.weight[rows])
    policy.action_net.bias.copy_(cloned.heads.bias[rows])
