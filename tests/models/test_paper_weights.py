"""The measurement paper_size: its random weights are in the layout that the loaders read, and its
numbers are of the settings and the machine that they are said to be of."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.measurements import paper_size
from benchmarks.measurements.paper_size import PaperSizeConfig, publish_network, publish_vae
from cola_env.models.autoencoders.vae import VAEConfig
from cola_env.models.pretrained.opensora import load_network, load_vae
from cola_env.models.sizes import PAPER
from cola_env.models.stdit import STDiTConfig

NETWORK = replace(
    STDiTConfig(**PAPER["stdit_config"]), hidden_size=32, depth=1, num_heads=2, input_size=8
)
VAE = VAEConfig(
    spatial={"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2},
    temporal={"filters": 4, "num_res_blocks": 1, "num_groups": 2},
)


def test_what_is_written_is_what_is_loaded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.measurements.paper_size.SHARD_BYTES", 20_000)
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


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["paper_size.py", *arguments])
    paper_size.main()


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("dept=2", "There is no setting dept: did you mean depth?"),
        ("parts=[load,dance]", "no part dance"),
        ("parts=load,train", "several values"),
    ],
)
def test_unknown_settings_are_named(monkeypatch, argument: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        main(monkeypatch, argument)


def test_a_part_is_measured_again_under_other_settings_or_on_another_machine(
    tmp_path, monkeypatch
) -> None:
    ran = []
    here = {"processor": "this one"}

    def run_part(name: str, settings: PaperSizeConfig) -> dict[str, int]:
        ran.append(name)
        return {"seconds": len(ran)}

    monkeypatch.setattr(paper_size, "run_part", run_part)
    monkeypatch.setattr(paper_size, "publish", lambda settings: None)
    monkeypatch.setattr(paper_size, "matmul_peak", lambda device: 2e12)
    monkeypatch.setattr(paper_size, "machine", lambda device: dict(here))
    out = tmp_path / "out.json"

    def measured(*arguments: str) -> dict:
        main(monkeypatch, f"out={out}", "depth=2", "device=cpu", *arguments)
        return json.loads(out.read_text())["depths"]["2"]

    measured()
    assert measured("parts=[train,load]")["train"]["seconds"] == 2, "it is there already"
    assert measured("parts=[train]", "frames=16")["train"]["settings"]["frames"] == 16
    assert measured("parts=[train]", "frames=16", "compile=true")["train"]["seconds"] == 5
    here["processor"] = "another"
    found = measured("parts=[load]")
    assert [found[part]["machine"]["processor"] for part in ("load", "predict")] == [
        "another",
        "this one",
    ]
    assert ran == ["load", "train", "predict", "train", "train", "load"]
