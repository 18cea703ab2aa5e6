"""Trains the success classifiers: `cola classifier data=FOLDER out=FOLDER`.

Every frame of the dataset is labelled by the simulator with the tasks that it fulfils. Successes
are rare, so a frame is drawn by first drawing a task and one of its two labels, and the loss of
each head weighs its two labels equally: a probability of 0.5 means that the frame looks as much
like the task's successes as like the rest. Imagined frames are what the classifiers will see, so
training frames are blurred, shifted and relit at random, and with `imagined=MODEL` half of them or
so are that model's.

They are measured on the episodes of each folder's own test split, which a world model that was
trained on the folder has not seen either. Where a folder has none, a share of its episodes is kept
for that (`held_out`), which the models of `imagined` may have seen.

With `discount=0.8` a frame's label is 0.8 ** (actions until success): not whether the task is
solved but how near it is, a value function to plan with (`classifier=values` in benchmarks/vp2.py).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.config_store import ConfigStore
from numpy.typing import NDArray
from omegaconf import MISSING, DictConfig, OmegaConf
from scipy.stats import mannwhitneyu
from torch.nn.functional import binary_cross_entropy_with_logits

from cola_env.checkpoints import find_checkpoint
from cola_env.errors import check_setting
from cola_env.models.loading import load_model, pick_device
from cola_env.models.precision import autocast
from cola_env.scoring.success_classifier import SuccessClassifier
from cola_env.worlds import find_world
from cola_train.command import command, cpu_threads
from cola_train.console import progress_bar
from cola_train.data.labelled_frames import (
    JoinedDataset,
    LabelledFrames,
    augment,
    imagine_frames,
    load_labelled_frames,
)
from cola_train.run_folder import save_with_card


@dataclass
class ClassifierConfig:
    data: Any = MISSING
    """A LeRobot folder or a list of them."""
    out: str = MISSING
    env: str | None = None
    """MODULE:NAME of the data's world, where it is one of your own."""
    imagined: tuple[str, ...] = ()
    """World models (folders, hub ids) whose frames are learned from too."""
    discount: float = 0.0
    threshold: float = 0.5
    """Probability above which a dream takes a task for solved."""
    steps: int = 1200
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    """Labels lie at least this far from 0 and 1, which bounds the logits: without it a planner may
    gain more by making failures less certain than by success."""
    width: int = 32
    held_out: float = 0.1
    """Share of the episodes that only measures, of each folder without a test split of its own;
    where it has one, that does."""
    device: str = "auto"
    threads: int = 1
    seed: int = 0


ConfigStore.instance().store(name="classifier_config", node=ClassifierConfig)


def fit(model: SuccessClassifier, data: LabelledFrames, config: ClassifierConfig) -> None:
    """Train `model` in place."""
    generator = torch.Generator().manual_seed(config.seed)
    weight, other = (each.to(model.device) for each in data.label_weights())
    chances = data.probabilities()
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.steps, pct_start=0.1
    )
    model.train()
    bar = progress_bar(range(config.steps), "training")
    for step in bar:
        rows = torch.multinomial(chances, config.batch, replacement=True, generator=generator)
        images = augment(data.frames[rows].float() / 255, generator).to(model.device)
        labels = data.labels[rows].float().to(model.device)
        labels = labels.clamp(config.label_smoothing, 1 - config.label_smoothing)
        with autocast(model.device):
            logits = model(images).float()
        loss = binary_cross_entropy_with_logits(
            logits, labels, weight=other, pos_weight=weight / other
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()


def _check(config: ClassifierConfig) -> None:
    for name in ("steps", "batch", "width", "threads"):
        check_setting(name, value := getattr(config, name), value >= 1, "at least 1")
    check_setting("lr", config.lr, 0 < config.lr < math.inf, "positive")
    check_setting("weight_decay", config.weight_decay, config.weight_decay >= 0, "at least 0")
    check_setting("threshold", config.threshold, 0 < config.threshold < 1, "in (0, 1)")
    check_setting("discount", config.discount, 0 <= config.discount < 1, "in [0, 1)")
    smoothing = config.label_smoothing
    check_setting("label_smoothing", smoothing, 0 <= smoothing < 0.5, "in [0, 0.5)")


def train_classifier(config: ClassifierConfig) -> dict[str, Measures]:
    """Train on a dataset folder, write the model and its card to `config.out`; the measures.

    The measures are of real frames; those of each of `config.imagined` are on the card as well.
    """
    _check(config)
    dataset = JoinedDataset(config.data)
    trained, measured = dataset.hold_out(config.held_out, config.seed)
    torch.manual_seed(config.seed)
    world = find_world(config.env or str(dataset.info["robot_type"]))
    tasks = world.goal_tasks
    device = pick_device(config.device)
    dreamers = {name: load_model(find_checkpoint(name, world), device) for name in config.imagined}
    train = load_labelled_frames(dataset, trained, tasks, config.discount)
    held_out = load_labelled_frames(dataset, measured, tasks, config.discount)
    imagined: dict[str, LabelledFrames] = {}
    for name, dreamer in dreamers.items():
        labelling = tasks, config.discount, config.seed
        train += imagine_frames(dreamer, dataset, trained, *labelling)
        imagined[name] = imagine_frames(dreamer, dataset, measured, *labelling)
    rendering = str(dataset.info["rendering"])
    model = SuccessClassifier(tasks, rendering, config.width, config.discount, config.threshold).to(
        device
    )
    for task, known in zip(tasks, train.labels.any(0).tolist(), strict=True):
        if not known:
            print(f"Warning: no frame of the training episodes fulfils {task}; it is not learned.")
    fit(model, train, config)
    measures = measure(model, held_out)
    on_imagined = {name: measure(model, frames) for name, frames in imagined.items()}
    card: dict[str, object] = {
        "model": "one success logit a task on 64 x 64 RGB",
        "parameters": model.num_parameters(),
        "data": {
            "name": [part.path.name for part in dataset.parts],
            "rendering": model.rendering,
            "train_frames": len(train.frames),
            "held_out_frames": len(held_out.frames),
            "held_out_episodes": measured.tolist(),
        },
        "training": {k: v for k, v in asdict(config).items() if k not in ("data", "out", "env")},
        "held_out": as_json(measures),
    }
    if imagined:
        card["held_out_imagined"] = {name: as_json(found) for name, found in on_imagined.items()}
    save_with_card(model, card, Path(config.out))
    return measures


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
    wins = mannwhitneyu(positive, negative, method="asymptotic").statistic
    return float(wins / (len(positive) * len(negative)))


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


@command("classifier")
def main(config: DictConfig) -> None:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, ClassifierConfig)
    with cpu_threads(settings.threads):
        print(table(train_classifier(settings)))
    print(f"The classifiers are in {settings.out}.")


if __name__ == "__main__":
    main()
