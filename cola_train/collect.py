"""Makes a dataset from a real simulator: `cola collect env=robodesk out=FOLDER`.

Worker processes record episodes, one file each, under FOLDER/parts; killed and started again, the
command goes on with the missing ones. At the end they become one LeRobot v3 dataset in FOLDER.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.config_store import ConfigStore
from numpy.typing import NDArray
from omegaconf import MISSING, DictConfig, OmegaConf

from cola_env.errors import ColaWorldError, check_setting
from cola_env.files import write_arrays, write_json
from cola_env.goals.loading import load_goals
from cola_env.processes import ONE_THREAD, deaths_told, serve
from cola_env.worlds import find_world
from cola_train.command import command
from cola_train.console import GOES_ON, progress_bar
from cola_train.data.lerobot import INTENDED
from cola_train.data.lerobot_files import INFO
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.recording import (
    EpisodeMixture,
    SimulatedWorld,
    WorldSpec,
    make_world,
    record_episode,
)

MakeWorld = Callable[[str, str, int], SimulatedWorld]

PARTS, SETTINGS = "parts", "settings.json"


@dataclass
class CollectConfig:
    out: str = MISSING
    env: str = "robodesk"
    episodes: int = 1200
    workers: int = 2
    """Processes; 0 records in this one."""
    rendering: str | None = None
    """None: the profile of the shipped data, "fast"."""
    action_repeat: int | None = None
    """Control steps of an action; None: the world's own."""
    seed: int = 0
    held_out: float = 0.05
    """Share of the episodes, the last ones, that make the "test" split."""
    keep_parts: bool = False
    """Keep the episode files after the end, so that a larger `episodes` can extend the dataset."""
    mixture: EpisodeMixture = field(default_factory=EpisodeMixture)


ConfigStore.instance().store(name="collect_config", node=CollectConfig)


def collect(config: CollectConfig, make: MakeWorld = make_world) -> Path:
    """Records the missing episodes, then writes the dataset; returns its folder.

    `make(env, rendering, action_repeat)` builds the simulator in each worker (a module-level
    function, as it is sent to them). Raises ColaWorldError for settings that do not fit what
    `config.out` already holds.
    """
    config = _complete(config)
    _check(config)
    out = Path(config.out)
    if _is_finished(config):
        print(f"{out} already holds these {config.episodes} episodes.")
        return out
    parts = out / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    _claim(parts / SETTINGS, _content(config))
    missing = [i for i in range(config.episodes) if not part_file(parts, i).exists()]
    if missing:
        counts = {"total": config.episodes, "initial": config.episodes - len(missing)}
        with progress_bar(None, "recording", unit="episode", **counts) as bar:
            for _ in _record(config, make, parts, missing):
                bar.update()
    files = [part_file(parts, i) for i in range(config.episodes)]
    written = progress_bar(files, "writing", unit="episode")
    merge_parts(written, out, _splits(config), _content(config))
    if not config.keep_parts:
        shutil.rmtree(parts)
    return out


def _complete(config: CollectConfig) -> CollectConfig:
    world = find_world(config.env)
    return replace(
        config,
        rendering=config.rendering or world.rendering,
        action_repeat=config.action_repeat or world.action_repeat,
    )


def _check(config: CollectConfig) -> None:
    check_setting("episodes", config.episodes, config.episodes >= 1, "at least 1")
    if unknown := sorted({*(config.mixture.tasks or ())} - {*find_world(config.env).tasks}):
        raise ColaWorldError(f"mixture.tasks={unknown} are no tasks of {config.env}.")
    if config.mixture.goals is not None:
        goals = load_goals(config.rendering, config.mixture.goals, config.env)
        for task in config.mixture.tasks or ():
            goals.of(task)
    check_setting("workers", config.workers, config.workers >= 0, "0 (this process) or more")
    check_setting("held_out", config.held_out, 0 <= config.held_out < 1, "a share in [0, 1)")


def _content(config: CollectConfig) -> dict[str, Any]:
    """The settings that the content of an episode depends on."""
    names = ("env", "rendering", "action_repeat", "seed", "mixture")
    content: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    content["env"] = find_world(config.env).name
    return {name: content[name] for name in names}


def _splits(config: CollectConfig) -> dict[str, str]:
    train = config.episodes - round(config.held_out * config.episodes)
    splits = {"train": f"0:{train}", "test": f"{train}:{config.episodes}"}
    return splits if train < config.episodes else {"train": splits["train"]}


def _claim(file: Path, content: dict[str, Any]) -> None:
    if not file.exists():
        write_json(file, content)
        return
    _check_same(file.parent.parent, json.loads(file.read_text()), content)


def _check_same(out: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    defaults = json.loads(json.dumps(asdict(EpisodeMixture())))
    there = there | {"mixture": defaults | there.get("mixture", {})}
    for name, value in asked.items():
        if there.get(name) != value:
            raise ColaWorldError(
                f"{out} holds episodes with {name}={there.get(name)}, so none with {name}={value} "
                "can join them: use the same setting or another out=."
            )


def _is_finished(config: CollectConfig) -> bool:
    out = Path(config.out)
    if not (out / INFO).exists():
        return False
    info = json.loads((out / INFO).read_text())
    _check_same(out, info, _content(config))
    if info["total_episodes"] == config.episodes:
        return True
    if not (out / PARTS).is_dir():
        raise ColaWorldError(
            f"{out} is finished with {info['total_episodes']} episodes and its parts are gone: "
            "use another out= (keep_parts=true lets a dataset grow)."
        )
    return False


def _record(
    config: CollectConfig, make: MakeWorld, parts: Path, missing: list[int]
) -> Iterator[None]:
    content = _content(config)
    world = config.env, content["rendering"], content["action_repeat"]
    episodes = [(part_file(parts, i), config.mixture, config.seed, i) for i in missing]
    if not config.workers:
        simulator = make(*world)
        for episode in episodes:
            _record_part(simulator, *episode)
            yield
        return
    pool = ProcessPoolExecutor(min(config.workers, len(missing)), get_context("spawn"), serve)
    try:
        with deaths_told():
            jobs = [pool.submit(_record_in_worker, make, world, *episode) for episode in episodes]
            for job in as_completed(jobs):
                job.result()
                yield
    finally:
        pool.shutdown(cancel_futures=True)


def _record_part(
    world: SimulatedWorld, file: Path, mixture: EpisodeMixture, seed: int, number: int
) -> None:
    save_part(file, record_episode(world, mixture, seed, number), world.spec)


def _record_in_worker(make: MakeWorld, world: tuple[str, str, int], *episode: Any) -> None:
    _record_part(_simulator(make, *world), *episode)


@lru_cache(maxsize=1)
def _simulator(make: MakeWorld, env: str, rendering: str, action_repeat: int) -> SimulatedWorld:
    """A worker process makes it once."""
    return make(env, rendering, action_repeat)


Part = dict[str, NDArray[Any]]


def part_file(folder: Path, number: int) -> Path:
    return folder / f"episode-{number:06d}.npz"


def save_part(file: Path, episode: dict[str, Any], spec: WorldSpec) -> None:
    """Writes what `record_episode` returned and the simulator that it comes from."""
    about = {"plan": episode["plan"], "spec": asdict(spec)}
    arrays = {name: value for name, value in episode.items() if name != "plan"}
    write_arrays(file, about=np.array(json.dumps(about)), **arrays)


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
        INTENDED: vector("float32", part["actions"].shape[1], spec.actions),
        "next.reward": vector("float32", 1),
        "next.successes": vector("bool", len(spec.tasks), spec.tasks),
    }


def _columns(part: Part) -> Part:
    """The rows of an episode; vectors of one number are numbers, as LeRobot stores them."""
    still = np.zeros_like(part["actions"][:1])
    columns = {
        "observation.image": part["frames"],
        "observation.state": part["states"],
        "action": np.concatenate([part["actions"], still]),
        INTENDED: np.concatenate([part["intended"], still]),
        "next.reward": np.concatenate([part["rewards"], part["rewards"][-1:]]),
        "next.successes": np.concatenate([part["successes"], part["successes"][-1:]]),
    }
    return {
        name: values[:, 0] if values.shape[1:] == (1,) else values
        for name, values in columns.items()
    }


@command("collect", GOES_ON)
def main(config: DictConfig) -> None:
    os.environ.update(ONE_THREAD | os.environ)  # what the user has set stays
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, CollectConfig)
    print(f"The dataset is in {collect(settings)}.")


if __name__ == "__main__":
    main()
