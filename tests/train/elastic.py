"""The joint phases of the paper's recipe with a tiny model, in a process that torchrun has started:
`torchrun --nproc-per-node 2 -m tests.train.elastic OUT ACCUMULATION [sharded]`."""

import sys
from pathlib import Path

from accelerate import Accelerator

import cola_train.__main__ as cli
from tests.train.paper_runs import paper_settings, tiny_sources
from tests.train.sharding import shard

if __name__ == "__main__":
    out, accumulation = Path(sys.argv[1]), int(sys.argv[2])
    if "sharded" in sys.argv:
        Accelerator.__init__ = shard
    config = paper_settings(
        "joint_paper", out, "device=cpu", "threads=1", "order=[warm_up,end_to_end]"
    )
    config.trainer.update(
        accumulation=accumulation, logger="none", log_every=1, save_seconds=0, keep_last=100
    )
    cli.train(config, tiny_sources())
