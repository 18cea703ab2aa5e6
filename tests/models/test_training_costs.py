"""What a training is said to cost, against one that runs."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from cola_env.errors import ColaWorldError
from cola_env.models.sizes import MODEL_SIZES
from cola_env.models.world_model import ColaWorldModel
from cola_train.__main__ import make_phase
from cola_train.data.clips import Clips, encode
from cola_train.describe import (
    disk_table,
    duration,
    main,
    memory_verdict,
    training_settings,
    training_table,
)
from cola_train.meter import MetaKernels, Meter
from cola_train.phases import Phase, Step
from cola_train.training_costs import (
    FrameCost,
    Hardware,
    MemoryParts,
    PhaseCost,
    frame_cost,
    meta_model,
    phase_costs,
    size_of,
    tensors,
)
from tests.train.small import SMALL

FULL = Hardware(tflops=1e-12, share=1.0, launch_us=0.0, half=False)
"""One operation a second."""


def small_training(*changed: str, **model: object) -> DictConfig:
    config = training_settings("joint_mini", " ".join(changed))
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(config.model, SMALL, model)
    for name in config.order:
        config.phases[name].update(steps=4, batch_size=4, clip=4, measured_clips=8)
    config.phases.warm_up.update(continuous_steps=1)
    return config


def test_a_meter_counts_products_launches_and_what_is_held() -> None:
    x, w = torch.empty(4, 8, device="meta"), torch.empty(8, 16, device="meta")
    with Meter() as meter:
        product = (x @ w).relu()
        product.view(-1).mul_(2)
    assert meter.flops == 2 * 4 * 8 * 16
    assert meter.launches == 3
    assert (meter.held, meter.peak) == (4 * 16 * 4, 2 * 4 * 16 * 4)
    del product
    assert meter.held == 0


def test_half_precision_on_the_meta_device_is_that_of_autocast() -> None:
    layer, norm = torch.nn.Linear(8, 8, device="meta"), torch.nn.LayerNorm(8, device="meta")
    x = torch.empty(2, 8, device="meta")
    with MetaKernels(half=True):
        assert layer(x).dtype == torch.bfloat16
        assert norm(layer(x)).dtype == torch.float32
    with MetaKernels(half=False):
        assert layer(x).dtype == torch.float32


class Computed:
    """One step of a phase on real tensors: its operations, and bytes at the most.

    half: under the autocast of CPUs.
    """

    def __init__(self, model: ColaWorldModel, phase: Phase, half: bool) -> None:
        model.requires_grad_(False)
        for part in phase.components(model).values():
            part.requires_grad_(True)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (1, phase.clip, 64, 64, 3), dtype=torch.uint8)
        latents = encode(model, frames[0])[None].half()
        clips = Clips(frames, torch.zeros(1, phase.clip - 1, 5), latents)
        prepared = phase.prepare(clips)

        def step() -> None:
            batch = phase.draw(clips, generator, phase.batch_size)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = phase.loss(model, batch, Step(3, generator, prepared)).value
            loss.backward()

        with FlopCounterMode(display=False) as counter:
            step()
        self.flops = counter.get_total_flops()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            step()
        changes = [
            (event.start_ns(), event.nbytes())
            for event in seen.profiler.kineto_results.events()
            if event.name() == "[memory]"
        ]
        held = torch.tensor([size for _, size in sorted(changes)]).cumsum(0)
        self.peak = int(held.max())


@pytest.mark.parametrize(("recomputed", "half"), [(False, False), (True, False), (True, True)])
def test_operations_and_activations_are_those_of_a_step_that_is_computed(
    recomputed: bool, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cola_env.models.precision.fast_dtype", lambda device: None)
    monkeypatch.setattr("cola_train.meter.SINGLE", set())  # CPUs keep norms in bfloat16
    config = small_training(f"trainer.checkpoint_activations={recomputed}")
    costs = phase_costs(config, Hardware(half=half), latents_kept=True)
    settings = OmegaConf.to_container(OmegaConf.merge(MODEL_SIZES["mini"], config.model))
    model = ColaWorldModel(**settings)
    if recomputed:
        model.enable_gradient_checkpointing()
    for name in ("autoencoder", "warm_up", "end_to_end", "finetune"):
        found = Computed(model, make_phase(config, name), half)
        assert costs[name].flops == pytest.approx(found.flops, rel=0.01), name
        assert costs[name].memory.activations == pytest.approx(found.peak, rel=0.2), name


def test_a_frozen_network_costs_less_and_a_recomputed_one_another_forward_pass() -> None:
    costs = phase_costs(small_training(), FULL, latents_kept=True)
    again = small_training("trainer.checkpoint_activations=true")
    recomputed = phase_costs(again, FULL, latents_kept=True)
    learned, kept = costs["end_to_end"], recomputed["end_to_end"]
    assert costs["warm_up"].flops < learned.flops < kept.flops < 4 / 3 * learned.flops
    assert kept.memory.activations < learned.memory.activations


def test_weights_and_what_is_kept_beside_them_are_counted_exactly() -> None:
    config = small_training()
    costs, model = phase_costs(config, FULL, latents_kept=True), meta_model(config)
    learned = sum(p.numel() for p in model.adapter.parameters())
    memory = costs["adapter"].memory
    assert memory.weights == size_of(tensors(model))
    assert (memory.gradients, memory.optimizer, memory.average) == tuple(
        4 * learned * times for times in (1, 2, 1)
    )
    assert memory.total == sum(vars(memory).values())
    assert costs["adapter"].checkpoint == memory.weights + 3 * 4 * learned


def test_batches_are_shared_by_devices_and_cut_by_accumulation() -> None:
    one = phase_costs(small_training(), FULL, latents_kept=True)["end_to_end"]
    config = small_training("trainer.accumulation=2")
    cut = phase_costs(config, FULL, latents_kept=True)["end_to_end"]
    assert cut.flops == pytest.approx(one.flops, rel=0.01)
    assert cut.memory.activations < 0.6 * one.memory.activations
    with pytest.raises(ColaWorldError, match="cannot be cut into 3 .processes. x 1"):
        phase_costs(small_training(), Hardware(devices=3), latents_kept=True)


def test_latents_that_are_not_kept_are_made_for_every_batch() -> None:
    kept, made = (phase_costs(small_training(), FULL, latents_kept=k) for k in (True, False))
    encoding = frame_cost(meta_model(small_training())).flops * 4 * 4
    assert made["pretrain"].flops - kept["pretrain"].flops == pytest.approx(encoding, rel=0.01)
    assert made["autoencoder"] == kept["autoencoder"]


def test_a_frame_of_the_papers_latents_takes_8192_bytes() -> None:
    config = training_settings("joint_paper", "")
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(
        config.model, {"vae_config": {"spatial": {"block_out_channels": [32, 32, 32, 32]}}}
    )
    frame = frame_cost(meta_model(config))
    assert (frame.latents, frame.pixels) == (4 * 32 * 32 * 2, 256 * 256 * 3)


def test_a_distillation_is_counted_with_its_teacher() -> None:
    config = training_settings("distill_mini", "")
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(config.model, SMALL)
    for name in config.order:
        config.phases[name].update(batch_size=2, clip=4)
    costs = phase_costs(config, FULL, latents_kept=True)
    student = size_of(tensors(meta_model(config)))
    assert all(cost.memory.weights > student for cost in costs.values())
    assert costs["distill_4"].flops > costs["distill_1"].flops


COST = PhaseCost(
    steps=1000,
    batch_size=16,
    flops=10**12,
    launches=100,
    memory=MemoryParts(*[2**30] * 5),
    checkpoint=10**9,
)


def test_a_step_takes_as_long_as_it_computes_or_launches() -> None:
    assert COST.seconds(Hardware(tflops=1.0, share=0.5)) == pytest.approx(2000)
    assert COST.seconds(Hardware(tflops=1e6, share=1.0, launch_us=20)) == pytest.approx(2)


def test_the_table_adds_up_days_and_tells_what_does_not_fit() -> None:
    hardware = Hardware(tflops=1.0, share=0.5, devices=2)
    lines = training_table({"a": COST, "b": COST}, hardware, encoding=200.0).splitlines()
    assert lines[-1] == "All: 0.004 EFLOP, 0.0486 days (70.0 minutes)."
    assert lines[2].split()[:6] == ["a", "1,000", "16", "2,000.0", "33.3", "minutes"]
    assert "5.0 GiB of 24 at the most, in a" in memory_verdict({"a": COST}, 24)
    assert "a needs 5.0 GiB, more than memory_gb=4: raise" in memory_verdict({"a": COST}, 4)
    disk = disk_table(FrameCost(300, 80, 0), 10**9, 8.0, 10**9, kept=2)
    assert [line.split()[0] for line in disk.splitlines()[1:]] == ["100.00", "80.00", "2.00"]
    assert [duration(s) for s in (59, 7200, 86400 * 3)] == ["59 seconds", "2.0 hours", "3.0 days"]


def test_hardware_that_cannot_be_is_told() -> None:
    with pytest.raises(ColaWorldError, match="share=1.5 above 0 and at most 1"):
        Hardware(share=1.5)


def test_a_setting_of_the_training_that_there_is_not_is_told() -> None:
    with pytest.raises(ColaWorldError, match="training: There is no setting trainer.acumulation"):
        training_settings("joint_mini", "trainer.acumulation=4")


def test_the_command_tells_of_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "order=[adapter] phases.adapter.batch_size=2 phases.adapter.steps=10"
    given = ["recipe=joint_mini", f"training={small}", f"out={tmp_path / 'costs.json'}"]
    monkeypatch.setattr("sys.argv", ["cola", *given])
    main()
    assert capsys.readouterr().out.startswith("joint_mini: 8,132,796 parameters")
    assert '"adapter"' in (tmp_path / "costs.json").read_text()
    monkeypatch.setattr("sys.argv", ["cola", "recipe=joint_mini", "model=paper"])
    with pytest.raises(SystemExit, match="do not fit each other: .* `model`"):
        main()


def test_small_is_for_frames_of_128_pixels_in_64_tokens() -> None:
    model = meta_model(training_settings("joint_small", ""))
    assert model.config.image_size == 128
    assert model.stdit.pos_embed.shape[0] == 64
    assert model.idm.pos_embed.shape[-2] == 64
    assert 27e6 < sum(parameter.numel() for parameter in model.parameters()) < 36e6
