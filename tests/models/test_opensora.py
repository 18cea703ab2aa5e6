"""Our network against what Open-Sora v1.2's own classes computed, and the loading of its files."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cola_env.errors import ColaWorldError
from cola_env.models.pretrained.opensora import load_network
from cola_env.models.pretrained.published_weights import weight_files
from cola_env.models.rectified_flow import NoisedClip, euler_scheduler, shift_factor
from cola_env.models.stdit import STDiT
from cola_env.models.transformer import TemporalContext, rotary_table
from cola_env.models.world_model import ColaWorldModel
from tests import opensora
from tests.opensora import SMALL

SETTINGS = {"residual": False, "fps": 24.0, "input_size": 8, "window": 5}


def no_mask(frames: int) -> TemporalContext:
    """Temporal attention as upstream's, where all frames see each other."""
    return TemporalContext(rotary_table(torch.arange(frames)[None], 16), None)


def network(folder: Path, image_size: float = 256.0) -> STDiT:
    return load_network(folder, SETTINGS, image_size)[0].requires_grad_(False)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_network_and_its_rule_for_clean_frames_equal_upstreams(case, published) -> None:
    cases = load_file(opensora.FOLDER / "stdit3_cases.safetensors")
    given = {
        name.partition(".")[2]: tensor
        for name, tensor in cases.items()
        if name.startswith(f"case{case}.")
    }
    x = given["x"].transpose(1, 2)
    frames = x.shape[1]
    level = given["timestep"][:, None].expand(-1, frames) / 1000
    model = network(published, float(given["height"][0] * given["width"][0]) ** 0.5)
    out, _ = model(x, level, time=no_mask(frames), fps=given["fps"])
    torch.testing.assert_close(out.transpose(1, 2), given["out"].double(), rtol=0, atol=1e-5)
    noised = given["x_mask"].bool()
    out, _ = model(x, level * noised, time=no_mask(frames), fps=given["fps"])
    expected = given["out_x_mask"].double().transpose(1, 2)
    torch.testing.assert_close(out[noised], expected[noised], rtol=0, atol=1e-5)


def test_ten_steps_of_sampling_equal_upstreams(published) -> None:
    cases = load_file(opensora.FOLDER / "stdit3_cases.safetensors")
    stdit, shift = network(published), shift_factor(256, 256, 5)
    torch.testing.assert_close(
        euler_scheduler(10, shift).timesteps.double(), cases["sampler.timesteps"], rtol=0, atol=1e-3
    )
    start = cases["sampler.z"].transpose(1, 2)
    t = torch.tensor([[0.0, 1, 1, 1, 1]]).to(start)

    def velocity(latents: torch.Tensor, level: torch.Tensor, *others: object) -> tuple:
        return stdit(latents, level, time=no_mask(5))[0][:, :, :4], ()

    model = SimpleNamespace(velocity=velocity, clip_context=no_mask)
    clip = NoisedClip(start, t, torch.zeros(1, 5, 1), start)
    out = start + clip.mean_velocity(model, torch.zeros_like(t), 10, shift)
    torch.testing.assert_close(out.transpose(1, 2), cases["sampler.out"].to(out), rtol=0, atol=2e-5)
    assert torch.equal(out[:, 0], start[:, 0])


def test_the_whole_model_starts_as_the_network_without_text(published) -> None:
    torch.manual_seed(0)
    model = ColaWorldModel.from_opensora(published, torch_dtype=torch.float32, **SMALL)
    assert model.config.stdit_config["pred_sigma"] and not model.residual
    cases = load_file(opensora.FOLDER / "stdit3_cases.safetensors")
    x = cases["case0.x"].transpose(1, 2).float()
    level = cases["case0.timestep"].float()[:, None].expand(-1, 5) / 1000
    expected = network(published, 64)(x.double(), level.double(), time=no_mask(5))[0][:, :, :4]
    actions = torch.randn(2, 5, 64)
    found, _ = model.velocity(x, level, actions, x, no_mask(5))
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=2e-5)


def test_with_the_mask_on_no_output_depends_on_a_later_frame(published) -> None:
    torch.manual_seed(0)
    model = ColaWorldModel.from_opensora(published, **SMALL)
    torch.nn.init.normal_(model.conditioner.to_modulation[-1].weight, std=0.1)
    x = torch.randn(1, 5, 4, 8, 8, requires_grad=True)
    level = torch.rand(1, 5, requires_grad=True)
    actions = torch.randn(1, 5, 64, requires_grad=True)
    velocity, _ = model.velocity(x, level, actions, x.detach(), model.clip_context(5))
    for frame in range(5):
        total = velocity[:, frame].square().sum()
        for gradient in torch.autograd.grad(total, (x, level, actions), retain_graph=True):
            assert gradient[:, frame + 1 :].abs().sum() == 0
            seen = gradient[0, : frame + 1].reshape(frame + 1, -1).abs().sum(1)
            assert (seen > 0).all()


def test_the_text_parts_are_dropped_and_everything_else_is_counted(published) -> None:
    _, report = load_network(published, SETTINGS, 256)
    tensors = load_file(published / "model.safetensors")
    text = [name for name in tensors if "cross_attn" in name or "y_embedder" in name]
    dropped = sum(tensors[name].numel() for name in text)
    assert report.dropped == dropped
    assert report.kept + dropped == sum(tensor.numel() for tensor in tensors.values())
    assert f"{report.kept:,} parameters kept" in str(report)


@pytest.mark.parametrize("layout", ["bin", "sharded safetensors", "sharded bin"])
def test_every_published_layout_gives_the_same_network(
    layout, published, save_sharded, tmp_path
) -> None:
    tensors = load_file(published / "model.safetensors")
    shutil.copy(published / "config.json", tmp_path)
    if layout == "bin":
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        save_sharded(tensors, tmp_path, layout.split()[1])
    expected = network(published).state_dict()
    found = network(tmp_path).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_hub_id_is_downloaded(published, monkeypatch) -> None:
    asked = []

    def download(repo_id: str, **options: object) -> str:
        asked.append(repo_id)
        return str(published)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    load_network("someone/stdit3", SETTINGS, 256)
    assert asked == ["someone/stdit3"]


def test_keys_that_do_not_fit_are_named(published, tmp_path) -> None:
    tensors = load_file(published / "model.safetensors")
    shutil.copy(published / "config.json", tmp_path)
    tensors["surprise.weight"] = torch.zeros(2)
    del tensors["t_block.1.bias"]
    tensors["final_layer.linear.bias"] = torch.zeros(3)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ColaWorldError) as error:
        network(tmp_path)
    for part in (
        "missing keys: t_block.1.bias;",
        "unexpected keys: surprise.weight;",
        "other shapes: final_layer.linear.bias (3,) instead of (32,)",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_files_are_named(name, published, tmp_path) -> None:
    shutil.copy(published / "config.json", tmp_path)
    file = tmp_path / name
    if file.suffix == ".bin":
        torch.save(load_file(published / "model.safetensors"), file)
    else:
        shutil.copy(published / name, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ColaWorldError, match=f"{name} is damaged"):
        network(tmp_path)


def test_a_damaged_index_is_named(save_sharded, tmp_path) -> None:
    save_sharded({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path, "safetensors")
    index = tmp_path / "model.safetensors.index.json"
    assert len(weight_files(tmp_path)) == 2
    index.write_text(index.read_text()[:-20])
    with pytest.raises(ColaWorldError, match=f"{index.name} cannot be read"):
        weight_files(tmp_path)
    for damaged in ("[]", "{}", '{"weight_map": {"a": "../elsewhere.safetensors"}}'):
        index.write_text(damaged)
        with pytest.raises(ColaWorldError, match=f"{index.name} (holds no|names no)"):
            weight_files(tmp_path)


def test_a_bin_file_cannot_run_code(published, tmp_path) -> None:
    shutil.copy(published / "config.json", tmp_path)
    torch.save({"x": Path(".")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ColaWorldError, match="damaged"):
        network(tmp_path)


def test_folders_without_what_is_needed(published, save_sharded, tmp_path) -> None:
    with pytest.raises(ColaWorldError, match="neither a folder nor a hub id"):
        network(tmp_path / "nowhere")
    with pytest.raises(ColaWorldError, match="config.json cannot be read"):
        network(tmp_path)
    config = json.loads((published / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ColaWorldError, match="holds no weights"):
        network(tmp_path)
    save_sharded(load_file(published / "model.safetensors"), tmp_path, "safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ColaWorldError, match="lacks model-00002-of-00002.safetensors"):
        network(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"qk_norm": False}))
    with pytest.raises(ColaWorldError, match="qk_norm"):
        network(tmp_path)
