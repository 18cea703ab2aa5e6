"""The real simulators as the collector sees them."""

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.episodes import PLAY, RANDOM, UNSTEERED, Policy, World, WorldSpec


class RoboDeskWorld:
    """RoboDesk (64 x 64 RGB, five actions) with the scripts of `cola_train.controllers`."""

    def __init__(self, rendering: str, action_repeat: int) -> None:
        from cola_env.simulators.robodesk import ROBODESK_TASKS, RoboDeskEnv, state_to_vector
        from cola_train.controllers import SCRIPTED_TASKS

        self._to_vector = state_to_vector
        self._env = RoboDeskEnv(action_repeat=action_repeat, rendering=rendering)
        self.spec = WorldSpec(
            robot_type="robodesk",
            fps=int(RoboDeskEnv.metadata["render_fps"]),
            tasks=tuple(ROBODESK_TASKS),
            scripted=tuple(SCRIPTED_TASKS),
            actions=("x", "y", "z", "wrist", "gripper"),
            rendering=rendering,
            action_repeat=action_repeat,
        )

    def reset(self, seed: int) -> None:
        self._env.reset(seed=seed)

    def advance(self, action: NDArray[np.float32]) -> None:
        self._env.advance(action)

    def frame(self) -> NDArray[np.uint8]:
        return self._env.render()

    def state(self) -> NDArray[np.float64]:
        return self._to_vector(self._env.snapshot())

    def successes(self) -> NDArray[np.bool_]:
        solved = self._env.successes()
        return np.array([solved[task] for task in self.spec.tasks], dtype=bool)

    def policy(self, name: str, noise: float, rng: np.random.Generator) -> Policy:
        from cola_train.controllers import Play, SmoothRandom, make_controller

        if name == PLAY:
            return Play(self._env, rng)
        if name in (RANDOM, UNSTEERED):
            return SmoothRandom(self._env, rng, steered=name == RANDOM)
        return make_controller(name, self._env, rng, noise)


def make_world(env: str, rendering: str, action_repeat: int) -> World:
    """The simulator called `env`; raises ColaWorldError when there is none."""
    if env != "robodesk":
        raise ColaWorldError(f"No data can be collected in {env!r}: choose env=robodesk.")
    return RoboDeskWorld(rendering, action_repeat)
