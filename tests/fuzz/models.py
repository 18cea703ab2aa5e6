"""The world model itself: frames, actions and settings of its public methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st

from tests.fuzz.environments import CODES, PIXELS, model
from tests.fuzz.judge import Refused, call, check, check_finite
from tests.fuzz.values import Numbers, mostly, numbers, odd_counts, odd_numbers, seeds

DIMS = 5
IMAGE = (PIXELS, PIXELS, 3)


@dataclass(frozen=True)
class Question:
    """A method of the "latent" or "direct" model, and what it is given."""

    model: str
    method: str
    worlds: int
    frames: Numbers
    actions: Numbers
    settings: dict[str, Any]


settings = st.fixed_dictionaries(
    {"num_inference_steps": mostly(st.just(1), odd_counts, 8)},
    optional={
        "guidance_scale": mostly(st.sampled_from([None, 1.0, 2.0]), odd_numbers, 3),
        "action_mode": mostly(st.none(), st.sampled_from(["real", "latent", "direct", "odd"])),
        "seed": mostly(seeds, odd_numbers, 8),
    },
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    method = draw(
        st.sampled_from(["step", "rollout", "predict", "encode", "infer_actions", "begin"])
    )
    worlds = draw(st.integers(1, 2))
    context = 2 if method in ("infer_actions", "begin") else 1
    axes = {"step": (worlds,), "rollout": (worlds, 2, 2), "predict": (worlds, 2)}
    leading = axes.get(method, (worlds, 1))
    given = draw(settings)
    if method == "step":
        given.pop("seed", None)
    codes = given.get("action_mode") == "latent"
    right = ((*leading, CODES), ("int64",)) if codes else ((*leading, DIMS), ("float32",))
    return Question(
        draw(st.sampled_from(["latent", "direct"])),
        method,
        worlds,
        draw(numbers((worlds, context, *IMAGE), ("uint8", "float32"))),
        draw(numbers(*right)),
        given,
    )


inputs = questions()


def as_tensor(values: Numbers) -> torch.Tensor:
    """A model takes tensors; what torch has no type for becomes zeros."""
    made = replace(values, form="tensor").make()
    return made if isinstance(made, torch.Tensor) else torch.zeros(values.shape)


def attempt(question: Question) -> bool:
    """Whether the method answered."""
    world = model(question.model, DIMS)
    frames = as_tensor(question.frames)
    actions = as_tensor(question.actions)
    if question.method in ("encode", "infer_actions"):
        if question.method == "infer_actions" and question.model == "direct":
            return False
        answer = call(getattr(world, question.method), frames)
    elif question.method == "begin":
        answer = call(world.begin, frames, actions if question.model == "direct" else None)
    elif question.method == "predict":
        answer = call(world.predict, frames, actions, **question.settings)
    else:
        state = world.begin(torch.zeros((question.worlds, 1, *IMAGE), dtype=torch.uint8))
        answer = call(getattr(world, question.method), state, actions, **question.settings)
    if isinstance(answer, Refused):
        return False
    if isinstance(answer, torch.Tensor) and question.method in ("rollout", "predict"):
        inside = bool(((answer >= 0) & (answer <= 1)).all()) or answer.dtype == torch.uint8
        check(inside, "frames beyond [0, 1]")
    for name in ("latents", "vectors", "codes"):
        check_finite(getattr(answer, name, None), f"{question.method}: {name}")
    check_finite(answer, f"what {question.method} returns")
    return True
