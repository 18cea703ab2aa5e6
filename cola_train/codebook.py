"""Is a model's codebook healthy, and followed? `cola codebook run=runs/mine`.

Utilisation, maximum usage and entropy of the codes that a model infers on held-out clips, jointly
and by token, and what they are worth to its world model.
"""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig

from cola_env.files import write_json
from cola_env.models.world_model import ColaWorldModel
from cola_train.collapse import CollapseConfig, symptom
from cola_train.command import command, cpu_threads
from cola_train.evaluation.controllability import controllability
from cola_train.trained_models import coded_model, data_of, held_out_of

SOURCES = {"lam": "inferred", "adapter": "adapter's"}


def measure(config: DictConfig) -> tuple[ColaWorldModel, dict[str, float]]:
    """The model and its measures on held-out clips (see ``controllability``).

    Raises ColaWorldError for a model without codes, and data that does not fit.
    """
    run = Path(config.run)
    model = coded_model(run, config.device)
    sources = data_of(run, config.data, config.fps)
    held_out = held_out_of(sources, model, with_actions=config.adapter)
    length = config.length or model.window
    return model, controllability(model, held_out, length, config.adapter, config.clips)


def table(measures: dict[str, float], tokens: int, num_codes: int) -> str:
    lines = [f"{'codes':<32}{'utilisation':>12}{'max usage':>12}{'entropy':>10}{'at most':>10}"]
    for source, title in SOURCES.items():
        if f"{source}_entropy" in measures:
            lines.append(row(measures, f"{source}_", f"{title}, joint", num_codes**tokens))
            for i in range(tokens):
                name = f"{title}, token {i}"
                lines.append(row(measures, f"{source}_token_{i}_", name, num_codes))
    worth = "own {own:.2f} dB - shuffled {shuffled:.2f} dB = {gap:.2f} dB".format(**measures)
    return "\n".join([*lines, f"PSNR of what moves: {worth}"])


def row(measures: dict[str, float], prefix: str, name: str, codes: int) -> str:
    used, top, entropy = (measures[prefix + k] for k in ("utilisation", "max_usage", "entropy"))
    label = f"{name} (of {codes:,})"
    return f"{label:<32}{used:>12.1%}{top:>12.1%}{entropy:>10.2f}{math.log(codes):>10.2f}"


def report(model: ColaWorldModel, measures: dict[str, float]) -> tuple[str, str]:
    """The measures as text, and the verdict on them."""
    quantizer = model.quantizer.config
    verdict = symptom(measures, CollapseConfig()) or "the codebook is healthy and followed"
    return table(measures, quantizer.num_tokens, quantizer.num_codes), verdict


@command("codebook")
def main(config: DictConfig) -> None:
    with cpu_threads(config.threads):
        model, measures = measure(config)
    numbers, verdict = report(model, measures)
    print(numbers)
    print(f"Verdict: {verdict}.")
    if config.out:
        write_json(Path(config.out), {"verdict": verdict, **measures})


if __name__ == "__main__":
    main()
