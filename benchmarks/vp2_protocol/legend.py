"""What the words on a run's page mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.vp2_protocol.comparison import Row, method_of
from benchmarks.vp2_protocol.records import NO_PLANNER

MODELS = {
    "cola": "the shipped model on latent actions, which it learned from video together with the "
    "world model; an adapter turns a real action into latent ones",
    "direct": "the shipped model on real actions, without latent ones: the reference",
    "simulator": "plans in the real simulator itself, with fewer samples than the models",
    "copy": "imagines that nothing moves: what a model must beat",
    "random": "smooth random actions, without a model and a planner",
}
"""Of what a run may name without a folder."""


def legend(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(word, meaning) of the models and planners of a run, and of what its videos show."""
    models = {row["model"]: row["settings"] for row in reversed(rows)}
    planners = {method_of(row).planner: row["settings"] for row in reversed(rows)}
    planners.pop(NO_PLANNER, None)
    names = {name: of_model(name, settings) for name, settings in reversed(models.items())}
    names |= {name: of_planner(settings) for name, settings in reversed(planners.items())}
    return [*names.items(), *of_videos(rows[0]["settings"])]


def of_model(name: str, settings: Mapping[str, Any]) -> str:
    if own := settings.get("model"):
        return f"a model of your own, {own.get('_target_')}"
    checkpoint = settings.get("checkpoint") or name
    return MODELS.get(checkpoint, f"the model {checkpoint}")


def of_planner(settings: Mapping[str, Any]) -> str:
    given = settings.get("planner_settings", {})
    target = str(given.get("_target_"))
    if not target.startswith("planners."):
        return f"a planner of your own, {target}"
    numbers = [f"{key}={value}" for key, value in given.items() if isinstance(value, int | float)]
    meaning = f"a planner, {', '.join([target, *numbers])}"
    if not settings.get("proposal"):
        return meaning
    return (
        f"{meaning}. It begins with {settings['proposal_count']} plans of a policy, which acts on "
        "the frames that the model imagines"
    )


def of_videos(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    apart = settings["replan_every"]
    every = "step" if apart == 1 else f"{apart} steps"
    return [
        (
            "pair",
            "a problem: a recorded state to start from, and a goal image. Pairs of one number are "
            "the same problem for all",
        ),
        (
            "real, imagined, goal",
            "what happened in the simulator; what the model expected of the same actions before "
            "they were carried out; and the goal image",
        ),
        (
            "imagination restarts",
            f"at each plan, every {every}, the model starts again from real frames. So the middle "
            "picture may jump there, and its errors grow only within a plan",
        ),
        (
            "imagined, dB",
            "how near the imagined frames of an episode came to the real ones (PSNR; more is "
            "nearer): at 20 dB pixels are off by 10 % of full brightness, at 30 dB by 3 %",
        ),
        ("s of thinking", "the episode's share of the time that planning took"),
    ]
