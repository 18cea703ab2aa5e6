"""Does a world model that has seen its latent actions move take wrong ones more easily?

So the paper explains what two-stage training loses under the adapter. A share of the codes of
held-out clips is swapped for another clip's, for joint training and two-stage with each its own
LAM. A model that ignores its codes loses nothing by that, so what few wrong ones cost is also told
as a share of what all of them cost: of the squared error, as decibels grow slower than it.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from statistics import fmean

from benchmarks.paper_experiments.plots import plot_curves
from benchmarks.paper_experiments.study import Curve, Study, held_out, measured_once
from benchmarks.paper_experiments.verdicts import (
    INCONCLUSIVE,
    REPRODUCED,
    Claim,
    Result,
    Verdict,
    positive,
    provided,
    spread,
)
from cola_train.collapse import CollapseConfig
from cola_train.evaluation import wrong_codes as evaluation
from cola_train.evaluation.wrong_codes import SHARES, WrongCodes
from cola_train.trained_models import coded_model

PHASES = {"two_stage": "world_model", "joint": "end_to_end"}
FEW = (0.1, 0.25)
"""Shares of wrong codes that are few."""
LEAST = CollapseConfig.gap
"""dB that all wrong codes should at least cost a model that follows its codes."""


def wrong_codes(study: Study) -> Result:
    title = "Wrong codes at inference"
    found = {
        run: [measured(study, run, seed, phase) for seed in study.seeds]
        for run, phase in PHASES.items()
    }
    lost = {run: [lost_psnr(each) for each in seeds] for run, seeds in found.items()}
    added = {run: [added_error(each) for each in seeds] for run, seeds in found.items()}
    gaps = {run: [each[-1] for each in seeds] for run, seeds in lost.items()}
    few = {
        name: {run: [at_few(each) for each in seeds] for run, seeds in of.items()}
        for name, of in (("lost", lost), ("added", added))
    }
    follow = following(gaps)
    otherwise = "This takes models that follow their codes, and"
    claims = [
        Claim(
            "Few wrong codes (10 and 25 %) cost joint training less (PSNR lost, two-stage less "
            "joint).",
            provided(follow, positive(less(few["lost"]), "dB"), otherwise),
        ),
        Claim(
            "Of the error that all wrong codes add, few of them add a smaller share to joint "
            "training (two-stage less joint).",
            provided(follow, positive(less(few["added"]), "of the added error"), otherwise),
        ),
    ]
    percent = [round(100 * share) for share in SHARES]
    panels = {
        label: {study.what(run): [Curve(percent, each) for each in of[run]] for run in PHASES}
        for label, of in (("PSNR lost (dB)", lost), ("of the error that all wrong add", added))
    }
    rows = [
        [
            study.what(run),
            *(spread([each[i] for each in lost[run]]) for i in range(1, len(SHARES))),
            spread(few["added"][run]),
            spread([each.differ for each in found[run]]),
        ]
        for run in PHASES
    ]
    numbers = {
        "shares": SHARES,
        "found": {run: [asdict(each) for each in seeds] for run, seeds in found.items()},
        "few": few,
        "gap": gaps,
    }
    head = [
        "run",
        *(f"dB lost at {each} %" for each in percent[1:]),
        "few: share of the error",
        "swaps that differ",
    ]
    draw = partial(plot_curves, panels=panels, marks={}, title=title, along="wrong codes (%)")
    return Result(title, claims, numbers, head, rows, draw)


def measured(study: Study, run: str, seed: int, phase: str) -> WrongCodes:
    """Of the model that a phase left, on held-out clips; measured once."""
    data, settings = study.config.data, study.config.measure

    def measure() -> dict[str, object]:
        model = coded_model(study.model(run, seed, phase))
        clips = held_out(study, run, seed, data, model.config.image_size)
        return asdict(evaluation.wrong_codes(model, clips, settings.horizon, count=settings.clips))

    return WrongCodes(**measured_once(study, "wrong_codes", run, seed, phase, data, measure))


def lost_psnr(found: WrongCodes) -> list[float]:
    """dB by share; the last is what the codes are worth, the gap."""
    return [found.psnr[0] - each for each in found.psnr]


def added_error(found: WrongCodes) -> list[float]:
    """Of the squared error that all wrong codes add, by share: as the shares themselves where each
    wrong code adds the same. 0 where they add none."""
    added = [each - found.error[0] for each in found.error]
    return [each / added[-1] if added[-1] > 0 else 0.0 for each in added]


def at_few(by_share: list[float]) -> float:
    return fmean(by_share[SHARES.index(share)] for share in FEW)


def less(of: dict[str, list[float]]) -> list[float]:
    """Two-stage less joint, by seed."""
    return [a - b for a, b in zip(of["two_stage"], of["joint"], strict=True)]


def following(gaps: dict[str, list[float]]) -> Verdict:
    """Whether all models follow their codes."""
    least = min(min(seeds) for seeds in gaps.values())
    outcome = REPRODUCED if least >= LEAST else INCONCLUSIVE
    return Verdict(outcome, f"one of them loses no more than {least:.2g} dB to all wrong codes.")
