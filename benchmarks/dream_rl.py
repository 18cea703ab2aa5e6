"""Trains policies in the dream, and judges them in the real simulator: `cola dream-rl goals=FILE`.

PPO of Stable-Baselines3 learns from pixels in each of `arms`, dreams and the real simulator, from
the starts in the file `goals`; along the way it plays the shipped problems, or those of the file
`judged`, in the real simulator. OUT/results.json and OUT/dream_rl.png have success over steps and
over seconds of training. Stopped, the same command goes on behind the last evaluation. All
settings: benchmarks/conf/dream_rl.yaml.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig

from benchmarks.dream_study import Study, Training
from benchmarks.harness import command_line, machine
from benchmarks.vp2_protocol.results import terminal, wilson
from cola_env.files import write_atomically, write_json
from cola_train.command import command
from cola_train.console import GOES_ON, progress_bar

if TYPE_CHECKING:
    from rich.table import Table


def train(study: Study, training: Training) -> Iterator[dict[str, Any]]:
    """Goes on behind the last evaluation to the end; yields each new one."""
    from benchmarks.adapters.stable_baselines3 import Agent

    found = training.evaluations()
    marks = [mark for mark in study.marks if not found or mark > found[-1]["steps"]]
    if not marks:
        return
    with closing(Agent(study, training)) as agent:
        seconds = found[-1]["seconds"] if found else 0.0
        for mark in marks:
            begun = time.perf_counter()
            agent.learn_until(mark)
            seconds += time.perf_counter() - begun
            solved = agent.solved()
            result = {"steps": mark, "seconds": round(seconds, 1), "solved": sum(solved)}
            found.append(result | {"episodes": len(solved), "pairs": solved})
            agent.save(mark)
            write_json(training.record, found)
            yield found[-1]


def rows(study: Study) -> list[dict[str, Any]]:
    """The last evaluation of every arm and task, over its seeds; intervals count problems."""
    found = []
    for task in study.tasks:
        for arm in study.arms:
            own = [t for t in study.trainings if (t.task, t.arm) == (task, arm)]
            last = [e[-1] for t in own if (e := t.evaluations())]
            if not last:
                continue
            solved, episodes = (sum(e[name] for e in last) for name in ("solved", "episodes"))
            pairs = max(e["episodes"] for e in last)
            low, high = wilson(solved * pairs / episodes, pairs)
            found.append(
                {
                    "task": task,
                    "arm": arm.label,
                    "seeds": len(last),
                    "steps": max(e["steps"] for e in last),
                    "seconds": round(sum(e["seconds"] for e in last) / len(last), 1),
                    "before": sum(t.evaluations()[0]["solved"] for t in own if t.evaluations()),
                    "solved": solved,
                    "episodes": episodes,
                    "ci_low": low,
                    "ci_high": high,
                }
            )
    return found


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    names = ("task", "learns in", "before", "after", "95 %", "steps", "seconds")
    drawn = Table(*names, title="Solved in the real simulator")
    for row in found:
        interval = f"{100 * row['ci_low']:.0f}-{100 * row['ci_high']:.0f} %"
        before, after = (f"{row[name]}/{row['episodes']}" for name in ("before", "solved"))
        numbers = (f"{row['steps']:,}", f"{row['seconds']:.0f}")
        drawn.add_row(row["task"], row["arm"], before, after, interval, *numbers)
    return drawn


def beside(study: Study, task: str) -> dict[str, float]:
    """The shares, by label, of what `cola vp2` has solved of a task."""
    found = {}
    for label, (file, model) in study.beside.items():
        own = [row for row in file["rows"] if (row["task"], row["model"]) == (task, model)]
        if own:
            solved, episodes = (sum(row[key] for row in own) for key in ("successes", "episodes"))
            found[label] = solved / episodes
    return found


def draw(study: Study, path: Path) -> None:
    """A row a task: success over steps, and over seconds of training; thin lines are seeds, dotted
    ones what does not learn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        len(study.tasks), 2, figsize=(10, 3.4 * len(study.tasks)), layout="constrained",
        squeeze=False, sharey=True,
    )  # fmt: skip
    colours = {arm.label: f"C{number}" for number, arm in enumerate(study.arms)}
    for (by_steps, by_seconds), task in zip(grid, study.tasks, strict=True):
        for axis, key in ((by_steps, "steps"), (by_seconds, "seconds")):
            for label, colour in colours.items():
                own = [t for t in study.trainings if (t.task, t.arm.label) == (task, label)]
                lines = [e for t in own if (e := t.evaluations())]
                for line in lines:
                    rates = [100 * e["solved"] / e["episodes"] for e in line]
                    axis.plot([e[key] for e in line], rates, color=colour, lw=0.8, alpha=0.6)
                whole = [line for line in lines if len(line) == min(map(len, lines))]
                if whole:
                    means = [
                        [sum(e[name] for e in column) / len(column) for name in (key, "solved")]
                        for column in zip(*whole, strict=True)
                    ]
                    episodes = whole[0][0]["episodes"]
                    axis.plot(
                        [x for x, _ in means], [100 * y / episodes for _, y in means],
                        color=colour, lw=2.2, marker="o", ms=4, label=label,
                    )  # fmt: skip
            for number, (label, share) in enumerate(beside(study, task).items()):
                grey = f"{0.35 + 0.15 * number:.2f}"
                axis.axhline(100 * share, color=grey, ls=":", lw=1.6, label=label)
            axis.set(xlabel=f"{key} of training", ylim=(-3, 103), title=task)
            axis.locator_params("x", nbins=5)
            axis.grid(alpha=0.3)
        by_steps.set_ylabel("solved in the real simulator, %")
        by_seconds.legend(title="learns in", loc="center left", bbox_to_anchor=(1.02, 0.5))
    write_atomically(path, lambda target: figure.savefig(target, dpi=110, format="png"))
    plt.close(figure)


@command("dream_rl", GOES_ON)
def main(config: DictConfig) -> None:
    torch.set_num_threads(1)
    study = Study(config)
    done = sum(len(training.evaluations()) for training in study.trainings)
    total = len(study.marks) * len(study.trainings)
    try:
        with progress_bar(None, "training", total=total, initial=done, unit="evaluation") as bar:
            for training in study.trainings:
                for found in train(study, training):
                    told = f"{training.folder.name}: {found['solved']}/{found['episodes']}"
                    bar.set_postfix_str(told, False)
                    bar.update()
    finally:
        if results := rows(study):
            write_json(
                study.out / "results.json",
                {
                    "command": command_line("benchmarks.dream_rl"),
                    "machine": machine(study.device),
                    "rows": results,
                    "evaluations": {
                        training.folder.name: training.evaluations() for training in study.trainings
                    },
                },
            )
            draw(study, study.out / "dream_rl.png")
            terminal().print(table(results))
            print(f"Results: {study.out / 'results.json'}\nPicture: {study.out / 'dream_rl.png'}")


if __name__ == "__main__":
    main()
