"""The paper's recipes run as they stand, on small sizes of the paper's config."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_env.models.sizes import PAPER
from cola_env.models.world_model import ColaWorldModel
from cola_train import recipes
from cola_train.phases import FlowMatching, Step
from cola_train.phases.phase import LatentActionPhase
from cola_train.preconditions import check_clips
from tests.train.paper_runs import TINY_FDM, paper_settings, tiny_sources
from tests.train.small import moving_square, small_model


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "DataSources", lambda *_: tiny_sources())


@pytest.mark.parametrize(
    ("recipe", "model", "reading"),
    [("joint_paper", {}, "adapter"), ("two_stage_paper", TINY_FDM, "world_model")],
)
def test_every_phase_of_the_papers_recipes_trains_and_leaves_a_model(
    recipe: str,
    model: dict[str, object],
    reading: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, run_phase, cached = tmp_path / "latents", cli.Trainer._run_phase, {}

    def spy(self, phase, saved):
        cached[phase.name] = cache.exists()
        run_phase(self, phase, saved)

    monkeypatch.setattr(cli.Trainer, "_run_phase", spy)
    config = paper_settings(recipe, tmp_path / "run", f"trainer.latent_cache={cache}", **model)
    cli.train(config)
    phases = [ColaWorldModel.from_pretrained(tmp_path / "run" / name) for name in config.order]
    for before, after, name in zip(phases, phases[1:], config.order[1:], strict=False):
        changed = {
            key.partition(".")[0]
            for key, value in after.state_dict().items()
            if not torch.equal(value, before.state_dict()[key])
        }
        assert changed and changed <= set(config.phases[name].learns), name
    first = config.order.index(reading)
    assert list(cached.values()) == [i >= first for i in range(len(config.order))], cached
    assert len(list(cache.glob("*.npy"))) == 1, "train and held-out clips are the same here"


@pytest.mark.parametrize("recipe", ["joint_paper", "two_stage_paper"])
def test_clips_are_cropped_wherever_the_idm_learns_and_nowhere_else(
    recipe: str, tmp_path: Path
) -> None:
    config = paper_settings(recipe, tmp_path)
    for phase in (recipes.make_phase(config, name) for name in config.order):
        cropped = isinstance(phase, LatentActionPhase) and phase.crop_scale < 1
        assert cropped == ("idm" in phase.learns), phase.name


def test_the_papers_sampler_is_distilled_into_one_step(tmp_path: Path) -> None:
    config = paper_settings("distill_paper", tmp_path / "run", f"init={tmp_path / 'teacher'}")
    sizes = OmegaConf.to_container(OmegaConf.merge(PAPER, config.model))
    ColaWorldModel(**sizes, rendering="fast").save_pretrained(tmp_path / "teacher")
    cli.train(config)
    found = [ColaWorldModel.from_pretrained(tmp_path / "run" / name) for name in config.order]
    assert [model.config.num_inference_steps for model in found] == [10, 4, 2, 1]
    assert {model.config.guidance_scale for model in found} == {1.0}


def test_continuous_latent_actions_train_without_codes(tmp_path: Path) -> None:
    config = paper_settings(
        "joint_paper", tmp_path / "run", "order=[warm_up]", quantizer_config={"kind": "gaussian"}
    )
    cli.train(config)
    lines = (tmp_path / "run" / "history.jsonl").read_text()
    assert '"gap"' in lines and "max_usage" not in lines


def test_continuous_latent_actions_of_a_frozen_idm_are_not_drawn() -> None:
    model = small_model(quantizer_config={"kind": "gaussian", "num_tokens": 1})
    model.requires_grad_(True)  # as the compiled trainer has it
    phase = FlowMatching("finetune", 2, ["stdit"], actions="latent")
    batch = moving_square().sample(2, 4, torch.Generator().manual_seed(0)).encoded(model)
    step = Step(0, torch.Generator(), phase.prepare(moving_square()))
    vectors = [phase.latent_actions(model, batch, step)[0] for _ in range(2)]
    assert torch.equal(*vectors)
    phase.learns = ["idm"]
    assert not torch.equal(*[phase.latent_actions(model, batch, step)[0] for _ in range(2)])


def test_open_soras_noise_levels_are_one_a_clip(tmp_path: Path, monkeypatch) -> None:
    import cola_train.phases.flow_matching as flow

    seen = []
    sample = flow.sample_clip_levels

    def spy(*arguments):
        seen.append(sample(*arguments))
        return seen[-1]

    monkeypatch.setattr(flow, "sample_clip_levels", spy)
    cli.train(paper_settings("joint_paper", tmp_path / "run", "order=[warm_up]"))
    assert len(seen) == 2
    for levels in seen:
        for clip in levels:
            assert len(set(clip[clip > 0].tolist())) == 1


def test_an_unknown_size_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ColaWorldError, match="size must be one of mini, pixels, small, paper, paper_two"
    ):
        cli.train(paper_settings("joint_paper", tmp_path, "size=huge"))


def test_clips_are_as_long_as_the_window_of_the_dreams() -> None:
    model = SimpleNamespace(
        config=SimpleNamespace(timestep_shift=True), window=8, frames_per_latent=1
    )
    assert PAPER["stdit_config"]["window"] == 8
    check_clips([FlowMatching(name="flow", steps=1, learns=["stdit"])], model)
    with pytest.raises(ColaWorldError, match=r"phases\.flow\.clip=6 .* window of 8"):
        check_clips([FlowMatching(name="flow", steps=1, learns=["stdit"], clip=6)], model)


class GivenErrors(FlowMatching):
    """Of two clips of three frames the first has one noised frame, the second two."""

    def noise_levels(self, model, batch, frames, generator):
        return torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])

    def target(self, model, clip, straight, prepared):
        """What leaves a squared error of 4 in the first clip and of 2 in the second."""
        return clip.velocity(model) - torch.tensor([4.0, 2.0]).sqrt()[:, None, None, None, None]


@pytest.mark.parametrize(("levels", "loss"), [("clip", (4 + 2) / 2), ("frame", (4 + 2 + 2) / 3)])
def test_the_loss_is_averaged_over_clips_first_as_open_sora_does_or_over_frames(
    levels: str, loss: float
) -> None:
    model = small_model()
    phase = GivenErrors("flow", 1, ["stdit"], clip=3, levels=levels, motion_weight=0.0)
    batch = moving_square().sample(2, 3, torch.Generator().manual_seed(0)).encoded(model)
    step = Step(0, torch.Generator().manual_seed(0), phase.prepare(moving_square()))
    made = phase.loss(model, batch, step)
    assert float(made.value.detach()) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("recipe", ["joint_paper", "two_stage_paper"])
def test_the_papers_phases_train_at_one_level_a_clip(recipe: str, tmp_path: Path) -> None:
    config = paper_settings(recipe, tmp_path)
    phases = [recipes.make_phase(config, name) for name in config.order]
    assert {phase.levels for phase in phases if isinstance(phase, FlowMatching)} == {"clip"}
