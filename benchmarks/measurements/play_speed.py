"""How many steps a second can be played? python -m benchmarks.measurements.play_speed

One session as the page has it, asked step by step, with the twin off and on; without a browser. The
dream and its trust signal are computed in one thread and the twin in another, so on two free cores
a step with the twin takes as long as the slower of them. CPU time is of the whole process: what
others do on the machine does not count.
"""

from __future__ import annotations

import tempfile
import time
from itertools import cycle
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.harness import command_line, machine, report
from cola_train.command import command
from cola_train.play.messages import Act, Drive, Reset, Twin
from cola_train.play.session import PlayConfig, Session

WARM_UP = 10
MOVES = ("a", "w", "d", "s")


def played(session: Session, steps: int) -> dict[str, float]:
    """Of the median step, in milliseconds, and the steps a second that follow."""
    wall, cpu = [], []
    moves = cycle(MOVES)
    session.handle(Reset(0))
    for number in range(WARM_UP + steps):
        before = time.perf_counter(), time.process_time()
        session.handle(Act((next(moves),), 0.5))
        if number >= WARM_UP:
            wall.append(time.perf_counter() - before[0])
            cpu.append(time.process_time() - before[1])
    return {
        "cpu_ms": round(1000 * median(cpu), 1),
        "wall_ms": round(1000 * median(wall), 1),
        "fastest_wall_ms": round(1000 * min(wall), 1),
        "steps_a_second": round(1 / median(wall), 1),
        "steps_a_second_by_cpu_time": round(1 / median(cpu), 1),
    }


def planned(session: Session) -> float:
    """CPU milliseconds of a plan with its ghosts and its first step."""
    session.handle(Reset(0))
    session.handle(Drive(True))
    before = time.process_time()
    session.drive()
    return round(1000 * (time.process_time() - before))


def measure(config: DictConfig) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as out:
        play = PlayConfig(task=config.task, checkpoint=config.checkpoint, out=out)
        session = Session(play)
        found = {}
        for name, on in (("twin_off", False), ("twin_on", True)):
            session.handle(Twin(on))
            found[name] = played(session, config.steps)
        session.handle(Twin(False))
        plan = planned(session)
        session.close()
    return {
        "command": command_line("benchmarks.measurements.play_speed"),
        "machine": machine(torch.device("cpu")),
        **found,
        "plan_cpu_ms": plan,
    }


@command("play_speed")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    report(measure(config), config.out)


if __name__ == "__main__":
    main()
