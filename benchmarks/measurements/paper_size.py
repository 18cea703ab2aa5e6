"""The paper's model at full size: `python -m benchmarks.measurements.paper_size [key=value ...]`

No published weights are needed: random ones are written to `weights` in the published layout first.
Every part runs in a process of its own, so that its peak memory is its own, and is written to `out`
at once; parts that are there already, measured under the same settings on the same machine, are not
run again. On a GPU, training and prediction also run at doubled batches until the memory is full.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import command_line, machine, matmul_peak, peak_resident, plain, timed
from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_env.models.autoencoders.vae import SCALE, SHIFT, OpenSoraVAE, VAEConfig
from cola_env.models.loading import pick_device
from cola_env.models.sizes import PAPER
from cola_env.models.stdit import STDiT, STDiTConfig
from cola_env.models.transformer import rotary_frequencies
from cola_env.models.world_model import ColaWorldModel
from cola_env.processes import deaths_told
from cola_train.command import command
from cola_train.data.clips import Clips
from cola_train.describe import describe
from cola_train.phases import FlowMatching, Step

Result = dict[str, Any]

NEEDED_GIB = {"load": 5, "train": 12, "predict": 8}  # of main memory, at full depth on a CPU

SHARD_BYTES = 2**30
CAPTIONS = (300, 4096)  # tokens and width of the text that the network was trained on


@dataclass(frozen=True)
class PaperSizeConfig:
    """Those of conf/paper_size.yaml. Raises ColaWorldError for an unknown part."""

    parts: list[str]
    depth: int
    frames: int
    device: str
    compile: bool
    attention: str
    weights: str
    out: str

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.parts) - PARTS.keys()):
            raise ColaWorldError(
                f"There is no part {', '.join(unknown)}: choose some of {', '.join(PARTS)}."
            )

    @property
    def folder(self) -> Path:
        return Path(self.weights) / f"depth_{self.depth}"

    @property
    def measured(self) -> dict[str, Any]:
        """Those that a part's result depends on, beside the machine."""
        return {name: getattr(self, name) for name in ("depth", "frames", "compile", "attention")}


def load_model(settings: PaperSizeConfig) -> ColaWorldModel:
    """The paper's model in bfloat16 from the files that ``publish`` wrote, on its device."""
    torch.manual_seed(0)
    folder = settings.folder
    model = ColaWorldModel.from_opensora(
        folder / "network", vae=folder / "vae", torch_dtype=torch.bfloat16
    )
    if settings.attention != "native":
        model.set_attention_backend(settings.attention)
    if settings.compile:
        model.compile_repeated_blocks()
    return model.to(pick_device(settings.device))


def publish(settings: PaperSizeConfig) -> None:
    """Random weights in the published layout, unless they are there."""
    done = settings.folder / "complete"
    if not done.exists():
        torch.manual_seed(0)
        network = STDiTConfig(**PAPER["stdit_config"])
        publish_network(settings.folder / "network", replace(network, depth=settings.depth))
        publish_vae(settings.folder / "vae", VAEConfig())
        done.touch()


def load(settings: PaperSizeConfig) -> Result:
    start = time.perf_counter()
    model = load_model(settings)
    seconds = time.perf_counter() - start
    sizes = {n: sum(p.numel() for p in part.parameters()) for n, part in model.named_children()}
    return {"seconds": seconds, "parameters": sizes}


def train(settings: PaperSizeConfig) -> Result:
    """One optimiser step of end-to-end training: flow matching through the latent actions.

    Its operations are three times those of the forward pass; what is recomputed does not count.
    """
    model = load_model(settings)
    learns = ["stdit", "conditioner", "idm", "quantizer"]
    phase = FlowMatching(
        "end_to_end", 1, learns, actions="latent", pure_noise=0.0, motion_weight=0.0
    )
    model.requires_grad_(False)
    for component in phase.components(model).values():
        component.requires_grad_(True)
    model.enable_gradient_checkpointing()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=7.5e-5, fused=True)
    size = model.config.image_size
    frames = torch.randint(0, 256, (1, settings.frames, size, size, 3), dtype=torch.uint8)
    clips = Clips(frames, torch.zeros(1, settings.frames - 1, model.config.action_dim))
    clips = clips.encode(model)
    prepared, generator = phase.prepare(clips), torch.Generator().manual_seed(0)

    def step(batch: int) -> None:
        phase.batch_size, phase.clip = batch, settings.frames
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            drawn = phase.draw(clips, generator, phase.batch_size).to(model.device)
            loss = phase.loss(model, drawn, Step(0, generator, prepared)).value
        loss.backward()
        if not torch.isfinite(loss):
            raise ColaWorldError("The loss of the training step is not finite.")
        torch.nn.utils.clip_grad_norm_(learned, 1.0, foreach=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    sizes = PAPER | {"stdit_config": PAPER["stdit_config"] | {"depth": settings.depth}}
    costs = describe(sizes, 1, settings.frames)
    tflop = 3 * sum(costs[name].flops for name in learns) / 1e12
    batches = measure(step, model.device, tflop)
    return {"learned": sum(p.numel() for p in learned), "batches": batches}


def predict(settings: PaperSizeConfig) -> Result:
    """One prediction of ``frames`` frames: 10 sampling steps with guidance, then the VAE."""
    model = load_model(settings).eval()
    size = model.config.image_size

    def step(batch: int) -> None:
        first = torch.zeros(batch, 1, size, size, 3, dtype=torch.uint8)
        codes = torch.zeros(batch, settings.frames, 2, dtype=torch.long)
        if not model.predict(first, codes, action_mode="latent", seed=0).isfinite().all():
            raise ColaWorldError("The predicted frames are not finite.")

    return {"batches": measure(step, model.device)}


PARTS: dict[str, Callable[[PaperSizeConfig], Result]] = {
    "load": load,
    "train": train,
    "predict": predict,
}


def measure(
    step: Callable[[int], None], device: torch.device, tflop: float | None = None
) -> list[Result]:
    """Time of ``step`` at batch 1, and on a GPU at doubled batches while they fit.

    ``tflop``: operations for one clip; None: those of the first call are counted, which must not
    learn (the counter holds on to what the backward pass recomputes). On a GPU a first call of
    every batch warms up; the time is the median of three more.
    """
    results: list[Result] = []
    batch = 1
    while True:
        try:
            with FlopCounterMode(display=False) if tflop is None else nullcontext() as counter:
                seconds = [timed(partial(step, batch), device)]
            if counter is not None:
                tflop = counter.get_total_flops() / 1e12
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                seconds = [timed(partial(step, batch), device) for _ in range(3)]
        except torch.cuda.OutOfMemoryError:
            return results
        assert tflop is not None
        result: Result = {"batch": batch, "seconds": median(seconds), "tflop": batch * tflop}
        result["tflop_per_second"] = result["tflop"] / result["seconds"]
        if device.type == "cuda":
            result["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        results.append(result)
        if device.type != "cuda":
            return results
        batch *= 2


def available_gib() -> float:
    """Main memory that can be had without taking it from others; without limit where not known."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    free = [int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable")]
    return free[0] if free else float("inf")


def run_part(name: str, settings: PaperSizeConfig) -> Result:
    """In a process of its own; ColaWorldError when memory is short or the process is killed."""
    if available_gib() < NEEDED_GIB[name]:
        raise ColaWorldError(
            f"The part {name} needs {NEEDED_GIB[name]} GiB of free memory, here are "
            f"{available_gib():.0f}: end other programs or run parts={name} later."
        )
    with deaths_told(), ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measured_alone, name, settings).result()


def measured_alone(name: str, settings: PaperSizeConfig) -> Result:
    result = PARTS[name](settings)
    return result | {"peak_ram_gib": peak_resident() / 2**30}


def results(settings: PaperSizeConfig) -> Iterator[tuple[str, Result]]:
    """The parts and their results, those that ``settings.out`` lacks newly measured and kept there.

    Raises ColaWorldError when a part cannot run.
    """
    out, device = Path(settings.out), pick_device(settings.device)
    about = {"settings": settings.measured, "machine": machine(device)}
    kept = json.loads(out.read_text()) if out.exists() else {"depths": {}}
    done = kept["depths"].setdefault(str(settings.depth), {})
    command = command_line("benchmarks.measurements.paper_size")
    publish(settings)
    for name in settings.parts:
        known = done.get(name, {})
        if {key: known.get(key) for key in about} != about:
            peak = {"matmul_tflop_per_second": matmul_peak(device) / 1e12}
            done[name] = run_part(name, settings) | about | peak | {"command": command}
            write_json(out, kept)
        yield name, done[name]


def publish_network(folder: Path, config: STDiTConfig, captions: tuple[int, int] = CAPTIONS) -> int:
    """Write an STDiT3 with its text parts, bfloat16, in shards; how many numbers it has."""
    dim, (tokens, width) = config.hidden_size, captions
    shapes = {name: tuple(value.shape) for name, value in on_meta(STDiT, config).items()}
    patch = (dim, config.in_channels, 1, config.patch_size, config.patch_size)
    shapes["x_embedder.proj.weight"] = patch
    shapes["x_embedder.proj.bias"] = shapes.pop("x_embedder.bias")
    del shapes["x_embedder.weight"]
    for kind in ("spatial", "temporal"):
        for i in range(config.depth):
            block = f"{kind}_blocks.{i}.cross_attn"
            for part, size in {"q_linear": dim, "kv_linear": 2 * dim, "proj": dim}.items():
                shapes |= {f"{block}.{part}.weight": (size, dim), f"{block}.{part}.bias": (size,)}
    shapes["y_embedder.y_embedding"] = (tokens, width)
    for part, size in {"fc1": width, "fc2": dim}.items():
        shapes[f"y_embedder.y_proj.{part}.weight"] = (dim, size)
        shapes[f"y_embedder.y_proj.{part}.bias"] = (dim,)
    frozen = {"rope.freqs": rotary_frequencies(dim // config.num_heads)}
    count = save_shards(folder, chain(random_tensors(shapes), frozen.items()))
    published = {
        "in_channels": config.in_channels,
        "hidden_size": dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_ratio,
        "patch_size": [1, config.patch_size, config.patch_size],
        "pred_sigma": config.pred_sigma,
        "qk_norm": True,
        "input_sq_size": 512,
    }
    write_json(folder / "config.json", published)
    return count


def publish_vae(folder: Path, config: VAEConfig) -> int:
    """Write the VAE, bfloat16, in shards; how many numbers it has."""
    shapes = {
        name.replace("spatial_vae.", "spatial_vae.module."): tuple(value.shape)
        for name, value in on_meta(OpenSoraVAE, config).items()
    }
    constants = {
        name: torch.tensor(values).view(1, -1, 1, 1, 1)
        for name, values in {"shift": SHIFT, "scale": SCALE}.items()
    }
    return save_shards(folder, chain(random_tensors(shapes), constants.items()))


def on_meta(kind: Callable[..., nn.Module], config: object) -> dict[str, Tensor]:
    with torch.device("meta"):
        return kind(config).state_dict()


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Normal weights of standard deviation 0.02; norms are 1 and biases 0, as at a start."""
    for name, shape in shapes.items():
        if "norm" in name and name.endswith("weight"):
            yield name, torch.ones(shape, dtype=torch.bfloat16)
        elif name.endswith("bias"):
            yield name, torch.zeros(shape, dtype=torch.bfloat16)
        else:
            yield name, torch.randn(shape, dtype=torch.bfloat16) * 0.02


def save_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Write ``tensors`` in files of about SHARD_BYTES, and an index; how many numbers they are."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    count = 0

    def write() -> None:
        file = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        save_file(shard, folder / file)
        weight_map.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, tensor in tensors:
        shard[name] = tensor
        count += tensor.numel()
        if sum(t.nbytes for t in shard.values()) > SHARD_BYTES:
            write()
    write()
    index = {"metadata": {}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)
    return count


@command("paper_size")
def main(config: DictConfig) -> None:
    for name, result in results(PaperSizeConfig(**plain(config))):
        print(name, json.dumps(result))


if __name__ == "__main__":
    main()
