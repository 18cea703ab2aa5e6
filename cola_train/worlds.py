"""The real simulators as the collector sees them."""

from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cola_env.worlds import WorldInfo, find_world
from cola_train.controllers.planned import Planned
from cola_train.controllers.random import SmoothRandom
from cola_train.episodes import PLANNED, PLAY, RANDOM, UNSTEERED, Policy, World, WorldSpec


def controllers(world: WorldInfo) -> ModuleType:
    """The package with the Scene, the scripts and the play of a world."""
    return import_module(f"cola_train.controllers.{world.name}")


class SimulatedWorld:
    """A simulator (64 x 64 RGB) with the policies of its controllers."""

    def __init__(self, world: WorldInfo, rendering: str, action_repeat: int) -> None:
        self._world = world
        self._controllers = controllers(world)
        self._env = world.make(
            world.goal_tasks[0], rendering=rendering, action_repeat=action_repeat
        )
        scripted = self._controllers.SCRIPTED_TASKS
        self.spec = WorldSpec(
            robot_type=world.name,
            fps=int(self._env.metadata["render_fps"]),
            tasks=world.tasks,
            scripted=tuple(task for task in scripted if task in world.tasks),
            actions=world.actions,
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
        return self._world.to_vector(self._env.snapshot())

    def successes(self) -> NDArray[np.bool_]:
        solved = self._env.successes()
        return np.array([solved[task] for task in self.spec.tasks], dtype=bool)

    def policy(self, name: str, noise: float, rng: np.random.Generator) -> Policy:
        policies = self._controllers
        policy: Policy
        if name == PLAY:
            policy = policies.Play(self._env, rng)
        elif name.startswith(PLANNED):
            policy = Planned(self._env, self._world, name.removeprefix(PLANNED), rng)
        elif name in (RANDOM, UNSTEERED):
            policy = SmoothRandom(policies.Scene(self._env), rng, steered=name == RANDOM)
        else:
            policy = policies.make_controller(name, self._env, rng, noise)
        return policy


def make_world(env: str, rendering: str, action_repeat: int) -> World:
    """The simulator called `env`; raises ColaWorldError when there is none."""
    return SimulatedWorld(find_world(env), rendering, action_repeat)
