"""Training by several processes, by accumulation, and both give what one process gives."""

from __future__ import annotations

import os
import socket
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.measurements.kill_stress import Flow
from cola_env.errors import ColaWorldError
from cola_env.models.latent_action.quantizer import VectorQuantizer
from cola_train.phases import Phase, Reconstruction
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.runs import losses
from tests.train.sharding import shard
from tests.train.small import moving_square, small_model

Outcome = tuple[dict[str, Tensor], str]


def phases() -> list[Phase]:
    """k-means, restarts, steps in which the codebook is unused, and hand-overs between phases."""
    flow = {"batch_size": 8, "clip": 4, "lr_warmup": 1, "actions": "latent"}
    learns = ["idm", "quantizer", "conditioner"]
    return [
        Reconstruction("autoencoder", 2, ["autoencoder"], batch_size=8, lr_warmup=1),
        Flow(
            "warm_up", 6, learns, continuous_steps=2, fit_codes=True, restart_steps=4,
            restart_every=2, **flow,
        ),
        Flow("end_to_end", 3, ["stdit", *learns], restart_steps=3, restart_every=2, **flow),
    ]  # fmt: skip


def train(out: Path, accumulation: int) -> Outcome:
    torch.set_num_threads(1)
    VectorQuantizer.track_usage.__kwdefaults__ = None
    VectorQuantizer.track_usage.__defaults__ = (0.1,)  # forgets fast, so that codes are restarted
    clips, model = moving_square(), small_model()
    config = TrainerConfig(
        log_every=1, logger="none", accumulation=accumulation, save_seconds=0, keep_last=100
    )
    trainer = Trainer(model, phases(), clips, clips, out, seed=0, config=config)
    trainer.run()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return weights, (out / "history.jsonl").read_text()


def join(rank: int, processes: int, port: int, out: Path, accumulation: int, sharded: bool) -> None:
    """One of the processes, as a launcher starts them."""
    if sharded:
        Accelerator.__init__ = shard
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    torch.save(train(out, accumulation), out.parent / f"{out.name}_{rank}.pt")


def launch(out: Path, processes: int, accumulation: int, sharded: bool = False) -> list[Outcome]:
    """What each of the processes ends with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    members = [
        context.Process(target=join, args=(rank, processes, port, out, accumulation, sharded))
        for rank in range(processes)
    ]
    for member in members:
        member.start()
    for member in members:
        member.join()
        assert member.exitcode == 0
    return [torch.load(out.parent / f"{out.name}_{rank}.pt") for rank in range(processes)]


def assert_alike(weights: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    """Equal but for rounding, which is all of Adam's step where a gradient vanishes, and which may
    decide on which token a code is restarted."""
    assert weights.keys() == others.keys()
    learned = [name for name in others if not name.startswith("quantizer.")]
    one, other = (torch.cat([w[name].flatten() for name in learned]) for w in (weights, others))
    assert (one - other).norm() < 1e-3 * other.norm()
    moved = (weights["quantizer.codebook"] - others["quantizer.codebook"]).abs().amax(-1) > 1e-2
    assert moved.float().mean() < 0.25


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One process that accumulates four micro-batches."""
    return launch(tmp_path_factory.mktemp("alone") / "run", 1, 4)[0]


def test_two_processes_train_as_one_that_accumulates(alone: Outcome, tmp_path: Path) -> None:
    first, second = launch(tmp_path / "run", 2, 2)
    assert_alike(first[0], alone[0])
    assert all(torch.equal(first[0][name], weight) for name, weight in second[0].items())
    assert losses(first[1]) == pytest.approx(losses(alone[1]), rel=1e-4)
    assert len(first[1].splitlines()) == len(alone[1].splitlines())


def test_two_processes_that_share_out_the_weights_train_alike_and_resume(
    alone: Outcome, tmp_path: Path
) -> None:
    whole = launch(tmp_path / "run", 2, 2, sharded=True)[0]
    assert_alike(whole[0], alone[0])
    assert losses(whole[1]) == pytest.approx(losses(alone[1]), rel=1e-4)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.stem == "end_to_end-00000003":
            path.unlink()
    resumed = launch(tmp_path / "run", 2, 2, sharded=True)[0]
    assert resumed[1] == whole[1]
    assert all(torch.equal(resumed[0][name], weight) for name, weight in whole[0].items())


def test_a_batch_that_cannot_be_shared_out_is_an_error(tmp_path: Path) -> None:
    clips = moving_square(4)
    config = TrainerConfig(logger="none", accumulation=3)
    recipe = phases()
    recipe[0].batch_size = 3
    with pytest.raises(ColaWorldError, match="phases.warm_up.batch_size=8 .* a multiple of 3"):
        Trainer(small_model(), recipe, clips, clips, tmp_path, seed=0, config=config)
