"""Has the codebook collapsed, or does the world model ignore it? And what would help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cola_train.phases import FlowMatching, ForwardDynamics, Phase
from cola_train.phases.phase import LatentActionPhase


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
    of_tokens = re.compile(r"lam_token_\d+_utilisation")
    used = min(value for key, value in measures.items() if of_tokens.fullmatch(key))
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
