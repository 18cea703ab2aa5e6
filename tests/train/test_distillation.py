"""Distillation: the student's few steps lead where its teacher's many guided ones lead."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_env.models.rectified_flow import NoisedClip
from cola_env.models.world_model import ColaWorldModel
from cola_train import recipes
from cola_train.data.clips import Clips
from cola_train.phases import Distillation, Phase
from cola_train.phases.distillation import teacher_agreement
from cola_train.phases.phase import Prepared
from cola_train.trainer import Trainer, TrainerConfig
from tests.train.small import SMALL, Killed, moving_square, teacher_model

PLAIN = {"stdit_config": SMALL["stdit_config"] | {"residual": False}}
KINDS = {
    "latent": {},
    "direct": {"conditioning": "direct"},
    "latent, plain velocity": PLAIN,
    "direct, plain velocity": PLAIN | {"conditioning": "direct"},
    "shifted levels": PLAIN | {"timestep_shift": True, "guidance_scale": 4.0},
}
QUIET = TrainerConfig(evaluate_every=1000, save_seconds=0)


def distillation(model: ColaWorldModel, name: str, teacher: Path, **kwargs: object) -> Distillation:
    settings = {"steps": 4, "batch_size": 4, "clip": 4, "lr_warmup": 2, "guidance_scale": 2.0}
    settings |= {"actions": model.config.conditioning, "teacher": str(teacher)}
    return Distillation(name=name, learns=["stdit", "conditioner"], **{**settings, **kwargs})


def taught_by(teacher: ColaWorldModel) -> Prepared:
    return Prepared(moving_square(episodes=1), teacher=teacher)


def noised(model: ColaWorldModel, clips: Clips) -> NoisedClip:
    """Frames of two clips at levels of their own, the first one clean."""
    generator = torch.Generator().manual_seed(3)
    batch = clips.encode(model).sample(2, 4, generator)
    t = torch.tensor([[0, 1.0, 0.5, 0.25], [0, 0, 0.75, 1.0]])
    size = model.conditioner.embed.in_features
    vectors = torch.randn(2, 3, size, generator=generator)
    noise = torch.randn(batch.latents.shape, generator=generator)
    return NoisedClip.of(batch.latents, noise, t, vectors)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_target_is_where_the_teachers_guided_steps_lead(kind: str) -> None:
    model, scale = teacher_model(**KINDS[kind]), 3.0
    clip = noised(model, moving_square(episodes=2))
    shift = model.noise_shift(4)

    def levels(u: torch.Tensor) -> torch.Tensor:
        return shift * u / (1 + (shift - 1) * u)

    u = clip.t / (shift - (shift - 1) * clip.t)
    x = clip.latents.clone()
    for _ in range(2):
        now, after = levels(u), levels((u - 0.125).clamp_min(0))
        arguments = clip.previous, model.clip_context(4)
        guided, _ = model.velocity(x, now, clip.actions, *arguments)
        masked = torch.where((clip.t > 0)[..., None], 0.0, clip.actions)
        free, _ = model.velocity(x, now, masked, *arguments)
        v = (1 - scale) * free + scale * guided
        x = x + (now - after)[:, :, None, None, None] * v
        u = (u - 0.125).clamp_min(0)
    phase = distillation(
        model, "distill", Path("none"), from_steps=8, to_steps=4, guidance_scale=scale
    )
    target = phase.target(model, clip, torch.zeros_like(x), taught_by(model))
    reached = clip.latents + (clip.t - levels(u))[:, :, None, None, None] * target
    torch.testing.assert_close(reached, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(reached[:, 0], clip.latents[:, 0])


@torch.no_grad()
def test_without_fewer_steps_the_target_is_the_guided_velocity() -> None:
    model = teacher_model()
    clip = noised(model, moving_square(episodes=2))
    phase = distillation(model, "distill", Path("none"), from_steps=10, to_steps=10)
    target = phase.target(model, clip, torch.zeros_like(clip.latents), taught_by(model))
    moves = clip.t > 0
    expected = clip.velocity(model, 2.0)
    torch.testing.assert_close(target[moves], expected[moves], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_one_step_of_a_sampler_is_the_models_own_prediction() -> None:
    model = teacher_model()
    batch = moving_square().encode(model).sample(2, 4, torch.Generator().manual_seed(0))
    noise, vectors = torch.randn(batch.latents.shape), torch.randn(2, 3, 64)
    expected = model.predict_next(batch.latents, vectors, noise)
    found = model.sampler(1, 1.0).next_frames(batch.latents, vectors, noise)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("levels", ["frame", "clip"])
def test_the_student_learns_where_its_own_steps_begin(levels: str, shifted: bool) -> None:
    model = teacher_model(timestep_shift=shifted)
    phase = distillation(model, "distill", Path("none"), from_steps=4, to_steps=2, levels=levels)
    t = phase.noise_levels(model, 64, 4, torch.Generator().manual_seed(0))
    r = model.noise_shift(4)
    grid = torch.tensor([0, r * 0.5 / (1 + (r - 1) * 0.5), 1.0])
    assert (t[..., None] - grid).abs().amin(-1).max() < 1e-6
    assert {round(float(x), 3) for x in t.unique()} == {round(float(x), 3) for x in grid}
    guidance = distillation(model, "distill", Path("none"), from_steps=4, to_steps=4)
    assert len(guidance.noise_levels(model, 64, 4, torch.Generator()).unique()) > 20


@torch.no_grad()
def test_the_student_learns_at_the_levels_at_which_it_dreams(monkeypatch) -> None:
    """Also where its clips are shorter than its window."""
    wide = {"stdit_config": PLAIN["stdit_config"] | {"window": 12}, "timestep_shift": True}
    model, clips, seen = teacher_model(**wide), moving_square(episodes=2), []
    velocity = ColaWorldModel.velocity

    def spy(self, noised, t, *arguments):
        seen.append(t)
        return velocity(self, noised, t, *arguments)

    def levels() -> set[float]:
        found = {round(float(level), 4) for t in seen for level in t.unique()} - {0.0}
        seen.clear()
        return found

    monkeypatch.setattr(ColaWorldModel, "velocity", spy)
    state = model.begin(clips.frames[:, :2])
    for steps in (1, 2, 4):
        phase = distillation(model, "distill", Path("none"), from_steps=4, to_steps=steps)
        seen.clear()
        model.step(state, clips.actions[:, 0], num_inference_steps=steps)
        dreamt = levels()
        assert len(dreamt) == steps
        vectors, noise = torch.zeros(2, 3, 64), torch.randn(2, 4, 16, 8, 8)
        model.sampler(steps, 1.0).next_frames(noise, vectors, noise)
        assert levels() == dreamt, "measured"
        if steps < 4:
            t = phase.noise_levels(model, 64, 4, torch.Generator().manual_seed(0))
            seen.append(t)
            assert levels() == dreamt, "shown"
    model.step(state, clips.actions[:, 0], num_inference_steps=4)
    teachers = levels()
    t = torch.tensor([[0.0, 1, 1, 1]]).expand(2, 4)
    once = distillation(model, "once", Path("none"), from_steps=4, guidance_scale=1.0)
    once.target(model, NoisedClip.of(noise, noise, t, vectors), noise, taught_by(model))
    assert levels() == teachers, "of the teacher"


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_comes_near_to_its_guided_teacher_in_one_step(kind: str, tmp_path: Path) -> None:
    model, clips = teacher_model(**KINDS[kind]), moving_square()
    model.save_pretrained(tmp_path / "teacher")
    before = ColaWorldModel.from_pretrained(tmp_path / "teacher")
    recipe: list[Phase] = []
    teacher = tmp_path / "teacher"
    for name, many, few, scale in (("two", 4, 2, 2.0), ("one", 2, 1, 1.0)):
        recipe.append(
            distillation(
                model, name, teacher, from_steps=many, to_steps=few, guidance_scale=scale,
                steps=50, batch_size=8, lr=3e-3, ema_decay=0.9,
            )
        )  # fmt: skip
        teacher = tmp_path / name
    trainer = Trainer(model, recipe, clips, clips, tmp_path, seed=0, config=QUIET)
    trainer.run()
    student = ColaWorldModel.from_pretrained(tmp_path / "one")
    assert (student.config.num_inference_steps, student.config.guidance_scale) == (1, 1.0)
    assert ColaWorldModel.from_pretrained(tmp_path / "two").config.num_inference_steps == 2
    after = ColaWorldModel.from_pretrained(tmp_path / "teacher")
    for name, weight in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], weight), name
        if name.split(".")[0] not in ("stdit", "conditioner"):
            assert torch.equal(student.state_dict()[name], weight), name
    found = teacher_agreement(
        student.sampler(1, 1.0), before.sampler(4, 2.0), trainer.data.held_out, 4, count=24
    )
    assert found["to_teacher"] < 0.7 * found["undistilled_to_teacher"], found
    near, far = (imagination_error(model, before) for model in (student, before))
    assert near < 0.97 * far, (near, far)


def imagination_error(model: ColaWorldModel, teacher: ColaWorldModel) -> float:
    """Of a one-step rollout from held-out noise against the teacher's, guided, in four steps."""
    clips = moving_square(episodes=6)
    mode = teacher.action_modes[0]
    frames, actions = clips.frames[:, :2], clips.actions[:, None, 1:4]

    def rollout(of: ColaWorldModel, steps: int, scale: float) -> torch.Tensor:
        state = of.begin(frames, clips.actions[:, :1])
        given = {"num_inference_steps": steps, "guidance_scale": scale, "seed": 7}
        return of.rollout(state, actions, action_mode=mode, **given)

    return float((rollout(model, 1, 1.0) - rollout(teacher, 4, 2.0)).square().mean().sqrt())


@pytest.mark.parametrize("kill_at", [3, 6])
def test_a_killed_distillation_resumes_to_the_same_weights(
    kill_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher_model().save_pretrained(tmp_path / "teacher")

    def train(out: Path) -> ColaWorldModel:
        model, clips = ColaWorldModel.from_pretrained(tmp_path / "teacher"), moving_square()
        recipe: list[Phase] = [
            distillation(model, "two", tmp_path / "teacher", from_steps=4, to_steps=2),
            distillation(model, "one", out / "two", from_steps=2, to_steps=1, adapter_share=0.5),
        ]
        Trainer(model, recipe, clips, clips, out, seed=0, config=QUIET).run()
        return model

    expected = train(tmp_path / "whole")
    loss, calls = Distillation.loss, 0

    def counted(self, *args):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise Killed
        return loss(self, *args)

    monkeypatch.setattr(Distillation, "loss", counted)
    with pytest.raises(Killed):
        train(tmp_path / "killed")
    resumed = train(tmp_path / "killed")
    for name, weight in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name
    assert resumed.config.num_inference_steps == 1


@pytest.mark.parametrize("recipe", ["distill_mini", "distill_paper"])
def test_each_phase_of_the_recipes_has_the_model_before_it_as_its_teacher(recipe: str) -> None:
    folder = str(Path(cli.__file__).parent / "conf")
    with initialize_config_dir(folder, version_base=None):
        config = compose("train", [f"recipe={recipe}", "data=none", "out=runs/d", "init=model"])
    OmegaConf.resolve(config)
    phases = [recipes.make_phase(config, n) for n in recipes.chosen_phases(config)]
    recipes.name_teachers(phases, config)
    before = [f"runs/d/{name}" for name in ("distill_guidance", "distill_4", "distill_2")]
    assert [phase.teacher for phase in phases] == ["model", *before]
    assert [(p.from_steps, p.to_steps) for p in phases] == [(10, 10), (10, 4), (4, 2), (2, 1)]
    assert [p.guidance_scale != 1 for p in phases] == [True, False, False, False]


def test_what_cannot_be_distilled_is_said(tmp_path: Path) -> None:
    model = teacher_model()
    with pytest.raises(ColaWorldError, match="from_steps >= to_steps"):
        distillation(model, "distill", tmp_path, from_steps=2, to_steps=4)
    with pytest.raises(ColaWorldError, match="cannot distil into idm"):
        Distillation("distill", 1, ["idm", "stdit"])
    with pytest.raises(ColaWorldError, match="init=FOLDER"):
        Distillation("distill", 1, ["stdit"]).prepare(moving_square(episodes=1))


def test_a_distillation_is_checked_as_every_phase_is() -> None:
    with pytest.raises(ColaWorldError, match="crop_scale"):
        Distillation(name="one", steps=1, learns=["stdit"], crop_scale=5.0)
