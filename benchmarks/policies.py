"""Judges policies in dreams and in the real twin: `cola policies [key=value ...]`.

Scripts of the tasks under several levels of noise, random actions, a planner, and cloned policies
(`clone=OUT` of `cola clone`) and agents of Stable-Baselines3 (`ppo={label: FILE}`) where they are
given: each plays the same problems in the twin, where the simulator says what succeeds, and in the
dream of each model, where the success classifier does. OUT/results.json and OUT/index.html have
success here and there with intervals, what the one says of the other (Pearson and rank
correlation, MMRV, calibration), and whom the dreams flatter, with and without the frames that are
not to be trusted. Stopped, the same command goes on. All settings: benchmarks/conf/policies.yaml.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cola_train.command import command
from cola_train.console import GOES_ON

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from benchmarks.policy_judging.judging import Judging

# The heavy imports are inside, because every simulator process imports this file again.


@command("policies", GOES_ON)
def main(config: DictConfig) -> None:
    from benchmarks.policy_judging.judging import Judging

    judging = Judging(config)
    try:
        play(judging)
    finally:
        report(judging)


def play(judging: Judging) -> None:
    """Play what is missing, with a progress bar."""
    from benchmarks.policy_judging.records import PlayedEpisode
    from cola_train.console import progress_bar

    planned = set(judging.planned)
    done = len(judging.finished())
    if done == len(planned):
        return
    with progress_bar(None, "judging", total=len(planned), initial=done, unit="episode") as bar:

        def told(episode: PlayedEpisode) -> None:
            bar.update()
            bar.set_postfix_str(f"{episode.policy} in {episode.world}: {episode.task}", False)

        judging.play(told)


def report(judging: Judging) -> None:
    """Write and show the results of what has been played."""
    from benchmarks.harness import command_line, machine
    from benchmarks.policy_judging.agreement import agreement_rows, flattery_rows, rate_rows
    from benchmarks.policy_judging.report import draw, table, write_page
    from benchmarks.vp2_protocol.results import terminal
    from cola_env.files import write_text

    episodes, dreams = judging.finished(), list(judging.dreamers)
    if not episodes:
        return
    results = {
        "command": command_line("benchmarks.policies"),
        "machine": machine(judging.device),
        "settings": judging.folder.run.settings(),
        "complete": len(episodes) == len(judging.planned),
        "agreement": agreement_rows(episodes, dreams),
        "flattery": flattery_rows(episodes, dreams),
        "rates": rate_rows(episodes),
    }
    out = judging.folder.path
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    draw(results, dreams, out / "policies.png")
    page = write_page(judging, episodes, results)
    terminal().print(table(results["agreement"]))
    print(f"Results: {out / 'results.json'}\nPage:    {page.resolve().as_uri()}")


if __name__ == "__main__":
    main()
