"""How far the code has to be followed: `python -m benchmarks.measurements.walks [--files]`

Counts the files and functions of our packages that run in one `env.step` of a dream, between two
optimiser steps of training (`joint_mini`, end-to-end), and in one VP2 episode of one planned step,
its simulator included. Everything is imported and done once before, so that only what runs again
counts. Prints a Markdown table, the one in docs/architecture.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import cola_env.simulators.pool
from benchmarks.measurements.loader import write_lerobot
from benchmarks.training_runs import Job, finish
from benchmarks.vp2_protocol.run import Run
from cola_train.command import CommandSettings
from cola_train.console import ending

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cola_env", "cola_train", "planners", "benchmarks")
TASK = "push_red"


class Walk:
    """The functions (file from ROOT, qualified name) of our packages that ran while it was on."""

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self._inside = {str(ROOT / package) + os.sep for package in PACKAGES}

    @property
    def files(self) -> list[str]:
        return sorted({file for file, _ in self.functions})

    def start(self) -> None:
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not any(map(code.co_filename.startswith, self._inside)):
            return
        if not code.co_name.startswith("<") and code.co_filename != __file__:
            file = Path(code.co_filename).relative_to(ROOT).as_posix()
            self.functions.add((file, code.co_qualname))


@contextmanager
def walking() -> Iterator[Walk]:
    walk = Walk()
    walk.start()
    try:
        yield walk
    finally:
        walk.stop()


def dream_step(folder: Path) -> Walk:
    env = gym.make("ColaWorld-RoboDesk-v0", task=TASK)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape or (), np.float32)
    env.step(action)
    with walking() as walk:
        env.step(action)
    env.close()
    return walk


def training_step(folder: Path) -> Walk:
    """From the end of one optimiser step to the end of the next."""
    data = write_lerobot(folder / "data", episodes=4)
    overrides = ("recipe=joint_mini", f"data=[{data}]", "order=[end_to_end]")
    steps = ("phases.end_to_end.steps=4", "phases.end_to_end.batch_size=2", "trainer.logger=none")
    walk, done = Walk(), 0

    def turn(*_: object) -> None:
        nonlocal done
        done += 1
        if done == 2:
            walk.start()
        if done == 3:
            walk.stop()

    hook = register_optimizer_step_post_hook(turn)
    try:
        finish(Job("walk", 0, "one step", (*overrides, *steps)), folder)
    finally:
        hook.remove()
    return walk


class SameProcess(Executor):
    """Does the jobs of simulator processes in one thread, where they can be followed."""

    thread = ThreadPoolExecutor(1)  # OpenGL belongs to the thread that began it

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.thread.submit(followed, fn, *args, **kwargs)


def followed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    sys.setprofile(threading.getprofile())
    try:
        return function(*args, **kwargs)
    finally:
        sys.setprofile(None)


def episode(folder: Path) -> Walk:
    given = [f"tasks=[{TASK}]", "model=cola", "episodes=1", "steps=1", "replan_every=1"]
    given += ["workers=1", "threads=1", *(f"planner.{s}" for s in ("num_samples=4", "horizon=2"))]
    settings = CommandSettings(ROOT / "benchmarks" / "conf", "vp2")
    runs = [Run(settings.compose([*given, f"out={folder / str(i)}"])) for i in range(2)]
    with mock.patch.object(cola_env.simulators.pool, "ProcessPoolExecutor", SameProcess):
        runs[0].play(lambda _: None)
        with walking() as walk:
            runs[1].play(lambda _: None)
    SameProcess.thread.submit(close_simulators).result()
    return walk


def close_simulators() -> None:
    for env in cola_env.simulators.pool._environments.values():
        env.close()


WALKS: dict[str, Callable[[Path], Walk]] = {
    "`env.step` of a dream": dream_step,
    "one training step": training_step,
    "one VP2 episode": episode,
}


def table(walks: dict[str, Walk]) -> str:
    lines = ["| walk | files | functions |", "|---|---:|---:|"]
    for name, walk in walks.items():
        lines.append(f"| {name} | {len(walk.files)} | {len(walk.functions)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", action="store_true", help="also list them")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with ending(), tempfile.TemporaryDirectory() as folder:
        walks = {name: walk(Path(folder)) for name, walk in WALKS.items()}
    print(table(walks))
    for name, walk in walks.items() if given.files else ():
        print(f"\n{name}:")
        for file in walk.files:
            names = sorted(function for where, function in walk.functions if where == file)
            print(f"  {file}: {', '.join(names)}")


if __name__ == "__main__":
    main()
