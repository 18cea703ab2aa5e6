"""Reproduces the paper's figures and tables: `cola paper figure=2 data=FOLDER init=MODEL`.

And measures what it explains them by: `explanation=all`. Every experiment trains what it needs
under several seeds (benchmarks/conf/paper.yaml; runs serve several experiments, and finished ones
are kept), and writes OUT/figure_2.png, .md and .json: our numbers beside the paper's claims with a
verdict each, by the rules of docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from benchmarks.paper_experiments import figures, tables
from benchmarks.paper_experiments.drift import drift
from benchmarks.paper_experiments.study import Study, as_list, check_held_out, chosen, plan, runs_of
from benchmarks.paper_experiments.verdicts import Result, summary, write_result
from benchmarks.paper_experiments.wrong_codes import wrong_codes
from benchmarks.training_runs import finish_all
from cola_env.checkpoints import find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.files import write_text
from cola_train.command import command
from cola_train.console import GOES_ON

EXPERIMENTS: dict[str, Callable[[Study], Result]] = {
    "figure_2": figures.figure_2,
    "figure_3": figures.figure_3,
    "figure_4a": figures.figure_4a,
    "figure_4b": figures.figure_4b,
    "figure_5": figures.figure_5,
    "figure_6": figures.figure_6,
    "table_1": tables.table_1,
    "table_2": tables.table_2,
    "table_3": tables.table_3,
    "table_4": tables.table_4,
    "explanation_drift": drift,
    "explanation_wrong_codes": wrong_codes,
}


def reproduce(config: DictConfig) -> None:
    """Train what is missing, then measure and write the chosen experiments."""
    names = chosen(config)
    check_given(config, names)
    jobs, study, out = plan(config, names), Study(config), Path(config.out)
    for name in names:
        check_held_out(study, name)
    finish_all(jobs, study.folder, config.workers)
    for name in names:
        write_result(name, EXPERIMENTS[name](study), setting(study, name), out)
    write_text(out / "summary.md", summary(out) + "\n")
    print(summary(out))


def check_given(config: DictConfig, names: list[str]) -> None:
    """Raises ColaWorldError where an experiment that trains lacks its data or pre-trained model, or
    what it trains could not be measured."""
    if names == ["table_4"] and config.vp2.results is not None:
        return
    if "table_4" in names and config.scale == "paper" and config.vp2.results is None:
        raise ColaWorldError(
            "Table 4 plans on goals of 64 x 64 pixels, which models of the paper's size do not "
            "imagine: leave table 4 out, or give vp2.results=FILE of models that do."
        )
    missing = [name for name in ("data", "init") if config[name] is None]
    if missing:
        raise ColaWorldError(
            f"Give {' and '.join(f'{name}=FOLDER' for name in missing)}; init is a model with a "
            "pre-trained autoencoder and world model, made by python -m cola_train "
            "recipe=joint_mini order=[autoencoder,pretrain] data=FOLDER."
        )
    find_checkpoint(config.init)


def setting(study: Study, experiment: str) -> str:
    """At what size, under which seeds, on which data."""
    config = study.config
    if not runs_of(config, experiment):
        return f"From {', '.join(as_list(config.vp2.results))}."
    data, downstream = (", ".join(as_list(config[name])) for name in ("data", "downstream"))
    scale = study.scale
    return (
        f"{scale.what.capitalize()}: {scale.steps_per_thousand} steps stand for 1,000 of the "
        f"paper's; seeds {', '.join(map(str, study.seeds))}; data {data}; adapted to {downstream}."
    )


@command("paper", GOES_ON)
def main(config: DictConfig) -> None:
    reproduce(config)


if __name__ == "__main__":
    main()
