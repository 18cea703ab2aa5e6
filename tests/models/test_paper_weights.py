"""The random weights of `benchmarks/paper_size.py` are in the layout that the loaders read."""

from dataclasses import replace

import pytest
import torch

from benchmarks.paper_size import Settings
from benchmarks.paper_weights import publish_network, publish_vae
from cola_env.errors import ColaWorldError
from cola_env.models.opensora import load_network, load_vae
from cola_env.models.sizes import PAPER
from cola_env.models.stdit import STDiTConfig
from cola_env.models.vae import VAEConfig

NETWORK = replace(
    STDiTConfig(**PAPER["stdit_config"]), hidden_size=32, depth=1, num_heads=2, input_size=8
)
VAE = VAEConfig(
    spatial={"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2},
    temporal={"filters": 4, "num_res_blocks": 1, "num_groups": 2},
)


def test_what_is_written_is_what_is_loaded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.paper_weights.SHARD_BYTES", 20_000)
    torch.manual_seed(0)
    count = publish_network(tmp_path / "network", NETWORK, captions=(4, 16))
    network, report = load_network(tmp_path / "network", {"residual": False, "fps": 24.0}, 256)
    assert report.kept + report.dropped == count
    assert report.kept == sum(p.numel() for p in network.parameters()) + 8
    assert len(list((tmp_path / "network").glob("*.safetensors"))) > 2
    assert all(p.dtype == torch.bfloat16 for p in network.parameters())
    count = publish_vae(tmp_path / "vae", VAE)
    vae = load_vae(tmp_path / "vae", VAE)
    assert sum(p.numel() for p in vae.parameters()) + 8 == count


def test_unknown_settings_are_named() -> None:
    assert Settings.of(["depth=2", "compile=true"]) == Settings(depth=2, compile=True)
    with pytest.raises(ColaWorldError, match="Unknown dept: there are parts, depth"):
        Settings.of(["dept=2"])
    with pytest.raises(ColaWorldError, match="Unknown dance"):
        Settings.of(["parts=load,dance"])
