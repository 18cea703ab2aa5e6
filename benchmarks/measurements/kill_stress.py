"""Does training survive kill -9? `python -m benchmarks.measurements.kill_stress kills=100`

Trains a tiny model through the phases of a joint recipe, with a checkpoint after every step, in a
process that is killed at random moments and started again. Every run that reaches its end must have
the weights and the logs, to the bit, of a run that nobody killed.
"""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import tempfile
import time
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.gpu_checks.sizes import TINY_MINI
from benchmarks.harness import command_line, processor, report
from benchmarks.measurements.loader import moving_disc
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command
from cola_train.console import progress_bar
from cola_train.data.clips import Clips, TrainingData
from cola_train.evaluation.controllability import controllability
from cola_train.phases import FlowMatching, Phase, Reconstruction
from cola_train.trainer import Trainer, TrainerConfig

READY = 120.0
"""Seconds in which a process is ready to train, or has failed."""


@dataclass
class Survival:
    """``finished``: runs that reached their end, of which so many had the same weights and the same
    history; ``while_saving``: kills that left a half-written checkpoint behind; ``phases``: kills
    by the phase of the newest checkpoint."""

    kills: int = 0
    finished: int = 0
    same_weights: int = 0
    same_history: int = 0
    while_saving: int = 0
    phases: dict[str, int] = field(default_factory=dict)

    @property
    def lossless(self) -> bool:
        return self.finished > 0 and self.finished == self.same_weights == self.same_history


class Flow(FlowMatching):
    """With an evaluation that is quick, so that most kills hit training and saving."""

    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, *_: Any) -> dict[str, float]:
        return controllability(model, held_out, self.clip, adapter=False, count=4)


def phases() -> list[Phase]:
    flow: dict[str, Any] = {"batch_size": 4, "clip": 4, "lr_warmup": 2, "actions": "latent"}
    learns = ["idm", "quantizer", "conditioner"]
    return [
        Reconstruction("autoencoder", 10, ["autoencoder"], batch_size=4, lr_warmup=2),
        Flow(
            "warm_up", 20, learns, continuous_steps=5, fit_codes=True, restart_steps=15,
            restart_every=3, **flow,
        ),
        Flow("end_to_end", 20, ["stdit", *learns], restart_steps=20, restart_every=5, **flow),
    ]  # fmt: skip


def clips() -> Clips:
    frames = torch.stack([torch.from_numpy(moving_disc(8, 64, 64, seed)) for seed in range(12)])
    actions = torch.rand(12, 7, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Clips(frames, actions)


def train(out: Path, log: Path, begun: Event) -> None:
    """From the newest checkpoint in ``out`` to the end of the last phase."""
    gc.freeze()  # what was there before the fork need not be looked through
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        config = TrainerConfig(log_every=2, save_seconds=0, logger="none")
        model = ColaWorldModel(**TINY_MINI)
        trainer = Trainer(model, phases(), clips(), clips(), out, seed=0, config=config)
        begun.set()
        trainer.run()


def live(out: Path, log: Path, seconds: float | None) -> tuple[bool, float]:
    """Train in a process of its own for so long (None: to the end), counted from when it is ready.

    Whether it had to be killed, and how many seconds it trained.

    Raises ColaWorldError when it fails by itself.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measurements.loader", "cola_train.trainer"])
    begun = context.Event()
    process = context.Process(target=train, args=(out, log, begun))
    process.start()
    begun.wait(READY)
    start = time.monotonic()
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        words = log.read_text().splitlines()[-1:]
        raise ColaWorldError(f"Training failed after it was killed: {' '.join(words)}")
    return process.exitcode != 0, time.monotonic() - start


def stress(folder: Path, kills: int, longest: float, seed: int) -> Survival:
    """Kill runs, one after another, until so many kills are done and the last run is finished."""
    moments, found = random.Random(seed), Survival()
    log = folder / "log.txt"
    longest *= live(folder / "whole", log, None)[1]
    weights, history = result(folder / "whole")
    bar = progress_bar(None, "kills", total=kills)
    while found.kills < kills:
        out = folder / f"run_{found.finished}"
        while live(out, log, moments.uniform(0, longest) if found.kills < kills else None)[0]:
            found.kills += 1
            found.while_saving += any((out / "checkpoints").glob("*.tmp"))
            phase = newest_phase(out)
            found.phases[phase] = found.phases.get(phase, 0) + 1
            bar.update()
        weights_now, history_now = result(out)
        found.finished += 1
        found.same_weights += weights_now.keys() == weights.keys() and all(
            torch.equal(weights_now[name], weight) for name, weight in weights.items()
        )
        found.same_history += history_now == history
    bar.close()
    return found


def newest_phase(out: Path) -> str:
    files = (out / "checkpoints").glob("*.pt")
    newest = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    return "before the first" if newest is None else newest.stem.rpartition("-")[0]


def result(out: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The weights after the last phase, and the history."""
    model = ColaWorldModel.from_pretrained(out / phases()[-1].name)
    return model.state_dict(), (out / "history.jsonl").read_text()


@command("kill_stress")
def main(config: DictConfig) -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = stress(Path(folder), config.kills, config.longest, config.seed)
    results = {
        "command": command_line("benchmarks.measurements.kill_stress"),
        "processor": processor(),
        "torch": torch.__version__,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "lossless": found.lossless,
        **asdict(found),
    }
    report(results, config.out)
    if not found.lossless:
        raise ColaWorldError("A killed run did not end like one that nobody killed.")


if __name__ == "__main__":
    main()
