"""The paper's model: its size, and that it is the mini model's code under another config."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard

from benchmarks.gpu_checks.sizes import TINY_PAPER
from cola_env.checkpoints import INDEX
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model
from cola_env.models.rectified_flow import add_noise
from cola_env.models.sizes import PAPER, PAPER_TWO_STAGE
from cola_env.models.transformer import attend, causal_mask, dispatched_attention
from cola_env.models.world_model import ColaWorldModel

SMALL = TINY_PAPER | {"stdit_config": TINY_PAPER["stdit_config"] | {"window": 5}}


def small(**settings: object) -> ColaWorldModel:
    torch.manual_seed(0)
    model = ColaWorldModel(**(SMALL | settings)).eval()
    torch.nn.init.normal_(model.stdit.final_layer.linear.weight, std=0.1)
    torch.nn.init.normal_(model.conditioner.to_modulation[-1].weight, std=0.1)
    return model


def random_frames(count: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, count, 32, 32, 3), dtype=torch.uint8, generator=generator)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_sizes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        model = ColaWorldModel(**PAPER_TWO_STAGE)
    rotary_frequencies = 72 // 2
    assert count(model.stdit) + rotary_frequencies == 904_066_628
    assert abs(count(model.conditioner) / 74e6 - 1) < 0.05
    assert abs(count(model.idm) / 0.12e9 - 1) < 0.05
    assert len(model.stdit.spatial_blocks) + len(model.stdit.temporal_blocks) == 56
    assert len(model.conditioner.blocks) == 6
    assert len(model.fdm.blocks) == 12
    assert model.quantizer.codebook.shape == (1, 32, 32)


def test_the_same_classes_make_the_mini_model() -> None:
    own = "vae", "autoencoder", "adapter"  # mini has others

    def classes(model: ColaWorldModel) -> set[type]:
        parts = [part for name, part in model.named_children() if name not in own]
        return {type(module) for part in parts for module in part.modules()}

    with torch.device("meta"):
        assert classes(ColaWorldModel(**PAPER)) == classes(ColaWorldModel())


def test_every_block_is_modulated_by_the_action() -> None:
    model = small()
    latents = torch.randn(1, 2, 4, 4, 4)
    seen = []
    for block in [*model.stdit.spatial_blocks, *model.stdit.temporal_blocks]:
        block.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1]))
    for actions in (torch.zeros(1, 2, 64), torch.ones(1, 2, 64)):
        model.velocity(latents, torch.ones(1, 2), actions, latents, model.clip_context(2))
    without, with_action = seen[:4], seen[4:]
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(without, with_action, strict=True))
    assert all(torch.equal(a, with_action[0]) for a in with_action)


def test_a_clip_is_predicted_together_around_its_context() -> None:
    model = small()
    codes = torch.randint(0, 32, (2, 3, 2), generator=torch.Generator().manual_seed(1))
    settings = {"action_mode": "latent", "seed": 3}
    frames = model.predict(random_frames(2), codes, **settings)
    assert frames.shape == (2, 3, 32, 32, 3)
    assert frames.dtype == torch.float32 and 0 <= frames.min() and frames.max() <= 1
    assert torch.equal(frames, model.predict(random_frames(2), codes, **settings))
    later = codes.clone()
    later[:, 2] = (later[:, 2] + 1) % 32
    changed = model.predict(random_frames(2), later, **settings)
    torch.testing.assert_close(changed[:, :2], frames[:, :2], rtol=0, atol=0.02)
    assert (changed[:, 2] - frames[:, 2]).abs().max() > 0.02
    assert model.predict(random_frames(1), torch.zeros(2, 3, 5)).shape == (2, 3, 32, 32, 3)


def test_guidance_of_a_clip_moves_away_from_no_action() -> None:
    model = small()
    torch.nn.init.normal_(model.quantizer.codebook)  # as far from no action as trained codes are
    codes = torch.full((2, 2, 2), 7)
    found = {}
    model.decode = lambda latents: latents.float()  # type: ignore[method-assign]
    for scale in (0.0, 1.0, 3.0):
        found[scale] = model.predict(
            random_frames(1),
            codes,
            action_mode="latent",
            seed=0,
            guidance_scale=scale,
            num_inference_steps=1,
        )
    expected = found[0.0] + 3 * (found[1.0] - found[0.0])
    assert (found[1.0] - found[0.0]).abs().max() > 0.15
    torch.testing.assert_close(found[3.0], expected, rtol=0, atol=0.1)


def test_a_model_that_needs_the_frame_before_predicts_frame_by_frame() -> None:
    torch.manual_seed(0)
    model = ColaWorldModel().eval()
    frames = torch.randint(0, 256, (2, 2, 64, 64, 3), dtype=torch.uint8)
    actions = torch.rand(2, 3, 5)
    expected = model.rollout(model.begin(frames), actions[:, None], seed=2)[:, 0]
    assert torch.equal(model.predict(frames, actions, seed=2), expected)


def test_latents_that_stand_for_four_frames_take_four_actions() -> None:
    model = small(vae_config=SMALL["vae_config"] | {"micro_frame_size": 17})
    assert model.conditioner.embed.in_features == 4 * 64
    codes = torch.zeros(1, 8, 2, dtype=torch.long)
    frames = model.predict(random_frames(5, batch=1), codes, action_mode="latent")
    assert frames.shape == (1, 8, 32, 32, 3)
    with pytest.raises(ColaWorldError, match="use predict, or vae_config.micro_frame_size=1"):
        model.begin(random_frames(1))
    for context, horizon in ((5, 32), (5, 6), (4, 9)):
        codes = torch.zeros(1, horizon, 2, dtype=torch.long)
        with pytest.raises(ColaWorldError, match=r"have 4k \+ 1 <= 33 frames, not"):
            model.predict(random_frames(context, batch=1), codes, action_mode="latent")
    with pytest.raises(ColaWorldError, match=r"4k \+ 1 <= 33 frames, not 37"):
        model.decode(torch.zeros(1, 10, 4, 4, 4))


@pytest.mark.parametrize(
    ("part", "mode"), [({"residual": True}, "latent"), ({"frame": True}, "real")]
)
def test_who_sees_the_frame_before_cannot_predict_under_compression(part, mode) -> None:
    component = "adapter_config" if mode == "real" else "stdit_config"
    model = small(
        vae_config=SMALL["vae_config"] | {"micro_frame_size": 17},
        **{component: SMALL[component] | part},
    )
    actions = torch.zeros(1, 4, 5 if mode == "real" else 2)
    with pytest.raises(ColaWorldError, match="sees the clean frame before each frame"):
        model.predict(random_frames(1, batch=1), actions, action_mode=mode)


def test_continuous_actions_stand_where_codes_do() -> None:
    model = small(quantizer_config={"kind": "gaussian", "num_tokens": 1})
    assert model.action_modes == ("latent",)
    actions = model.infer_actions(random_frames(4))
    assert actions.vectors.shape == (2, 3, 1, 32) and actions.codes.shape == (2, 3, 0)
    state = model.begin(random_frames(3))
    after = model.step(state, actions.vectors[:, 0])
    assert after.codes.shape == (2, 0)
    assert model.predict(random_frames(1), actions.vectors).shape == (2, 3, 32, 32, 3)
    with pytest.raises(ColaWorldError, match=r"\(2, H, 1, 32\), not \(2, 3, 1\)"):
        model.predict(random_frames(1), actions.vectors[..., 0])


def gradients(model: ColaWorldModel) -> dict[str, torch.Tensor]:
    """Of the flow matching loss through the latent actions, for every parameter it reaches."""
    generator = torch.Generator().manual_seed(0)
    clip = random_frames(4)
    with torch.no_grad():
        latents = model.encode(clip)
    quantized = model.quantizer(model.action_tokens(clip, latents))
    vectors = quantized.vectors.flatten(-2)
    vectors = torch.cat([torch.zeros_like(vectors[:, :1]), vectors], dim=1)
    noise = torch.randn(latents.shape, generator=generator)
    level = torch.rand(2, 4, generator=generator)
    noised = add_noise(latents, noise, level)
    velocity, _ = model.velocity(noised, level, vectors, latents, model.clip_context(4))
    loss = (velocity - (latents - noise)).square().mean() + quantized.loss
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_recomputing_activations_changes_no_gradient() -> None:
    model = small()
    model.vae.requires_grad_(False)
    expected = gradients(model)
    model.enable_gradient_checkpointing()
    assert model.stdit.gradient_checkpointing and model.idm.gradient_checkpointing
    found = gradients(model)
    model.disable_gradient_checkpointing()
    assert found.keys() == expected.keys()
    assert {name.partition(".")[0] for name in found} == {
        "stdit",
        "conditioner",
        "idm",
        "quantizer",
    }
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_half_precision_weights_learn_and_predict() -> None:
    model = small().to(torch.bfloat16)
    model.vae.requires_grad_(False)
    assert all(bool(g.isfinite().all()) for g in gradients(model).values())
    frames = model.predict(random_frames(1), torch.zeros(2, 2, 2).long(), action_mode="latent")
    assert bool(frames.isfinite().all())


@pytest.mark.parametrize("masked", ["none", "causal", "rows"])
@pytest.mark.parametrize("rows", [(2, 3), pytest.param((5, 1), id="as many rows as frames")])
def test_dispatched_attention_is_the_written_out_one(
    masked: str, rows: tuple[int, int], device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*rows, 4, 5, 8, generator=generator) for _ in range(3))
    mask = None
    if masked != "none":
        mask = causal_mask(torch.arange(5), torch.arange(5), 3)
    if masked == "rows":
        odd = torch.arange(rows[0]).view(-1, 1, 1, 1, 1) % 2 == 1
        mask = mask & odd | torch.eye(5).bool()
    expected = attend(q, k, v, mask)
    found = dispatched_attention(*(x if x is None else x.to(device) for x in (q, k, v, mask)))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


def test_shards_come_back_as_the_same_model(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert (tmp_path / INDEX).exists() and len(shards) > 2
    for loaded in (load_model(tmp_path, "cpu"), ColaWorldModel.from_pretrained(tmp_path)):
        assert loaded.config.stdit_config == model.config.stdit_config
        expected = model.state_dict()
        assert loaded.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[n]) for n, value in loaded.state_dict().items())
        assert torch.equal(loaded.stdit.pos_embed, model.stdit.pos_embed)
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ColaWorldError, match=f"{shards[0].name} are truncated or corrupt"):
        load_model(tmp_path, "cpu")
    shards[0].unlink()
    with pytest.raises(ColaWorldError, match=f"no {shards[0].name}"):
        load_model(tmp_path, "cpu")


def test_weights_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["fdm_config"] = {"hidden_size": 32, "depth": 1, "num_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ColaWorldError, match="missing or unexpected: fdm.action_in.bias"):
        load_model(tmp_path, "cpu")


def test_what_goes_to_the_hub_is_what_comes_back(tmp_path: Path, monkeypatch) -> None:
    def upload(folder_path: str, **options: object) -> None:
        for file in Path(folder_path).iterdir():
            shutil.copy(file, tmp_path)

    hub = "diffusers.utils.hub_utils"
    monkeypatch.setattr(f"{hub}.create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(f"{hub}.upload_folder", upload)
    monkeypatch.setattr(f"{hub}.load_or_create_model_card", lambda *_, **__: ModelCard("A model."))
    model = small()
    model.push_to_hub("someone/colaworld-paper")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path))
    loaded = load_model("someone/colaworld-paper", "cpu")
    expected = model.state_dict()
    assert all(torch.equal(value, expected[n]) for n, value in loaded.state_dict().items())


def test_it_computes_the_same_on_every_device(device: torch.device) -> None:
    model, latents = small(), torch.randn(2, 4, 4, 4, 4)
    actions, level = torch.randn(2, 4, 64), torch.rand(2, 4)
    with torch.no_grad():
        expected, _ = model.velocity(latents, level, actions, latents, model.clip_context(4))
        model.to(device)
        inputs = (x.to(device) for x in (latents, level, actions, latents))
        found, _ = model.velocity(*inputs, model.clip_context(4))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_a_clip_is_predicted_on_every_device(device: torch.device) -> None:
    model = small().to(device)
    codes = torch.randint(0, 32, (2, 3, 2), generator=torch.Generator().manual_seed(1))
    frames = model.predict(random_frames(2), codes, action_mode="latent", seed=3)
    assert frames.device.type == device.type and frames.shape == (2, 3, 32, 32, 3)
    assert bool(frames.isfinite().all()) and float(frames.std()) > 0
