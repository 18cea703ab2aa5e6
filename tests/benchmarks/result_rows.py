"""Rows of results of the benchmark, as the tests of their comparison need them."""

from typing import Any

from benchmarks.vp2_protocol.results import rate_row


def row(
    model: str, outcomes: str, seed: int = 0, task: str = "push_red", **settings: object
) -> dict[str, Any]:
    about: dict[str, Any] = {"model": model, "task": task, "seed": seed, "outcomes": outcomes}
    played = len(outcomes) - outcomes.count("-")
    return rate_row(outcomes.count("1"), played, settings=settings, **about)
