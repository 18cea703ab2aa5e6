"""Open-Sora's VAE: parity of its temporal part, published layout, time and actions."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.temporal_vae import TemporalVAE, TemporalVAEConfig
from cola_env.models.autoencoders.vae import OpenSoraVAE, VAEConfig, group_actions
from cola_env.models.pretrained.opensora import load_vae
from tests import opensora

TINY = {
    "spatial": {
        "block_out_channels": (4, 4, 4, 4),
        "layers_per_block": 1,
        "norm_num_groups": 2,
    },
    "temporal": {"filters": 4, "num_res_blocks": 1, "num_groups": 2},
}


def tiny(micro_frame_size: int) -> OpenSoraVAE:
    torch.manual_seed(0)
    return OpenSoraVAE(VAEConfig(micro_frame_size, **TINY)).requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_the_temporal_vae_equals_upstreams(frames) -> None:
    vae = TemporalVAE(TemporalVAEConfig(filters=8, num_res_blocks=1, num_groups=4))
    vae.load_state_dict(opensora.vae_temporal_weights())
    cases = load_file(opensora.FOLDER / "vae_temporal_cases.safetensors")
    x, mean, logvar, decoded = (
        cases[f"frames{frames}.{name}"] for name in ("x", "mean", "logvar", "decoded")
    )
    with torch.no_grad():
        posterior = vae.encode(x)
        torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(posterior.logvar, logvar, rtol=0, atol=1e-5)
        torch.testing.assert_close(vae.decode(mean, frames), decoded, rtol=0, atol=1e-5)


def test_the_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        vae = OpenSoraVAE(VAEConfig())
    assert sum(p.numel() for p in vae.spatial_vae.parameters()) == 83_653_863
    assert sum(p.numel() for p in vae.temporal_vae.parameters()) == 309_687_144


def test_a_latent_is_shifted_and_scaled_by_the_published_constants() -> None:
    vae, frames = tiny(1), torch.rand(2, 3, 16, 16)
    posterior = vae.spatial_vae.encode(2 * frames - 1).latent_dist
    z = vae.temporal_vae.encode(0.18215 * posterior.mean[:, :, None]).mean[:, :, 0]
    latents = vae.encode(frames)
    for i, (shift, scale) in enumerate(
        zip((-0.10, 0.34, 0.27, 0.98), (3.85, 2.32, 2.33, 3.06), strict=True)
    ):
        torch.testing.assert_close(latents[:, i], (z[:, i] - shift) / scale)
    undone = latents * torch.tensor([3.85, 2.32, 2.33, 3.06])[:, None, None]
    undone = undone + torch.tensor([-0.10, 0.34, 0.27, 0.98])[:, None, None]
    images = vae.spatial_vae.decode(
        vae.temporal_vae.decode(undone[:, :, None], 1)[:, :, 0] / 0.18215
    )
    torch.testing.assert_close(vae.decode(latents), (images.sample + 1) / 2)


def test_frame_by_frame_no_latent_sees_another_frame_and_chunked_they_do() -> None:
    clip = torch.rand(1, 3, 5, 16, 16)
    changed = clip.clone()
    changed[:, :, 4] = 0
    single, chunked = tiny(1), tiny(17)
    assert single.encode_clip(clip).shape == (1, 4, 5, 2, 2)
    torch.testing.assert_close(
        single.encode_clip(clip)[:, :, :4], single.encode_clip(changed)[:, :, :4], rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        single.encode_clip(clip).transpose(1, 2)[0], single.encode(clip[0].transpose(0, 1))
    )
    latents = chunked.encode_clip(clip)
    assert latents.shape == (1, 4, 2, 2, 2)
    assert (latents[:, :, 0] - chunked.encode_clip(changed)[:, :, 0]).abs().max() > 1e-4


@pytest.mark.parametrize("frames", [1, 5, 17, 33])
def test_time_is_compressed_by_four_behind_the_first_frame(frames) -> None:
    vae = tiny(17)
    latents = vae.encode_clip(torch.rand(1, 3, frames, 8, 8))
    assert latents.shape[2] == (frames - 1) // 4 + 1
    assert vae.decode_clip(latents, frames).shape == (1, 3, frames, 8, 8)
    actions = torch.arange(frames - 1.0)[None, :, None]
    grouped = group_actions(actions, 4)
    assert grouped.shape == (1, (frames - 1) // 4, 4)
    for i, group in enumerate(grouped[0].tolist(), start=1):
        assert group == [4 * i - 4, 4 * i - 3, 4 * i - 2, 4 * i - 1]


def test_the_published_layout_is_read(tmp_path) -> None:
    vae = tiny(1)
    tensors = {
        name.replace("spatial_vae.", "spatial_vae.module."): tensor
        for name, tensor in vae.state_dict().items()
    }
    tensors["shift"] = torch.tensor([-0.10, 0.34, 0.27, 0.98])[None, :, None, None, None]
    tensors["scale"] = torch.tensor([3.85, 2.32, 2.33, 3.06])[None, :, None, None, None]
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load_vae(tmp_path, VAEConfig(1, **TINY))
    expected = vae.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    save_file(tensors | {"scale": torch.ones(1, 4, 1, 1, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(ColaWorldError, match="another scale"):
        load_vae(tmp_path, VAEConfig(1, **TINY))


def test_clips_that_give_no_whole_latents_are_refused() -> None:
    with pytest.raises(ColaWorldError, match="4k \\+ 1 <= 33 frames, not 6"):
        tiny(17).encode_clip(torch.rand(1, 3, 6, 8, 8))
    with pytest.raises(ColaWorldError, match="has 4k \\+ 1 frames, not 7"):
        group_actions(torch.zeros(1, 6, 2), 4)
    with pytest.raises(ColaWorldError, match="micro_frame_size must be 1 or 17"):
        tiny(4)
