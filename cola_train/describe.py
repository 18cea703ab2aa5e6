"""What a model or a training costs, before it is built: `cola describe model=paper`.

Of a model, parameters, floating-point operations and activation memory of every component for one
clip batch; with `recipe=joint_paper`, time, memory and disk of that training. Counted on the meta
device: no weights are made and nothing is computed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import CommandSettings, command, written_out
from cola_train.training_costs import (
    FrameCost,
    Hardware,
    PhaseCost,
    frame_cost,
    meta_model,
    phase_costs,
    tensors,
)

CONF = Path(__file__).parent / "conf"


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
        self._storages: dict[int, Any] = {p.untyped_storage()._cdata: p for p in tensors(module)}
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
        modulation = torch.rand(*latents.shape[:2], sum(model.stdit.config.modulation_sizes))
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


def duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def training_table(costs: Mapping[str, PhaseCost], hardware: Hardware, encoding: float) -> str:
    """``encoding``: seconds of all devices to make the latents of the data."""
    parts = "weights gradients optimizer average activations all".split()
    lines = [
        f"{hardware.devices} x {hardware.tflops:g} TFLOP/s, of which a training reaches "
        f"{hardware.share:.0%} (assumed), and {hardware.launch_us:g} us an operation at the least "
        f"(assumed); {'bfloat16' if hardware.half else 'float32'}; memory of a device in GiB",
        f"{'':20} {'steps':>7} {'batch':>6} {'GFLOP a step':>13} {'time':>13}"
        + "".join(f"{part:>12}" for part in parts),
    ]
    for name, cost in costs.items():
        sizes = *vars(cost.memory).values(), cost.memory.total
        lines.append(
            f"{name:20} {cost.steps:7,} {cost.batch_size:6,} "
            f"{hardware.devices * cost.flops / 1e9:13,.1f} {duration(cost.seconds(hardware)):>13}"
            + "".join(f"{size / 2**30:12.2f}" for size in sizes)
        )
    if encoding:
        lines.append(f"{'latents of the data':20} {'':28} {duration(encoding):>13}")
    seconds = encoding + sum(cost.seconds(hardware) for cost in costs.values())
    flops = sum(hardware.devices * cost.steps * cost.flops for cost in costs.values())
    days = seconds / 86_400
    lines.append(f"All: {flops / 1e18:.4g} EFLOP, {days:.3g} days ({duration(seconds)}).")
    return "\n".join(lines)


def memory_verdict(costs: Mapping[str, PhaseCost], memory_gb: float) -> str:
    """Whether a device has room for every phase."""
    dearest = max(costs, key=lambda name: costs[name].memory.total)
    needed = costs[dearest].memory.total / 2**30
    if needed <= memory_gb:
        return f"Memory: {needed:.1f} GiB of {memory_gb:g} at the most, in {dearest}."
    return (
        f"Memory: {dearest} needs {needed:.1f} GiB, more than memory_gb={memory_gb:g}: raise "
        "trainer.accumulation, or set trainer.checkpoint_activations=true."
    )


def disk_table(frame: FrameCost, frames: int, video_bits: float, checkpoint: int, kept: int) -> str:
    """``checkpoint``: bytes of the largest one; ``kept``: so many of them are."""
    sizes = {
        f"videos of {frames:,} frames ({video_bits:g} bits a pixel)": frames
        * (frame.pixels / 3 * video_bits / 8),
        "their latents (trainer.latent_cache)": frames * frame.latents,
        f"checkpoints, {kept} of {checkpoint / 1e9:.3g} GB": kept * checkpoint,
    }
    told = [f"  {size / 1e9:9,.2f} GB  {of}" for of, size in sizes.items() if size]
    return "\n".join(["Disk:", *told])


def training_settings(recipe: str, given: str) -> DictConfig:
    """Those of `cola train` for the recipe, with what ``given`` changes (key=value, by spaces).

    Raises ColaWorldError for settings that there are not.
    """
    settings = CommandSettings(CONF, "train")
    changed = [written_out(each, sweeps=False) for each in shlex.split(given)]
    overrides = [f"recipe={recipe}", "data=none", "out=none", *changed]
    try:
        return settings.compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ColaWorldError(f"training: {settings.explain(error, overrides)}") from error


def describe_training(recipe: str, config: DictConfig) -> dict[str, Any]:
    """Prints what the training costs, and returns it."""
    cfg = training_settings(recipe, config.training)
    hardware = Hardware(**{name: config[name] for name in Hardware.__annotations__})
    costs = phase_costs(cfg, hardware, config.latents_kept)
    model = meta_model(cfg)
    frame = frame_cost(model)
    encoding = 0.0
    if config.latents_kept:
        rate = hardware.devices * hardware.tflops * 1e12 * hardware.share
        encoding = config.data_frames * frame.flops / rate
    size = sum(parameter.numel() for parameter in model.parameters())
    checkpoint = max(cost.checkpoint for cost in costs.values())
    print(f"{recipe}: {size:,} parameters")
    print(training_table(costs, hardware, encoding))
    print(memory_verdict(costs, config.memory_gb))
    kept = cfg.trainer.keep_last
    print(disk_table(frame, config.data_frames, config.video_bits, checkpoint, kept))
    phases = {
        name: {**asdict(cost), "seconds": cost.seconds(hardware)} for name, cost in costs.items()
    }
    return {"phases": phases, "encoding_seconds": encoding, "frame": asdict(frame)}


def describe_model(config: DictConfig) -> dict[str, Any]:
    """Prints what the parts of ``config.model`` cost, and returns it."""
    if config.model not in MODEL_SIZES:
        raise ColaWorldError(f"model must be one of {', '.join(MODEL_SIZES)}.")
    costs = describe(MODEL_SIZES[config.model], config.batch, config.frames)
    print(f"{config.model}: {table(costs, config.batch, config.frames)}")
    return {name: asdict(cost) for name, cost in costs.items()}


@command("describe")
def main(config: DictConfig) -> None:
    recipe = HydraConfig.get().runtime.choices["recipe"]
    found = describe_training(recipe, config) if recipe else describe_model(config)
    if config.out:
        write_json(Path(config.out), found)


if __name__ == "__main__":
    main()
