"""Runs the phases of a recipe one after another, with checkpoints that resume."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData
from cola_train.data.damage import Unreadable
from cola_train.data.encoding import encoded
from cola_train.data.loader import batches, step_generator
from cola_train.data.mixture import check_length
from cola_train.phases import Phase


@dataclass
class TrainerConfig:
    """``log_every``, ``evaluate_every``: in steps; ``save_seconds``: between checkpoints;
    ``compile``: the Transformer blocks (minutes at the start, then about twice as fast);
    ``checkpoint_activations``: recompute them in the backward pass, to save memory;
    ``latent_cache``: folder of a file that keeps the latents of all frames, instead of memory."""

    log_every: int = 20
    evaluate_every: int = 500
    save_seconds: float = 180.0
    max_gradient_norm: float = 1.0
    compile: bool = False
    checkpoint_activations: bool = False
    latent_cache: str | None = None


class Trainer:
    """Trains ``model`` through ``phases``; everything it writes lies under ``out``.

    ``out/<phase>/`` is the finished model of each phase (``ColaWorldModel.from_pretrained``),
    ``out/checkpoint.pt`` the state to resume from, ``out/history.jsonl`` the logs. The data and the
    noise of a step are functions of the seed, the phase and the step.

    Raises ColaWorldError when the data is not what a phase needs: real actions, long enough clips.
    """

    def __init__(
        self,
        model: ColaWorldModel,
        phases: list[Phase],
        train: TrainingData,
        held_out: TrainingData,
        out: Path,
        seed: int,
        config: TrainerConfig | None = None,
    ) -> None:
        self.model, self.phases, self.out = model, phases, out
        self.train_data, self.held_out = train, held_out
        self.config = config or TrainerConfig()
        self.seed = seed
        self._encoded = False
        for phase in phases:
            for data in (train, held_out):
                check_data(phase, data)
        out.mkdir(parents=True, exist_ok=True)
        self.writer = SummaryWriter(str(out / "tensorboard"))

    def run(self) -> None:
        if self.config.checkpoint_activations:
            self.model.enable_gradient_checkpointing()
        if self.config.compile:
            self.model.compile_repeated_blocks()
        saved = self._load()
        first = saved["phase"] if saved else 0
        for index, phase in enumerate(self.phases):
            if index < first:
                continue
            if phase.on_latents:
                self._encode()
            self._run_phase(index, phase, saved if index == first else None)
        self.writer.close()

    def _run_phase(self, index: int, phase: Phase, saved: dict[str, Any] | None) -> None:
        model = self.model
        # Compiled for a CPU, a block that gradients pass through is twice as slow without gradients
        # of its weights (the layouts then make matrix products copy), so that all get them.
        model.requires_grad_(self.config.compile and model.device.type == "cpu")
        groups, parameters = [], []
        for name, component in phase.components(model).items():
            component.requires_grad_(True)
            parameters += list(component.parameters())
            groups.append(
                {"params": component.parameters(), "lr": phase.lr * phase.lr_scale.get(name, 1.0)}
            )
        optimizer = torch.optim.AdamW(
            groups, weight_decay=phase.weight_decay, betas=(0.9, 0.99), fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate(s, phase))
        ema = EMAModel(parameters, decay=phase.ema_decay, inv_gamma=1.0, use_ema_warmup=False)
        step = 0
        if saved is not None and "optimizer" in saved:
            step = saved["step"]
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            ema.load_state_dict(saved["ema"])
        last_save = time.monotonic()
        data = self.train_data.with_actions() if phase.needs_actions else self.train_data
        phase.start(data)
        drawn = batches(data, phase.draw, self.seed, phase.name, range(step, phase.steps))
        bar = tqdm(total=phase.steps, initial=step, desc=phase.name, dynamic_ncols=True)
        for batch in drawn:
            batch = batch.to(model.device)
            if phase.on_latents:
                batch = batch.encoded(model)
            with autocast(model.device):
                generator = step_generator(self.seed, phase.name, step, "loss")
                loss, logs = phase.loss(model, batch, step, generator)
            if not torch.isfinite(loss):
                raise ColaWorldError(
                    f"The loss of phase {phase.name} is not finite at step {step}: lower its lr; "
                    f"the last checkpoint is kept in {self.out}."
                )
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
            optimizer.step()
            schedule.step()
            ema.step(parameters)
            step += 1
            bar.update()
            if step % self.config.log_every == 0:
                bar.set_postfix({key: f"{value:.3g}" for key, value in logs.items()})
                self._log(phase.name, step, {"loss": float(loss.detach()), **logs})
            if step % self.config.evaluate_every == 0 or step == phase.steps:
                ema.store(parameters)
                ema.copy_to(parameters)
                with torch.compiler.set_stance("force_eager"):
                    measures = self._measures(phase)
                ema.restore(parameters)
                self._log(phase.name, step, measures)
                bar.write(f"{phase.name} {step}: {summary(measures)}")
            if time.monotonic() - last_save > self.config.save_seconds:
                self._save(index, step, optimizer, schedule, ema)
                last_save = time.monotonic()
        bar.close()
        ema.copy_to(parameters)
        with torch.no_grad(), autocast(model.device):
            phase.finish(model, data)
        model.save_pretrained(self.out / phase.name)
        self._save(index + 1, 0, None, None, None)

    def _measures(self, phase: Phase) -> dict[str, float]:
        """On held-out data; none when all of it has become unreadable, which ends no training."""
        acted = phase.needs_actions or self.model.config.conditioning == "direct"
        try:
            return phase.evaluate(
                self.model, self.held_out.with_actions() if acted else self.held_out
            )
        except Unreadable as error:
            tqdm.write(str(error))
            return {}

    def _encode(self) -> None:
        if not self._encoded:
            cache = None if self.config.latent_cache is None else Path(self.config.latent_cache)
            self.train_data = encoded(self.train_data, self.model, cache)
            self.held_out = encoded(self.held_out, self.model, cache)
            self._encoded = True

    def _log(self, phase: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"{phase}/{key}", value, step)
        with open(self.out / "history.jsonl", "a") as file:
            file.write(json.dumps({"phase": phase, "step": step, **values}) + "\n")

    def _save(self, phase: int, step: int, optimizer: Any, schedule: Any, ema: Any) -> None:
        state = {
            "phase": phase,
            "step": step,
            "model": self.model.state_dict(),
        }
        if optimizer is not None:
            state |= {
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "ema": ema.state_dict(),
            }
        path = self.out / "checkpoint.pt"
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def _load(self) -> dict[str, Any] | None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            saved = torch.load(path, weights_only=True)
            self.model.load_state_dict(saved["model"])
        except Exception as error:
            raise ColaWorldError(
                f"{path} cannot be resumed from ({error}): delete it, or choose another `out`."
            ) from error
        return saved


def require_actions(phases: Sequence[Phase], has_actions: bool) -> None:
    """Raises ColaWorldError, naming the phases, when some need the actions that the data lacks."""
    names = [phase.name for phase in phases if phase.needs_actions]
    if names and not has_actions:
        kept = ",".join(phase.name for phase in phases if not phase.needs_actions)
        raise ColaWorldError(
            f"The data has no actions, which the phase(s) {', '.join(names)} need: add data with "
            f"actions, or train without them with order=[{kept}] (recipe=video_mini)."
        )


def check_data(phase: Phase, data: TrainingData) -> None:
    """Raises ColaWorldError when the data lacks the actions or the clips that a phase needs."""
    require_actions([phase], data.has_actions)
    if phase.on_latents:
        check_length(data.with_actions() if phase.needs_actions else data, phase.clip)


def learning_rate(step: int, phase: Phase) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine to ``lr_end``."""
    if step < phase.lr_warmup:
        return (step + 1) / phase.lr_warmup
    done = (step - phase.lr_warmup) / max(1, phase.steps - phase.lr_warmup)
    return phase.lr_end + (1 - phase.lr_end) * 0.5 * (1 + math.cos(done * math.pi))


def summary(measures: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.3g}" for key, value in measures.items())
