"""The trainer: a killed run ends like an uninterrupted one; phases learn what they should."""

from pathlib import Path

import pytest
import torch

from cola_env.models.world_model import ColaWorldModel
from cola_train.evaluation.controllability import controllability
from cola_train.phases import (
    Adaptation,
    FlowMatching,
    ForwardDynamics,
    Phase,
    Reconstruction,
    Step,
)
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.small import Killed, moving_square, phases, small_model


def train(out: Path, config: TrainerConfig) -> ColaWorldModel:
    clips = moving_square()
    model = small_model()
    Trainer(model, phases(), clips, clips, out, seed=0, config=config).run()
    return model


@pytest.mark.parametrize("kill_at", [2, 6, 9, 14])
def test_a_killed_run_resumes_to_the_same_weights(
    kill_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainerConfig(save_seconds=0, evaluate_every=100)
    expected = train(tmp_path / "whole", config)
    calls = 0

    def count_losses(phase_class: type[Phase]) -> None:
        loss = phase_class.loss

        def counted(self, *args):
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return loss(self, *args)

        monkeypatch.setattr(phase_class, "loss", counted)

    for phase_class in (Reconstruction, FlowMatching, Adaptation):
        count_losses(phase_class)
    with pytest.raises(Killed):
        train(tmp_path / "killed", config)
    resumed = train(tmp_path / "killed", config)
    for name, weight in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name
    loaded = ColaWorldModel.from_pretrained(tmp_path / "killed" / "finetune")
    assert torch.equal(loaded.quantizer.codebook, expected.quantizer.codebook)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_warm_up_freezes_the_world_model_and_teaches_the_latent_actions(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ColaWorldModel, "compile_repeated_blocks", lambda model: None)
    clips = moving_square()
    model = small_model()
    torch.nn.init.normal_(model.stdit.final_layer.linear.weight, std=0.1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    warm_up = FlowMatching(
        "warm_up", 5, ["idm", "conditioner"], batch_size=4, clip=4, actions="latent",
        continuous_steps=5, lr_warmup=1,
    )  # fmt: skip
    config = TrainerConfig(evaluate_every=100, compile=compiled)
    Trainer(model, [warm_up], clips, clips, tmp_path, seed=0, config=config).run()
    changed = {
        name.split(".")[0]
        for name, weight in model.state_dict().items()
        if not torch.equal(weight, before[name])
    }
    assert changed == {"idm", "conditioner"}


def test_a_model_of_real_actions_learns_to_follow_them(tmp_path: Path) -> None:
    clips = moving_square(episodes=64)
    model = small_model(conditioning="direct")
    recipe: list[Phase] = [
        Reconstruction("autoencoder", 120, ["autoencoder"], batch_size=16, lr=3e-3, lr_warmup=10),
        FlowMatching(
            "real_actions", 200, ["stdit", "conditioner", "action_in"], actions="direct", clip=4,
            batch_size=16, lr=3e-3, lr_warmup=10, ema_decay=0.9,
        ),
    ]  # fmt: skip
    config = TrainerConfig(evaluate_every=1000)
    trainer = Trainer(model, recipe, clips, clips, tmp_path, seed=0, config=config)
    trainer.run()
    result = controllability(model, trainer.data.held_out, 4, adapter=False)
    assert result["gap"] > 1.0, result


def test_a_latent_action_model_learns_actions_that_its_fdm_follows(tmp_path: Path) -> None:
    clips = moving_square(episodes=64)
    model = small_model(fdm_config={"hidden_size": 32, "depth": 2, "num_heads": 2})
    phase = ForwardDynamics(
        "latent_action_model", 250, ["idm", "quantizer", "fdm"], clip=4, batch_size=16, lr=3e-3,
        lr_warmup=10, ema_decay=0.9, continuous_steps=150, fit_codes=True, restart_steps=100,
    )  # fmt: skip
    config = TrainerConfig(evaluate_every=1000)
    trainer = Trainer(model, [phase], clips, clips, tmp_path, seed=0, config=config)
    trainer.run()
    result = phase.evaluate(model, trainer.data.held_out, phase.prepare(trainer.data.train))
    assert result["gap"] > 0.2, result
    assert result["lam_max_usage"] < 0.5


def test_a_share_of_the_clips_acts_on_the_adapters_codes(tmp_path: Path) -> None:
    model = small_model().eval()
    batch = moving_square().encode(model).sample(32, 4, torch.Generator().manual_seed(0))
    phase = FlowMatching("finetune", 1, ["stdit"], actions="latent", adapter_share=0.25)
    step = Step(0, torch.Generator().manual_seed(0), phase.prepare(moving_square()))
    with torch.no_grad():
        vectors, *_ = phase.actions_of(model, batch, step)
        own = model.infer_actions(batch.frames).vectors.flatten(-2)
        logits = model.adapter(batch.actions, batch.latents[:, :-1])
        adapted = model.adapter.vectors(logits, model.quantizer.code_vectors).flatten(-2)
    adapters = torch.isclose(vectors, adapted, atol=1e-5).all(-1).all(-1)
    assert 2 <= int(adapters.sum()) <= 16
    torch.testing.assert_close(vectors[~adapters], own[~adapters], rtol=1e-2, atol=1e-2)
