"""How well success classifiers tell the frames of solved tasks from the rest."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cola_env.scoring.classifier import SuccessClassifier
from cola_train.data.labelled_frames import LabelledFrames


@dataclass(frozen=True)
class Measures:
    """How one head tells success on held-out frames; None where there is none, or nothing else."""

    successes: int
    failures: int
    auc: float | None
    true_positive_rate: float | None
    false_positive_rate: float | None

    @property
    def balanced_accuracy(self) -> float | None:
        if self.true_positive_rate is None or self.false_positive_rate is None:
            return None
        return (self.true_positive_rate + 1 - self.false_positive_rate) / 2


@torch.no_grad()
def measure(model: SuccessClassifier, data: LabelledFrames) -> dict[str, Measures]:
    """The measures of every task on unchanged frames."""
    parts = data.frames.split(512)
    logits = torch.cat([model(part.to(model.device).float() / 255).cpu() for part in parts])
    return {
        task: _measures(logits[:, head].double().numpy(), (data.labels[:, head] == 1).numpy())
        for head, task in enumerate(model.tasks)
    }


def _measures(logits: NDArray[np.float64], labels: NDArray[np.bool_]) -> Measures:
    positive, negative = logits[labels], logits[~labels]
    both = len(positive) > 0 and len(negative) > 0
    return Measures(
        successes=len(positive),
        failures=len(negative),
        auc=area_under_curve(positive, negative) if both else None,
        true_positive_rate=float((positive > 0).mean()) if len(positive) else None,
        false_positive_rate=float((negative > 0).mean()) if len(negative) else None,
    )


def area_under_curve(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann-Whitney)."""
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left")
    up_to = np.searchsorted(order, positive, "right")
    return float((below + up_to).mean() / 2 / len(negative))


def as_json(measures: dict[str, Measures]) -> dict[str, object]:
    """As on the model card."""
    return {
        task: asdict(m) | {"balanced_accuracy": m.balanced_accuracy} for task, m in measures.items()
    }


def table(measures: dict[str, Measures]) -> str:
    """Held-out measures as text, a line a task."""
    width = max(26, *(len(task) + 2 for task in measures))
    lines = [f"{'held-out':<{width}}{'successes':>10}{'AUC':>8}{'accuracy':>10}{'false +':>9}"]
    for task, m in measures.items():
        numbers = [
            "-" if value is None else f"{value:.3f}"
            for value in (m.auc, m.balanced_accuracy, m.false_positive_rate)
        ]
        lines.append(
            f"{task:<{width}}{m.successes:>10}{numbers[0]:>8}{numbers[1]:>10}{numbers[2]:>9}"
        )
    return "\n".join(lines)
