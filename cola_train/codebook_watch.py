"""Codebook health while a phase trains."""

from __future__ import annotations

from torch import Tensor

from cola_env.models.codebook import code_counts, count_measures


class CodebookWatch:
    """Counts the joint codes of the steps since it was last asked for their ``measures``.

    ``counts``: int64 (num_codes,) * tokens; None: no codes yet.
    """

    def __init__(self, counts: Tensor | None = None) -> None:
        self.counts = counts

    def add(self, codes: Tensor | None, num_codes: int) -> None:
        """codes (N, tokens); None: of a step without any."""
        if codes is not None:
            new = code_counts(codes.cpu(), num_codes)
            self.counts = new if self.counts is None else self.counts + new

    def measures(self) -> dict[str, float]:
        """Health of what was counted, jointly and by token; nothing without codes."""
        counts, self.counts = self.counts, None
        return {} if counts is None else count_measures(counts)
