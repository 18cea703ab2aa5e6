"""One episode of collected data: drawn from (seed, number) alone, recorded in a simulator, and kept
in a file of its own, written atomically, until all are merged into a dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.files import write_atomically
from cola_train.data.lerobot_writer import LeRobotWriter

Part = dict[str, NDArray[Any]]

PLAY, RANDOM, UNSTEERED = "play", "random", "unsteered"
PLANNED = "planned:"
"""Before the checkpoint that it plans in, e.g. "planned:cola"."""


class Policy(Protocol):
    def act(self) -> NDArray[np.float32]:
        """The action for the simulator's present state, (A,) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class WorldSpec:
    """What a dataset says of its simulator."""

    robot_type: str
    fps: int
    tasks: tuple[str, ...]
    """Whose success is recorded after every action."""
    scripted: tuple[str, ...]
    """Tasks for which `World.policy` has a script."""
    actions: tuple[str, ...]
    rendering: str
    action_repeat: int


class World(Protocol):
    """What collection needs of a simulator; `policy` also knows "play", "random", "unsteered"
    and "planned:CHECKPOINT"."""

    @property
    def spec(self) -> WorldSpec: ...

    def reset(self, seed: int) -> None: ...

    def advance(self, action: NDArray[np.float32]) -> None: ...

    def frame(self) -> NDArray[np.uint8]: ...

    def state(self) -> NDArray[np.float64]: ...

    def successes(self) -> NDArray[np.bool_]: ...

    def policy(self, name: str, noise: float, rng: np.random.Generator) -> Policy: ...


@dataclass
class EpisodeMixture:
    """How episodes differ from each other."""

    steps: int = 20
    scripted: float = 0.7
    """Share of episodes that follow a script."""
    free: tuple[str, ...] = (PLAY, RANDOM, UNSTEERED)
    """What the others follow: targets at random, smooth random actions inside the workspace, or
    without bounds, as a planner's candidates are; "planned:CHECKPOINT" plans in a world model."""
    noise: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.7)
    """Standard deviations of a script's action noise; an episode draws one."""
    warm_start: float = 0.5
    """Share of episodes that begin after some unrecorded steps."""
    max_warm_steps: int = 16


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
    follows_script = rng.random() < mixture.scripted
    policy = str(rng.choice(scripted if follows_script else mixture.free))
    noise = float(rng.choice(mixture.noise)) if follows_script else 0.0
    warm = rng.random() < mixture.warm_start
    return EpisodePlan(
        policy=policy,
        noise=noise,
        warm_policy=str(rng.choice((policy, policy, *mixture.free))),
        warm_steps=int(rng.integers(1, mixture.max_warm_steps + 1)) if warm else 0,
        reset_seed=int(rng.integers(2**31)),
    )


def record_episode(world: World, mixture: EpisodeMixture, seed: int, number: int) -> dict[str, Any]:
    """Runs episode `number`; the same (seed, number) gives the same episode on any worker.

    Returns frames uint8 (T + 1, H, W, 3), actions float32 (T, A), rewards float32 (T,) (1 where
    the episode's own task is solved), successes bool (T, tasks), states float64 (T + 1, D) and
    `plan`, a dict of the draws. Once a script has solved its task and kept on for up to six
    steps, one of the free policies fills the episode.
    """
    rng = np.random.default_rng([seed, number])
    plan = draw_plan(mixture, world.spec.scripted, rng)
    world.reset(plan.reset_seed)
    if plan.warm_steps:
        warm = world.policy(plan.warm_policy, plan.noise, rng)
        for _ in range(plan.warm_steps):
            world.advance(warm.act())

    policy = world.policy(plan.policy, plan.noise, rng)
    tasks = world.spec.tasks
    own = tasks.index(plan.policy) if plan.policy in tasks else None
    rest: int | None = None
    frames, states = [world.frame()], [world.state()]
    actions: list[NDArray[np.float32]] = []
    successes: list[NDArray[np.bool_]] = []
    for _ in range(mixture.steps):
        if rest == 0:
            policy = world.policy(str(rng.choice(mixture.free)), 0.0, rng)
        rest = None if rest is None else rest - 1
        actions.append(np.asarray(policy.act(), np.float32))
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
        "rewards": rewards.astype(np.float32),
        "successes": table,
        "states": np.stack(states),
        "plan": asdict(plan),
    }


def part_file(folder: Path, number: int) -> Path:
    return folder / f"episode-{number:06d}.npz"


def save_part(file: Path, episode: dict[str, Any], spec: WorldSpec) -> None:
    """Writes what `record_episode` returned and the simulator that it comes from."""
    about = {"plan": episode["plan"], "spec": asdict(spec)}
    arrays = {name: value for name, value in episode.items() if name != "plan"}

    def write(target: Path) -> None:
        with target.open("wb") as stream:
            np.savez_compressed(stream, about=np.array(json.dumps(about)), **arrays)

    write_atomically(file, write)


def load_part(file: Path) -> tuple[Part, dict[str, Any], WorldSpec]:
    """The arrays, the plan and the simulator; raises ColaWorldError for a damaged file."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            part = dict(stored)
        about = json.loads(str(part.pop("about")))
        return part, about["plan"], WorldSpec(**about["spec"])
    except Exception as error:
        raise ColaWorldError(
            f"The episode file {file} is damaged ({error}): delete it and run the command again."
        ) from error


def merge_parts(
    files: Iterable[Path], out: Path, splits: dict[str, str], settings: dict[str, Any]
) -> None:
    """Makes the LeRobot v3 dataset `out` of episode files; `settings` go into its info.json.

    An episode of T steps becomes T + 1 rows: the last one holds the final frame and state, a zero
    action, and again the reward and successes of the row before.
    """
    iterator = iter(files)
    part, plan, spec = load_part(next(iterator))
    with LeRobotWriter(
        out,
        features=_features(part, spec),
        fps=spec.fps,
        robot_type=spec.robot_type,
        overwrite=True,
    ) as writer:
        writer.add_episode(plan["policy"], _columns(part), plan)
        for file in iterator:
            part, plan, _ = load_part(file)
            writer.add_episode(plan["policy"], _columns(part), plan)
        writer.close(splits, **settings, tasks=list(spec.tasks))


def _features(part: Part, spec: WorldSpec) -> dict[str, dict[str, Any]]:
    def vector(dtype: str, size: int, names: tuple[str, ...] | None = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [size], "names": names and list(names)}

    return {
        "observation.image": {"dtype": "video", "shape": list(part["frames"].shape[1:])},
        "observation.state": vector("float64", part["states"].shape[1]),
        "action": vector("float32", part["actions"].shape[1], spec.actions),
        "next.reward": vector("float32", 1),
        "next.successes": vector("bool", len(spec.tasks), spec.tasks),
    }


def _columns(part: Part) -> Part:
    return {
        "observation.image": part["frames"],
        "observation.state": part["states"],
        "action": np.concatenate([part["actions"], np.zeros_like(part["actions"][:1])]),
        "next.reward": np.concatenate([part["rewards"], part["rewards"][-1:]]),
        "next.successes": np.concatenate([part["successes"], part["successes"][-1:]]),
    }
