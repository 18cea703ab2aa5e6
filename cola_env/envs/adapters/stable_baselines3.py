"""Dreams for Stable-Baselines3, many of them as one `VecEnv`; and its agents as policies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from cola_env.envs.vector_env import ColaWorldVectorEnv
from cola_env.errors import ColaWorldError, in_short

FINAL = ("final_obs", "final_info")


class DreamVecEnv(VecEnv):
    """A `VecEnv` over native vector dreams, which share one model.

        dreams = gym.make_vec(
            "ColaWorld-RoboDesk-v0", num_envs=16, task="open_slide", autoreset_mode="SameStep"
        )
        PPO("CnnPolicy", DreamVecEnv(dreams)).learn(100_000)

    As in the library's own: a world that ends begins anew in the same step, its info holds the last
    frame as "terminal_observation", "TimeLimit.truncated" is True where only the step limit ended
    it, and `reset_infos` has what the new episode begins with. Seeds and options are of the next
    `reset()`; a world that begins anew after that keeps its last options. `set_options` takes one
    world's options, the same for all, or a list with those of each.

    Gymnasium's wrappers of vector environments around the dreams count. Attributes and methods are
    of the one vector environment that holds all worlds: reading one gives every world the same, and
    none can be set, or called, for some of the worlds alone.

    Raises ColaWorldError for other environments, and for dreams that do not reset in the same step.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        dreams = env.unwrapped
        if not isinstance(dreams, ColaWorldVectorEnv):
            raise ColaWorldError(
                f"DreamVecEnv takes dreams of gym.make_vec('ColaWorld-RoboDesk-v0', ...), not "
                f"{type(dreams).__name__}: Stable-Baselines3 has a VecEnv of its own for others."
            )
        if dreams.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ColaWorldError(
                "Stable-Baselines3 needs worlds that begin anew in the step that ends them: make "
                "them with autoreset_mode='SameStep'."
            )
        self.dreams: Any = env
        self._actions: NDArray[Any] | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.uint8]:
        """Begin an episode in all worlds, with the seeds and options that were set."""
        frames, infos = self.dreams.reset(seed=self._seeds, options=_stacked(self._options))
        self.reset_infos = [_info(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return frames

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Imagine the next frame of all worlds."""
        if self._actions is None:
            raise ColaWorldError("There are no actions to take: call step_async() first.")
        frames, rewards, terminated, truncated, infos = self.dreams.step(self._actions)
        self._actions = None
        done = terminated | truncated
        told = []
        for row in range(self.num_envs):
            info = _info(infos["final_info"] if done[row] else infos, row)
            info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            if done[row]:
                info["terminal_observation"] = infos["final_obs"][row]
                self.reset_infos[row] = _info(infos, row)
            told.append(info)
        return frames, rewards.astype(np.float32), done, told

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """The present frame of each world, under `render_mode="rgb_array"`."""
        drawn: Sequence[NDArray[np.uint8]] | None = self.dreams.render()
        return drawn or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the vector environment, once for each world."""
        return [self._of_dreams(attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set it; ColaWorldError for some of the worlds alone."""
        self._check_all(indices)
        setattr(self.dreams, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the vector environment, once: what it returns, once for each world.

        ColaWorldError for some of the worlds alone.
        """
        self._check_all(indices)
        result = self._of_dreams(method_name)(*method_args, **method_kwargs)
        return [result] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """False: no world has wrappers of its own."""
        return [False for _ in self._get_indices(indices)]

    def close(self) -> None:
        """Close the vector environment."""
        self.dreams.close()

    def _of_dreams(self, name: str) -> Any:
        """An attribute of the wrapped environment, or else of the dreams themselves."""
        owner = self.dreams if hasattr(self.dreams, name) else self.dreams.unwrapped
        return getattr(owner, name)

    def _check_all(self, indices: VecEnvIndices) -> None:
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ColaWorldError(
                "All dreams of a DreamVecEnv are one environment: leave out indices=."
            )


def _info(infos: Mapping[str, Any], row: int) -> dict[str, Any]:
    """What Gymnasium's arrays tell of one world."""
    return {
        name: value[row]
        for name, value in infos.items()
        if not name.startswith("_") and name not in FINAL and infos[f"_{name}"][row]
    }


def _stacked(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One world's options each, as the vector environment takes them; a "state" is of all."""
    names = set(options[0])
    if any(set(each) != names for each in options):
        raise ColaWorldError(
            "set_options() takes the same options for all dreams: give each a value of its own."
        )
    return {
        name: options[0][name]
        if name == "state"
        else np.stack([np.asarray(each[name]) for each in options])
        for name in options[0]
    }


def load_agent(
    path: str | Path, action_space: spaces.Box, device: str | torch.device = "auto"
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A saved PPO as a function: uint8 frames (B, 64, 64, 3) to its likeliest actions (B, A).

    Raises ColaWorldError for a file that is none, and for actions of another size.
    """
    try:
        agent = PPO.load(path, device=device)
    except Exception as error:  # whatever is made of a file that is damaged or another's
        raise ColaWorldError(f"{path} is no saved PPO ({in_short(error)}).") from error
    if agent.action_space.shape != action_space.shape:
        raise ColaWorldError(
            f"The agent {path} gives actions of shape {agent.action_space.shape}, not "
            f"{action_space.shape}: train it in a dream of this world."
        )

    def act(frames: torch.Tensor) -> torch.Tensor:
        actions, _ = agent.predict(frames.cpu().numpy(), deterministic=True)
        return torch.from_numpy(np.clip(actions, -1, 1).astype(np.float32))

    return act
