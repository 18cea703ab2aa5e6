"""Half precision, kernels of attention, graphs and processes that share a GPU give what float32 in
one process gives."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend
from torch import Tensor

from cola_env.models.transformer import attend, causal_mask, dispatched_attention
from cola_env.models.world_model import ColaWorldModel
from tests.models.small import SMALL, small_model


def imagined(model: ColaWorldModel, seed: int = 0) -> Tensor:
    """Latents of a rollout on the model's device, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8, generator=generator)
    actions = torch.rand(2, 3, 4, 5, generator=generator) * 2 - 1
    noise = torch.randn(4, 2, 16, 8, 8, generator=generator)
    sampling = {"num_inference_steps": 2, "guidance_scale": 2.0, "decoded": False}
    return model.rollout(model.begin(frames), actions, noise=noise, **sampling).cpu()


def deviation(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_half_precision_imagines_nearly_what_full_precision_does(
    real_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = small_model().to(real_device), []
    for dtype in (None, torch.bfloat16):
        monkeypatch.setattr("cola_env.models.precision.fast_dtype", lambda device, d=dtype: d)
        found.append(imagined(model))
    assert 0 < deviation(found[1], found[0]) < 0.05


@pytest.mark.gpu
@pytest.mark.parametrize("head_dim", [32, 72], ids=["mini", "paper"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "backend", ["native", "_native_math", "_native_efficient", "_native_flash", "_native_cudnn"]
)
def test_every_kernel_of_attention_computes_the_same(
    backend: str, masked: bool, head_dim: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(5, 3, 4, 5, head_dim, generator=generator) for _ in range(3))
    mask = causal_mask(torch.arange(5), torch.arange(5), 3) if masked else None
    expected = attend(q, k, v, mask)
    there = [x.to("cuda", torch.bfloat16) for x in (q, k, v)]
    with attention_backend(backend):
        found = dispatched_attention(*there, None if mask is None else mask.to("cuda"))
    assert deviation(found.float().cpu(), expected) < 0.02


@pytest.mark.gpu
@pytest.mark.compiles
@pytest.mark.parametrize("residual", [True, False])
def test_compiled_blocks_imagine_what_others_do(residual: bool) -> None:
    stdit = SMALL["stdit_config"] | {"residual": residual}
    model = small_model(stdit_config=stdit).to("cuda")
    expected = imagined(model)
    model.compile_repeated_blocks()
    assert deviation(imagined(model), expected) < 0.05


@pytest.mark.gpu
def test_a_captured_graph_of_the_network_computes_what_it_does() -> None:
    model = small_model().to("cuda")
    generator = torch.Generator().manual_seed(0)

    def drawn() -> list[Tensor]:
        latents, previous = (torch.randn(5, 5, 16, 8, 8, generator=generator) for _ in range(2))
        level, actions = torch.rand(5, 5, generator=generator), torch.randn(5, 5, 64)
        return [x.to("cuda") for x in (latents, level, actions, previous)]

    time, inputs, others = model.clip_context(5), drawn(), drawn()
    with torch.no_grad():
        expected = [model.velocity(*given, time)[0] for given in (inputs, others)]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found, _ = model.velocity(*inputs, time)
        graph.replay()
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-4)
        for static, value in zip(inputs, others, strict=True):
            static.copy_(value)
        graph.replay()
        torch.testing.assert_close(found, expected[1], rtol=1e-4, atol=1e-4)


def imagined_there(seed: int) -> Tensor:
    return imagined(small_model().to("cuda"), seed)


@pytest.mark.gpu
def test_two_processes_share_a_gpu() -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        found = list(processes.map(imagined_there, range(2)))
    for seed, latents in enumerate(found):
        torch.testing.assert_close(latents, imagined_there(seed))
