"""FSDP2 among processes on a CPU."""

from __future__ import annotations

from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin, PartialState

begin = Accelerator.__init__


def shard(self: Accelerator, *args: object, **kwargs: object) -> None:
    """In place of ``Accelerator.__init__``: accelerate's FSDP2, which it offers on no CPU."""
    begin(self, *args, **kwargs)
    self.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["STDiTBlock", "IDMBlock"],
        cpu_ram_efficient_loading=False,
        reshard_after_forward=True,
    )
    for shared in (self.state.__dict__, PartialState._shared_state):
        shared["distributed_type"] = DistributedType.FSDP
