"""The codebook while a phase trains: what changes it besides gradients, how healthy it is, and what
helps when it has collapsed or the world model ignores it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.latent_action.codebook import code_counts, count_measures
from cola_env.models.latent_action.quantizer import VectorQuantizer
from cola_train.distributed import load_whole, whole_state
from cola_train.phases import FlowMatching, ForwardDynamics, Phase
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


@dataclass
class CollapseConfig:
    """What counts as collapse, on held-out clips, once the actions have been quantised for
    ``after`` steps, and at the end of a phase.

    The paper calls a codebook collapsed under 20 % utilisation, over 50 % maximum usage or under 1
    nat of entropy. Utilisation is asked of every token's codes, since the joint codes are more than
    a batch has actions.

    Attributes:
        utilisation: least share of the codes of each token that should be in use.
        max_usage: largest share that one joint code should have.
        entropy: least entropy of the joint codes in nats.
        gap: how many dB of PSNR a clip's own actions should at least be worth over another clip's.
        stop: end the training, after saving, instead of warning.
    """

    utilisation: float = 0.2
    max_usage: float = 0.5
    entropy: float = 1.0
    gap: float = 0.1
    after: int = 1000
    stop: bool = False


def diagnosis(
    phase: Phase, step: int, measures: Mapping[str, float], config: CollapseConfig
) -> str | None:
    """One sentence on what is wrong, its likely cause and what to try; None: nothing, or it is too
    early to say, or the phase has no codes. ``measures`` are the phase's at ``step``."""
    if not isinstance(phase, LatentActionPhase) or not phase.quantised(step):
        return None
    if step < phase.steps and step - phase.continuous_steps < config.after:
        return None
    if (found := symptom(measures, config)) is None:
        return None
    remedies = codebook_remedies if collapsed(measures, config) else action_remedies
    causes = "; or ".join(remedies(phase))
    return f"{phase.name}, step {step}: {found}; likely because {causes} (docs/recipe.md)."


def symptom(measures: Mapping[str, float], config: CollapseConfig) -> str | None:
    """What is wrong, by ``controllability`` or ForwardDynamics's measures; None: nothing."""
    if found := collapsed(measures, config):
        return found
    if "lam_entropy" in measures and (gap := measures["gap"]) < config.gap:
        return (
            "the world model ignores the latent actions (many codes are in use, but own - shuffled "
            f"is {gap:.2f} dB)"
        )
    return None


def collapsed(measures: Mapping[str, float], config: CollapseConfig) -> str | None:
    """How the codebook has collapsed; None: it has not, or there is none."""
    if "lam_entropy" not in measures:
        return None
    used = min(value for key, value in measures.items() if is_token_utilisation(key))
    share, entropy = measures["lam_max_usage"], measures["lam_entropy"]
    if used < config.utilisation:
        why = f"only {used:.0%} of a token's codes are in use"
    elif share > config.max_usage:
        why = f"one code stands for {share:.0%} of the actions"
    elif entropy < config.entropy:
        why = f"the entropy of the codes is {entropy:.2f} nats"
    else:
        return None
    return f"the codebook has collapsed ({why})"


def is_token_utilisation(key: str) -> bool:
    return key.startswith("lam_token_") and key.endswith("_utilisation")


def codebook_remedies(phase: LatentActionPhase) -> list[str]:
    """Settings that keep a codebook alive and that the phase does without."""
    if "quantizer" not in phase.learns:
        return ["the codes are frozen here, so look at the phase that learnt them"]
    found = []
    if not phase.restart_steps:
        found.append(f"dead codes stay dead: phases.{phase.name}.restart_steps=1000")
    if not phase.continuous_steps:
        settings = f"phases.{phase.name}.continuous_steps=700 phases.{phase.name}.fit_codes=true"
        found.append(f"it was quantised from the first step: {settings} (k-means)")
    if phase.quantizer_weight > 0.2:
        found.append(f"its loss weighs much: phases.{phase.name}.quantizer_weight=0.05")
    return found + action_remedies(phase)


def action_remedies(phase: LatentActionPhase) -> list[str]:
    """Settings that make actions matter and that the phase does without."""
    found = []
    if isinstance(phase, FlowMatching | ForwardDynamics) and not phase.motion_weight:
        found.append(
            f"what moves weighs no more than the rest: phases.{phase.name}.motion_weight=2"
        )
    if isinstance(phase, FlowMatching):
        found.append("the warm-up may be short: a larger phases.warm_up.steps")
    return found or ["the clips may hardly move: lower fps, or other data"]
