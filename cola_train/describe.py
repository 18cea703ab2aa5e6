"""What the parts of a model cost, before it is built: `cola describe model=paper`.

Parameters, floating-point operations and activation memory of every component for one clip batch,
counted on the meta device: no weights are made and nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command


@dataclass(frozen=True)
class ComponentCost:
    """Of one component. ``flops``: of a forward pass (a multiplication and an addition are two);
    ``activations``: bytes kept for the backward pass (none of the autoencoder, which is frozen);
    ``recomputed``: bytes at most at a time with activation checkpointing.
    """

    parameters: int
    flops: int = 0
    activations: int = 0
    recomputed: int = 0


class SavedBytes:
    """Counts what autograd keeps for the backward pass, within blocks and outside of them."""

    def __init__(self, module: nn.Module, blocks: list[type[nn.Module]]) -> None:
        self.module, self.blocks = module, tuple(blocks)
        self.by_block: dict[int | None, int] = {None: 0}
        self.inputs = 0
        self._storages: dict[int, Any] = {p.untyped_storage()._cdata: p for p in parameters(module)}
        self._block: int | None = None

    @property
    def total(self) -> int:
        return sum(self.by_block.values())

    @property
    def recomputed(self) -> int:
        """With checkpointing: outside the blocks all, of the blocks their inputs and one inside."""
        inside = [size for block, size in self.by_block.items() if block is not None]
        return self.by_block[None] + self.inputs + max(inside, default=0)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._storages:
            self._storages[storage._cdata] = storage
            self.by_block[self._block] = self.by_block.get(self._block, 0) + storage.nbytes()
        return tensor

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._block = id(block)
        self.inputs += inputs[0].untyped_storage().nbytes()

    def _leave(self, *_: Any) -> None:
        self._block = None

    @contextmanager
    def counting(self) -> Iterator[None]:
        hooks = []
        for block in self.module.modules():
            if isinstance(block, self.blocks):
                hooks.append(block.register_forward_pre_hook(self._enter))
                hooks.append(block.register_forward_hook(self._leave))
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield
        for hook in hooks:
            hook.remove()


def parameters(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def cost(module: nn.Module, run: Callable[[], Any] | None, repeated: list[str]) -> ComponentCost:
    """The cost of ``module`` while ``run`` computes with it; ``repeated``: its block classes."""
    size = sum(parameter.numel() for parameter in module.parameters())
    if run is None:
        return ComponentCost(size)
    kinds = [type(part) for part in module.modules() if type(part).__name__ in repeated]
    saved = SavedBytes(module, kinds)
    with FlopCounterMode(display=False) as flops, saved.counting():
        run()
    return ComponentCost(size, flops.get_total_flops(), saved.total, saved.recomputed)


def describe(settings: dict[str, Any], batch: int, frames: int) -> dict[str, ComponentCost]:
    """The cost of every component for ``batch`` clips of ``frames`` frames, in bfloat16.

    Raises:
        ColaWorldError: from the model, for settings that do not fit each other.
    """
    with torch.device("meta"):
        model = ColaWorldModel(**settings)
        for part in model.children():
            part.to(torch.bfloat16)
        size = model.config.image_size
        clip = torch.zeros(batch, frames, size, size, 3, dtype=torch.uint8)
        with torch.no_grad():
            latents = model.encode(clip)
            vectors = torch.rand(*latents.shape[:2], model.conditioner.embed.in_features)
        time = model.clip_context(latents.shape[1])
        modulation = torch.rand(*latents.shape[:2], 6 * model.stdit.config.hidden_size)
        level = torch.rand(latents.shape[:2])
        runs: dict[str, Callable[[], Any]] = {
            "stdit": lambda: model.stdit(
                latents, level, previous=latents, action_modulation=modulation, time=time
            ),
            "conditioner": lambda: model.conditioner(vectors, time),
            "idm": lambda: model.action_tokens(clip, latents),
        }
        coder = "autoencoder" if model.config.vae_config is None else "vae"
        runs[coder] = torch.no_grad()(lambda: model.encode(clip))
        if model.config.fdm_config is not None:
            side = model.config.fdm_config["image_size"]
            tokens = torch.rand(batch, frames - 1, *model.idm.token_shape)
            before = torch.rand(batch, frames - 1, side, side, 3)
            runs["fdm"] = lambda: model.fdm(before, tokens)
        return {
            name: cost(part, runs.get(name), model._repeated_blocks)
            for name, part in model.named_children()
        }


def table(costs: dict[str, ComponentCost], batch: int, frames: int) -> str:
    lines = [
        f"{batch} x {frames} frames, bfloat16; memory of the activations in GiB",
        f"{'':12} {'parameters':>14} {'forward GFLOP':>14} {'kept':>8} {'recomputed':>11}",
    ]
    total = ComponentCost(
        *(sum(getattr(c, f) for c in costs.values()) for f in ComponentCost.__annotations__)
    )
    for name, c in {**costs, "all": total}.items():
        memory = f"{c.activations / 2**30:8.2f} {c.recomputed / 2**30:11.2f}"
        lines.append(f"{name:12} {c.parameters:14,} {c.flops / 1e9:14,.1f} {memory}")
    return "\n".join(lines)


@command("describe")
def main(config: DictConfig) -> None:
    if config.model not in MODEL_SIZES:
        raise ColaWorldError(f"model must be one of {', '.join(MODEL_SIZES)}.")
    costs = describe(MODEL_SIZES[config.model], config.batch, config.frames)
    print(f"{config.model}: {table(costs, config.batch, config.frames)}")
    if config.out:
        write_json(Path(config.out), {name: asdict(c) for name, c in costs.items()})


if __name__ == "__main__":
    main()
