"""Does the latent action space move while the world model learns, as the paper explains its gains?

Along end-to-end training, and beside it where only the latent action model learns (pure warm-up) or
only the world model does (frozen LAM): latent actions of the same held-out clips, by the
checkpoints that these runs keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import Any

from torch import Tensor

from benchmarks.paper_experiments.plots import plot_curves
from benchmarks.paper_experiments.study import Curve, Study, held_out, measured_once
from benchmarks.paper_experiments.verdicts import Claim, Result, positive, spread
from cola_env.errors import ColaWorldError
from cola_train.data.clips import fixed_batch
from cola_train.evaluation.latent_drift import latent_actions, latent_drift
from cola_train.run_folder import TrainingCheckpoints, load, place
from cola_train.trained_models import coded_model

Trace = list[dict[str, Any]]
"""Along a training: the paper's ``step``, and a Drift ``since_start`` and ``since_last`` time."""

RUNS = ("joint", "pure_warm_up", "frozen_lam")
PANELS = {
    ("since_start", "changed"): "codes changed since the start",
    ("since_start", "regrouped"): "the same, renaming aside",
    ("since_start", "reshaped"): "1 - linear CKA of the tokens",
    ("since_last", "regrouped"): "regrouped since the last time",
}
MEASURES = {
    "changed": "codes changed",
    "regrouped": "renaming aside",
    "chance": "by chance",
    "reshaped": "1 - linear CKA",
    "distance": "distance / spread",
}


def drift(study: Study) -> Result:
    title = "Drift of the latent actions"
    paths = {run: [path_of(study, run, seed) for seed in study.seeds] for run in RUNS}
    late = {
        run: {
            f"{measure}_{since}": [late_mean(path, since, measure) for path in of_seeds]
            for since in ("since_start", "since_last")
            for measure in ("regrouped", "reshaped")
        }
        for run, of_seeds in paths.items()
    }
    joint, frozen = late["joint"], late["frozen_lam"]
    moves = zip(joint["regrouped_since_last"], frozen["regrouped_since_last"], strict=True)
    steps = zip(joint["reshaped_since_start"], joint["reshaped_since_last"], strict=True)
    claims = [
        Claim(
            "The world model adapts to a latent action space that goes on changing (codes that "
            "regroup between measurements of the last half of joint training, less those of a "
            "frozen LAM).",
            positive([a - b for a, b in moves], "of the codes"),
        ),
        Claim(
            "It changes smoothly (1 - linear CKA since the start less that since the measurement "
            "before, over the last half of joint training).",
            positive([a - b for a, b in steps], "of 1 - CKA"),
        ),
    ]
    panels = {
        label: {study.what(run): [curve_of(path, *key) for path in paths[run]] for run in RUNS}
        for key, label in PANELS.items()
    }
    rows = [
        [
            study.what(run),
            when,
            *(spread([of(path, since, name) for path in paths[run]], 3) for name in MEASURES),
        ]
        for run in RUNS
        for when, since, of in SHOWN
    ]
    draw = partial(
        plot_curves, panels=panels, marks={}, title=title, along="the paper's steps, end-to-end"
    )
    head = ["run", "moved", *MEASURES.values()]
    return Result(title, claims, {"late": late, "paths": paths}, head, rows, draw)


def late_mean(path: Trace, since: str, measure: str) -> float:
    """Over the last half of the measurements."""
    return fmean(point[since][measure] for point in path[len(path) // 2 :])


def at_the_end(path: Trace, since: str, measure: str) -> float:
    value: float = path[-1][since][measure]
    return value


SHOWN = (
    ("since the start, at the end", "since_start", at_the_end),
    ("between measurements, last half", "since_last", late_mean),
)


def curve_of(path: Trace, since: str, measure: str) -> Curve:
    """Since the start, it begins at 0."""
    begun = [0] if since == "since_start" else []
    steps = [point["step"] for point in path]
    return Curve([*begun, *steps], [*map(float, begun), *(point[since][measure] for point in path)])


def path_of(study: Study, run: str, seed: int) -> Trace:
    """How the latent actions of the same held-out clips move from the end of the warm-up on, by the
    weights as they learn, without their moving average: these the world model is trained under."""
    data, settings = study.config.data, study.config.measure

    def measure() -> Trace:
        model = coded_model(study.model("joint", seed, "warm_up"))
        clips = held_out(study, run, seed, data, model.config.image_size)
        batch = fixed_batch(clips, model, settings.clips, settings.length)
        start = last = latent_actions(model, batch)
        path = []
        for step, weights in kept_weights(study, run, seed, "end_to_end"):
            model.load_state_dict(weights)
            now = latent_actions(model, batch)
            path.append(
                {
                    "step": study.paper_steps(step),
                    "since_start": asdict(latent_drift(start, now)),
                    "since_last": asdict(latent_drift(last, now)),
                }
            )
            last = now
        return path

    found: Trace = measured_once(study, "drift", run, seed, "end_to_end", data, measure)
    return found


def kept_weights(
    study: Study, run: str, seed: int, phase: str
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Steps, and the model's weights after them, of the checkpoints along a phase that the run has
    kept for good. That of its end holds the moving average, and is none of them.

    Raises ColaWorldError where there are none.
    """
    folder = study.folder / f"{run}_{seed}" / "checkpoints"
    every, found = study.settings(run, seed).trainer.keep_every, False
    for file in TrainingCheckpoints(folder, [phase]).files():
        step = place(file)[1]
        if every and step % every == 0 and "learner" in (state := load(file)):
            found = True
            yield step, state["model"]
    if not found:
        raise ColaWorldError(
            f"{folder} has no checkpoints along {phase}, which drift is measured by: train this "
            "run with trainer.keep_every."
        )
