"""Figures 2 to 6 of the paper: what is measured, and what the paper says about it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean, linear_regression

from benchmarks.paper_experiments.plots import (
    LABELS,
    draw_strips,
    play_pairs,
    plot_bars,
    plot_curves,
    plot_health,
)
from benchmarks.paper_experiments.study import (
    HEALTH,
    Curve,
    Study,
    curve,
    final_health,
    health_curve,
    held_out,
    runs_of,
)
from benchmarks.paper_experiments.verdicts import (
    COLLAPSED,
    HEALTHY,
    Claim,
    HealthCurve,
    Result,
    expect,
    last_half,
    positive,
    provided,
    spread,
    state,
)
from cola_env.models.loading import load_model
from cola_train.evaluation.steering import Transfer, action_transfer

HEALTH_HEAD = ["run", "over the last half", *LABELS.values()]
WARM_UPS = {"no_warm_up": 0, "warm_up_4": 4, "joint": 8, "warm_up_12": 12}
"""Thousands of steps of warm-up by run (Figure 3), of those that differ in nothing else."""


def figure_2(study: Study) -> Result:
    runs = ["no_warm_up", "pretrained_idm", "both_random"]
    curves = joint_health(study, runs)
    alone = [
        health_curve(study.lines("two_stage", seed), "latent_action_model") for seed in study.seeds
    ]
    claims = [
        Claim(
            "From a random IDM, joint training with a pre-trained world model collapses.",
            expect(COLLAPSED, curves["no_warm_up"]),
        ),
        Claim(
            "From a pre-trained IDM it collapses too.",
            provided(
                expect(HEALTHY, alone),
                expect(COLLAPSED, curves["pretrained_idm"]),
                "This takes a codebook that is healthy after the IDM's own training, and it was",
            ),
        ),
        Claim("With both random it does not.", expect(HEALTHY, curves["both_random"])),
    ]
    return _health_result(study, "Figure 2: joint training without warm-up", curves, claims)


def figure_3(study: Study) -> Result:
    curves = joint_health(study, runs_of(study.config, "figure_3"))
    slopes = [
        linear_regression(list(WARM_UPS.values()), entropies).slope
        for entropies in zip(*(late_means(curves[run], "entropy") for run in WARM_UPS), strict=True)
    ]
    claims = [
        Claim(
            "Longer warm-up makes the joint training after it more stable "
            "(entropy over its last half, per 1K steps of warm-up).",
            positive(slopes, "nats per 1K"),
        ),
        Claim(
            "After 8K steps of warm-up the codebook stays healthy.",
            expect(HEALTHY, curves["joint"]),
        ),
    ]
    return _health_result(study, "Figure 3: steps of warm-up", curves, claims)


def joint_health(study: Study, runs: Sequence[str]) -> dict[str, list[HealthCurve]]:
    """Health along joint training, by run a curve a seed."""
    return {
        run: [health_curve(study.lines(run, seed), "end_to_end") for seed in study.seeds]
        for run in runs
    }


def late_means(curves: Sequence[HealthCurve], name: str) -> list[float]:
    """The mean of a measure of health over the last half of training, a number a seed."""
    return [fmean(getattr(health, name) for health in last_half(each)) for each in curves]


def _health_result(
    study: Study, title: str, curves: dict[str, list[HealthCurve]], claims: list[Claim]
) -> Result:
    panels = {
        name: {
            study.what(run): [
                Curve(list(each), [getattr(health, name) for health in each.values()])
                for each in seeds
            ]
            for run, seeds in curves.items()
        }
        for name in HEALTH
    }
    late = {
        run: {name: late_means(seeds, name) for name in HEALTH} for run, seeds in curves.items()
    }
    rows = [
        [
            study.what(run),
            ", ".join(map(state, curves[run])),
            *(spread(late[run][name]) for name in HEALTH),
        ]
        for run in curves
    ]
    states = {run: list(map(state, seeds)) for run, seeds in curves.items()}
    numbers = {"states": states, "last_half": late}
    return Result(
        title, claims, numbers, HEALTH_HEAD, rows, partial(plot_health, panels=panels, title=title)
    )


def figure_4a(study: Study) -> Result:
    title, label = "Figure 4a: linear probe of the latent actions", "probe, L1"
    joint, pure = _branches(study, "pure_warm_up", "probe_l1")
    claims = [
        Claim(
            "The probing loss falls faster once end-to-end training starts than under pure "
            "warm-up (final loss of pure warm-up less that of joint training).",
            positive([b.values[-1] - a.values[-1] for a, b in zip(joint, pure, strict=True)], "L1"),
        )
    ]
    return _branch_result(study, title, label, "pure_warm_up", (joint, pure), claims, digits=4)


def figure_4b(study: Study) -> Result:
    title, label = "Figure 4b: the world model with a frozen LAM", "next-frame PSNR (dB)"
    joint, frozen = _branches(study, "frozen_lam", "own")
    gains = {
        name: [each.values[-1] - each.values[len(each.values) // 2] for each in curves]
        for name, curves in (("joint", joint), ("frozen", frozen))
    }
    claims = [
        Claim(
            "With a frozen LAM the world model ends lower than end-to-end "
            "(final PSNR on moving pixels, joint less frozen).",
            positive(
                [a.values[-1] - b.values[-1] for a, b in zip(joint, frozen, strict=True)], "dB"
            ),
        ),
        Claim(
            "It plateaus: over the second half of training it gains less.",
            positive([a - b for a, b in zip(gains["joint"], gains["frozen"], strict=True)], "dB"),
        ),
    ]
    return _branch_result(study, title, label, "frozen_lam", (joint, frozen), claims, digits=2)


def _branches(study: Study, other: str, key: str) -> tuple[list[Curve], list[Curve]]:
    """Curves of the joint run and of the run that leaves it after the warm-up, a curve a seed."""
    joint, others = [], []
    for seed in study.seeds:
        lines = study.lines("joint", seed)
        warm_up = curve(lines, key, ("warm_up",))
        after = curve(study.lines(other, seed), key, ("end_to_end",), warm_up.steps[-1])
        joint.append(curve(lines, key, ("warm_up", "end_to_end")))
        others.append(Curve([warm_up.steps[-1], *after.steps], [warm_up.values[-1], *after.values]))
    return joint, others


def _branch_result(
    study: Study,
    title: str,
    label: str,
    other: str,
    curves: tuple[list[Curve], list[Curve]],
    claims: list[Claim],
    digits: int,
) -> Result:
    named = {study.what("joint"): curves[0], study.what(other): curves[1]}
    rows = [
        [name, spread([each.values[-1] for each in seeds], digits)] for name, seeds in named.items()
    ]
    marks = {"end of warm-up": float(curves[1][0].steps[0])}
    numbers = {
        run: [dict(zip(map(str, each.steps), each.values, strict=True)) for each in seeds]
        for run, seeds in zip(("joint", other), curves, strict=True)
    }
    draw = partial(plot_curves, panels={label: named}, marks=marks, title=title)
    return Result(title, claims, numbers, ["run", f"{label} at the end"], rows, draw)


def figure_5(study: Study) -> Result:
    title = "Figure 5: the codebook in training and adaptation"
    stages = ("training", "GT-LAM", "adapter")
    trained = {"two_stage": "world_model", "joint": "end_to_end"}
    health = {
        run: [
            [final_health(study.lines(run, seed), phase, "lam") for seed in study.seeds],
            *(
                [
                    final_health(study.lines(f"{run}_adapted", seed), "finetune", source)
                    for seed in study.seeds
                ]
                for source in ("lam", "adapter")
            ),
        ]
        for run, phase in trained.items()
    }
    entropy = {run: [[h.entropy for h in seeds] for seeds in of] for run, of in health.items()}
    lost = {
        run: [lam - adapter for lam, adapter in zip(*values[1:], strict=True)]
        for run, values in entropy.items()
    }
    claims = [
        Claim(
            "Under the adapter two-stage degenerates: from GT-LAM to the adapter it loses more "
            "entropy than joint training.",
            positive(
                [a - b for a, b in zip(lost["two_stage"], lost["joint"], strict=True)], "nats"
            ),
        ),
        Claim(
            "Under the adapter the codes of joint training have more entropy.",
            positive(
                [a - b for a, b in zip(entropy["joint"][2], entropy["two_stage"][2], strict=True)],
                "nats",
            ),
        ),
    ]
    bars = {
        study.what(run): {
            name: [[getattr(h, name) for h in seeds] for seeds in of] for name in HEALTH
        }
        for run, of in health.items()
    }
    rows = [
        [run, stage, *(spread(measures[name][i]) for name in HEALTH)]
        for run, measures in bars.items()
        for i, stage in enumerate(stages)
    ]
    head = ["run", "codes of", *LABELS.values()]
    draw = partial(plot_bars, stages=stages, bars=bars, title=title)
    return Result(title, claims, {"stages": stages, **bars}, head, rows, draw)


def figure_6(study: Study) -> Result:
    """The share of codes read again stands for "a strong resemblance" to the source."""
    title, config = "Figure 6: action transfer", study.config
    found = [transfer(study, seed) for seed in study.seeds]
    claims = [
        Claim(
            "Videos driven by a source's latent actions from another first frame do what the "
            "source does (share of its codes that the IDM reads off them, less chance).",
            positive([each.same - each.other for each in found], "of the codes"),
        )
    ]
    rows = [
        ["the source's codes, read again", spread([each.same for each in found])],
        ["codes of another source: chance", spread([each.other for each in found])],
    ]
    numbers = {"same": [each.same for each in found], "other": [each.other for each in found]}
    shown = slice(config.measure.strips)
    source, imagined = found[0].source[shown], found[0].imagined[shown]
    draw = partial(draw_strips, source=source, imagined=imagined)
    play = partial(play_pairs, source=source, imagined=imagined)
    return Result(title, claims, numbers, ["codes", "share"], rows, draw, play)


def transfer(study: Study, seed: int) -> Transfer:
    model = load_model(study.model("joint", seed, "end_to_end"))
    config, size = study.config, model.config.image_size
    sources, targets = (
        held_out(study, "joint", seed, data, size) for data in (config.data, config.downstream)
    )
    return action_transfer(model, sources, targets, clip=config.measure.length)
