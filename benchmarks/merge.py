"""Makes one results file from several runs: `cola merge RUN [RUN ...] --out FILE`.

It prints how models, and planners, do against each other on the pairs and seeds of both.
The committed result is made so: `cola merge runs/full --out docs/results/vp2_robodesk.json`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.vp2_protocol.comparison import Row, comparisons, method_of
from benchmarks.vp2_protocol.records import MethodName
from benchmarks.vp2_protocol.results import results_json
from cola_env.errors import ColaWorldError
from cola_env.files import write_text
from cola_train.console import ending

TRAINING = frozenset({"checkpoint", "weights"})
"""The settings in which several trainings of one model differ."""


def merge_results(paths: Sequence[Path], trainings: bool = False) -> list[Row]:
    """The rows of run folders or results files, models together, in order of appearance.

    trainings: under several seeds a model may be several trainings.
    Raises ColaWorldError when a file is missing, two rows of one model, planner, task and seed
    differ, or rows of one model, planner and task were played under different settings.
    """
    merged: dict[tuple[MethodName, str, int], Row] = {}
    played_under: dict[tuple[MethodName, str], Row] = {}
    for path in paths:
        file = path / "results.json" if path.is_dir() else path
        if not file.is_file():
            raise ColaWorldError(f"There are no results {file}; finish that run first.")
        for row in read_rows(file):
            key = method_of(row), row["task"], row["seed"]
            if merged.setdefault(key, row) != row:
                raise ColaWorldError(
                    f"{file} and an earlier run both have model '{row['model']}' on {key[1]} under "
                    f"seed {key[2]} with different results; merge only one of them, or label the "
                    "models apart with model=label:folder."
                )
            before, now = played_under.setdefault(key[:2], row)["settings"], row["settings"]
            differ = {k for k in {*before, *now} - {"seed"} if before.get(k) != now.get(k)}
            if differ - (TRAINING if trainings else set()):
                raise ColaWorldError(
                    f"Model '{row['model']}' played {key[1]} under different settings, also in "
                    f"{file}: {', '.join(sorted(differ))}. Label the models apart with "
                    "model=label:folder."
                )
    models = list(dict.fromkeys(row["model"] for row in merged.values()))
    return sorted(merged.values(), key=lambda row: models.index(row["model"]))


def read_rows(file: Path) -> list[Row]:
    """Raises ColaWorldError for a file that is damaged or holds no results."""
    try:
        rows: list[Row] = json.loads(file.read_text())["rows"]
        if all(row.keys() >= {"model", "task", "seed", "settings"} for row in rows):
            return rows
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise ColaWorldError(f"{file} is damaged or holds no results: give another, or play it again.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or results files")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with ending():
        rows = merge_results(given.runs)
        write_text(given.out, results_json(rows))
    print(*comparisons(rows), f"{given.out}: {len(rows)} rows", sep="\n")


if __name__ == "__main__":
    main()
