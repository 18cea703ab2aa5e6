"""One episode of collected data: drawn from (seed, number) alone and recorded in a simulator."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError, check_setting
from cola_env.simulators.loading import make_simulator
from cola_env.worlds import WorldInfo, find_world
from cola_train.controllers import scripts_of
from cola_train.controllers.piloted import Piloted
from cola_train.controllers.planned import Planned
from cola_train.controllers.policies import Policy, SmoothRandom

PLAY, RANDOM, UNSTEERED = "play", "random", "unsteered"
SCRIPT, PILOT = "script", "pilot"
PLANNED = "planned:"
"""Before the checkpoint that it plans in, e.g. "planned:cola"."""


@dataclass(frozen=True)
class WorldSpec:
    """What a dataset says of its simulator."""

    robot_type: str
    fps: int
    tasks: tuple[str, ...]
    """Whose success is recorded after every action."""
    scripted: tuple[str, ...]
    """Tasks for which `SimulatedWorld.policy` has a script."""
    actions: tuple[str, ...]
    rendering: str
    action_repeat: int


@dataclass
class EpisodeMixture:
    """How episodes differ from each other."""

    steps: int = 20
    scripted: float = 0.7
    """Share of episodes that follow a script, where there is one."""
    tasks: tuple[str, ...] | None = None
    """Whose scripts and goals are drawn from, equally often; None: all."""
    free: tuple[str, ...] = (PLAY, RANDOM, UNSTEERED)
    """What the others follow: targets at random, smooth random actions inside the workspace, or
    without bounds, as a planner's candidates are; "planned:CHECKPOINT" plans in a world model."""
    goals: str | None = None
    """A file of `cola goals` whose goal images are planned towards; None: the shipped one, whose
    problems a model trained on these episodes should then not be judged by."""
    noise: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.7)
    """Standard deviations of a script's action noise; an episode draws one."""
    pilot: str | None = None
    """A policy of `cola clone` or `cola dream-rl` that acts in the scripts' place."""
    teacher: str = SCRIPT
    """Whose action is kept as `action.intended` where a pilot acts: "script", what it would do in
    the states that cloning leads to (DAgger, 1011.0686), or "pilot", its own without noise: what
    `cola clone` takes over from a policy that is better than the scripts."""
    warm_start: float = 0.5
    """Share of episodes that begin after some unrecorded steps."""
    max_warm_steps: int = 16

    def __post_init__(self) -> None:
        def check(name: str, right: bool, wanted: str) -> None:
            check_setting(f"mixture.{name}", getattr(self, name), right, wanted)

        for name in ("steps", "max_warm_steps"):
            check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("scripted", "warm_start"):
            check(name, 0 <= getattr(self, name) <= 1, "a share, 0 to 1")
        right = len(self.noise) > 0 and all(0 <= each < math.inf for each in self.noise)
        check("noise", right, "numbers of at least 0")
        check("free", len(self.free) > 0, "at least one policy")
        check("teacher", self.teacher in (SCRIPT, PILOT), f"{SCRIPT} or {PILOT}")

    def check_policies(self, scripted: tuple[str, ...]) -> None:
        """ColaWorldError for what it draws that is neither a policy of every world nor a script,
        of which a world has those of the tasks `scripted`."""
        known = {PLAY, RANDOM, UNSTEERED, *scripted}
        drawn = {*self.free, *((self.tasks or ()) if self.scripted else ())}
        unknown = sorted(each for each in drawn - known if not each.startswith(PLANNED))
        if unknown:
            raise ColaWorldError(
                f"mixture: there is no policy {', '.join(unknown)}; choose of {PLAY}, {RANDOM}, "
                f"{UNSTEERED}, {PLANNED}CHECKPOINT and the scripts of "
                f"{', '.join(scripted) or 'no task'}."
            )


@dataclass(frozen=True)
class EpisodePlan:
    """The draws that an episode starts from."""

    policy: str
    noise: float
    warm_policy: str
    warm_steps: int
    reset_seed: int


def draw_plan(
    mixture: EpisodeMixture, scripted: tuple[str, ...], rng: np.random.Generator
) -> EpisodePlan:
    scripts = scripted if mixture.tasks is None else mixture.tasks
    follows_script = rng.random() < mixture.scripted and bool(scripts)
    policy = str(rng.choice(scripts if follows_script else mixture.free))
    noise = float(rng.choice(mixture.noise)) if follows_script else 0.0
    warm = rng.random() < mixture.warm_start
    return EpisodePlan(
        policy=policy,
        noise=noise,
        warm_policy=str(rng.choice((policy, policy, *mixture.free))),
        warm_steps=int(rng.integers(1, mixture.max_warm_steps + 1)) if warm else 0,
        reset_seed=int(rng.integers(2**31)),
    )


def record_episode(
    world: SimulatedWorld, mixture: EpisodeMixture, seed: int, number: int
) -> dict[str, Any]:
    """Runs episode `number`; the same (seed, number) gives the same episode on any worker.

    Returns frames uint8 (T + 1, H, W, 3), actions float32 (T, A), `intended` float32 (T, A), those
    of the script or the teacher without noise, rewards float32 (T,) (1 where the episode's own task
    is solved), successes bool (T, tasks), states float64 (T + 1, D), and `plan`, a dict of draws.
    Once a script has solved its task and kept on for up to six steps, one of the free policies
    fills the episode.

    Raises ColaWorldError where the mixture names a policy that there is not.
    """
    mixture.check_policies(world.spec.scripted)
    rng = np.random.default_rng([seed, number])

    def begin(policy: str, noise: float = 0.0) -> Policy:
        if policy.startswith(PLANNED):
            checkpoint = policy.removeprefix(PLANNED)
            return world.planned(checkpoint, mixture.tasks, mixture.goals, rng)
        return world.policy(policy, noise, rng)

    plan = draw_plan(mixture, world.spec.scripted, rng)
    world.reset(plan.reset_seed)
    if plan.warm_steps:
        warm = begin(plan.warm_policy, plan.noise)
        for _ in range(plan.warm_steps):
            world.advance(warm.act())

    policy = begin(plan.policy, plan.noise)
    tasks = world.spec.tasks
    if mixture.pilot is not None and plan.policy in tasks:
        script = policy if mixture.teacher == SCRIPT else None
        policy = world.piloted(script, mixture.pilot, plan.policy, plan.noise, rng)
    own = tasks.index(plan.policy) if plan.policy in tasks else None
    rest: int | None = None
    frames, states = [world.frame()], [world.state()]
    actions: list[NDArray[np.float32]] = []
    intended: list[NDArray[np.float32]] = []
    successes: list[NDArray[np.bool_]] = []
    for _ in range(mixture.steps):
        if rest == 0:
            policy = begin(str(rng.choice(mixture.free)))
        rest = None if rest is None else rest - 1
        actions.append(np.asarray(policy.act(), np.float32))
        intended.append(np.asarray(policy.intended, np.float32))
        world.advance(actions[-1])
        frames.append(world.frame())
        states.append(world.state())
        successes.append(world.successes())
        if rest is None and own is not None and successes[-1][own]:
            rest = int(rng.integers(7))
    table = np.stack(successes)
    rewards = np.zeros(mixture.steps) if own is None else table[:, own]
    return {
        "frames": np.stack(frames),
        "actions": np.stack(actions),
        "intended": np.stack(intended),
        "rewards": rewards.astype(np.float32),
        "successes": table,
        "states": np.stack(states),
        "plan": asdict(plan),
    }


class SimulatedWorld:
    """A simulator (64 x 64 RGB) with the policies of its controllers; `policy` also knows "play",
    "random" and "unsteered"."""

    def __init__(self, world: WorldInfo, rendering: str, action_repeat: int) -> None:
        self._world = world
        self._scripts = scripts_of(world)
        self._env = make_simulator(
            world, world.goal_tasks[0], rendering=rendering, action_repeat=action_repeat
        )
        scripted = self._scripts.SCRIPTED_TASKS
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
        return self._env.to_vector(self._env.snapshot())

    def successes(self) -> NDArray[np.bool_]:
        solved = self._env.successes()
        return np.array([solved[task] for task in self.spec.tasks], dtype=bool)

    def policy(self, name: str, noise: float, rng: np.random.Generator) -> Policy:
        scripts = self._scripts
        policy: Policy
        if name == PLAY:
            policy = scripts.Play(self._env, rng)
        elif name in (RANDOM, UNSTEERED):
            policy = SmoothRandom(scripts.Scene(self._env), rng, steered=name == RANDOM)
        else:
            policy = scripts.make_controller(name, self._env, rng, noise)
        return policy

    def planned(
        self,
        checkpoint: str,
        tasks: tuple[str, ...] | None,
        goals: str | None,
        rng: np.random.Generator,
    ) -> Policy:
        """Plans in a world model towards goal images of `goals`, for one of `tasks`."""
        return Planned(self._env, self._world, checkpoint, rng, tasks, goals)

    def piloted(
        self, script: Policy | None, pilot: str, task: str, noise: float, rng: np.random.Generator
    ) -> Policy:
        """`pilot` acts; `script`, where there is one, tells what it would do."""
        return Piloted(script, self._env, self._world, pilot, task, noise, rng)


def make_world(env: str, rendering: str, action_repeat: int) -> SimulatedWorld:
    """The simulator called `env`; raises ColaWorldError when there is none."""
    return SimulatedWorld(find_world(env), rendering, action_repeat)
