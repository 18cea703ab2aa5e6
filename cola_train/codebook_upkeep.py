"""The codebook while a phase trains: what changes it besides gradients, and how healthy it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cola_env.models.latent_action.codebook import code_counts, count_measures
from cola_env.models.latent_action.quantizer import VectorQuantizer
from cola_train.distributed import load_whole, whole_state
from cola_train.phases.phase import LatentActionPhase


class CodebookUpkeep:
    """Initialises the codebook by k-means, follows how often its codes are used, and restarts dead
    ones, around the losses of every step: by its global batch, so equally in all processes.

    ``quantizer`` is the one that learns, sharded under FSDP2.
    """

    def __init__(self, phase: LatentActionPhase, quantizer: VectorQuantizer) -> None:
        self.phase, self.quantizer = phase, quantizer
        self._restarted: VectorQuantizer | None = None

    def before_losses(
        self, step: int, infer_tokens: Callable[[], Tensor], generator: torch.Generator
    ) -> None:
        """Fit the codes where this is the first step with any, or choose those to restart.

        ``infer_tokens``: the IDM's tokens (N, tokens, code_size) of the step's global batch.
        """
        phase, since = self.phase, step - self.phase.continuous_steps
        self._restarted = None
        if phase.fit_codes and since == 0:
            fitted = self._whole_copy()
            fitted.fit_codebook(infer_tokens(), generator)
            load_whole(self.quantizer, fitted.state_dict())
        elif self._learns and phase.restarts_codes(step):
            self._restarted, tokens = self._whole_copy(), infer_tokens()
            self._restarted.track_usage(self._restarted(tokens).codes)
            self._restarted.restart_dead_codes(tokens, generator)

    def after_losses(self, codes: Tensor | None) -> None:
        """Take over what was restarted, or else follow the usage.

        ``codes``: (N, tokens) of the step's global batch; None: it passed no codebook.
        """
        if codes is None or not self._learns:
            return
        if (updated := self._restarted) is None:
            updated = self._whole_copy()
            updated.track_usage(codes)
        load_whole(self.quantizer, updated.state_dict())

    @property
    def _learns(self) -> bool:
        return "quantizer" in self.phase.learns

    def _whole_copy(self) -> VectorQuantizer:
        copied = VectorQuantizer(self.quantizer.config).to(self.quantizer.usage.device)
        copied.load_state_dict(whole_state(self.quantizer))
        return copied


class CodebookUsage:
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
