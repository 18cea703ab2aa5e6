"""Does a model rank plans as the world does? `cola fidelity [key=value ...]`.

Candidate plans from moments of the scripted solutions are tried out in the real simulator (kept in
OUT/problems and used again), then imagined by every model and scored by the planner's reward. The
table says how well imagined scores rank the candidates (Spearman), what the model's choice loses
(regret) and by how much it is overrated, how well imagined scores and probabilities foresee
success, and the PSNR of the first and last imagined frame, beside what the same reward makes of the
real frames. Writes OUT/fidelity.json, a picture, and a page with every model's worst choices.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cola_train.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

# The heavy imports are inside, because every simulator process imports this file again.


@command("fidelity")
def main(config: DictConfig) -> None:
    import torch

    from benchmarks.fidelity_measures import make_rows, measure
    from benchmarks.fidelity_report import draw, table, write_page
    from benchmarks.harness import command_line
    from benchmarks.vp2_protocol.results import terminal
    from cola_env.files import write_json

    torch.set_num_threads(1)
    problems, found = measure(config)
    rows, out = make_rows(found), Path(config.out)
    report = {"command": command_line("benchmarks.fidelity"), "rows": rows}
    write_json(out / "fidelity.json", report)
    draw(found, out / "fidelity.png")
    page = write_page(out, rows, problems, found)
    terminal().print(table(rows))
    print(f"Results: {out / 'fidelity.json'}\nPage:    {page.resolve().as_uri()}")


if __name__ == "__main__":
    main()
