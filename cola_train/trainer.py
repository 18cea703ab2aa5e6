"""Runs the phases of a recipe one after another, with checkpoints that resume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from cola_env.errors import ColaWorldError, check_setting
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.collapse import CollapseConfig, diagnosis
from cola_train.console import progress_bar
from cola_train.data.batches import batches, step_generator
from cola_train.data.clips import ClipBatch, TrainingData
from cola_train.data.episode_source import Unreadable
from cola_train.data.latent_cache import encoded
from cola_train.distributed import agreed, make_accelerator
from cola_train.learner import CodebookUsage, Learner, micro_size
from cola_train.phases.phase import Phase, Prepared
from cola_train.preconditions import check_components, check_data
from cola_train.run_folder import History, TrainingCheckpoints, check_logger, summary, write_folder


class PhaseData:
    """Training and held-out data as each phase reads it; with latents, once one needs them.

    ``latent_cache``: folder of the file that keeps them; None: they are kept in memory.

    Raises ColaWorldError when the data is not what a phase needs: real actions, long enough clips.
    """

    def __init__(
        self,
        train: TrainingData,
        held_out: TrainingData,
        phases: list[Phase],
        seed: int,
        latent_cache: str | None,
    ) -> None:
        for phase in phases:
            for data in (train, held_out):
                check_data(phase, data)
        self.train, self.held_out, self.seed = train, held_out, seed
        self.cache = None if latent_cache is None else Path(latent_cache)
        self._encoded = False

    def encode(self, model: ColaWorldModel, accelerator: Accelerator) -> None:
        """Latents of all frames, once; into a cache by one process before the others read it."""
        if self._encoded:
            return
        if self.cache is None:
            self._encode(model)
        else:
            with accelerator.main_process_first(), accelerator.local_main_process_first():
                self._encode(model)
        self._encoded = True

    def train_for(self, phase: Phase) -> TrainingData:
        return self.train.with_actions() if phase.needs_actions else self.train

    def held_out_for(self, phase: Phase, model: ColaWorldModel) -> TrainingData:
        acted = phase.needs_actions or model.config.conditioning == "direct"
        return self.held_out.with_actions() if acted else self.held_out

    def batches(self, learner: Learner, steps: range) -> Iterator[ClipBatch]:
        """This process's micro-batches of the steps, on its device."""
        phase, model = learner.phase, learner.model
        draw = partial(phase.draw, count=learner.micro_size)
        train, micros = self.train_for(phase), learner.micros
        drawn = batches(train, draw, self.seed, phase.name, steps, micros)
        for (step, micro), batch in zip(product(steps, micros), drawn, strict=True):
            generator = step_generator(self.seed, phase.name, step, "augment", micro)
            batch = phase.augmented(batch.to(model.device), generator)
            yield batch.encoded(model) if phase.on_latents else batch

    def _encode(self, model: ColaWorldModel) -> None:
        self.train = encoded(self.train, model, self.cache)
        self.held_out = encoded(self.held_out, model, self.cache)


@dataclass
class TrainerConfig:
    """``log_every``, ``evaluate_every``: in steps; ``save_seconds``: between checkpoints, of which
    the newest ``keep_last`` are kept and for good those of every ``keep_every`` steps;
    ``accumulation``: micro-batches that each process makes of its share of a step's batch;
    ``compile``: the Transformer blocks (minutes at the start, then about twice as fast);
    ``checkpoint_activations``: recompute them in the backward pass, to save memory;
    ``latent_cache``: folder of a file that keeps the latents of all frames, instead of memory;
    ``logger``: tensorboard, wandb or none, beside history.jsonl."""

    log_every: int = 20
    evaluate_every: int = 500
    save_seconds: float = 180.0
    keep_last: int = 2
    keep_every: int | None = None
    max_gradient_norm: float = 1.0
    accumulation: int = 1
    compile: bool = False
    checkpoint_activations: bool = False
    latent_cache: str | None = None
    logger: str = "tensorboard"
    collapse: CollapseConfig = field(default_factory=CollapseConfig)

    def __post_init__(self) -> None:
        norm, seconds = self.max_gradient_norm, self.save_seconds
        check_setting("trainer.max_gradient_norm", norm, norm > 0, "a positive number")
        check_setting("trainer.save_seconds", seconds, seconds >= 0, "a number of at least 0")
        for name in ("log_every", "evaluate_every", "accumulation"):
            value = getattr(self, name)
            check_setting(f"trainer.{name}", value, value >= 1, "at least 1")


class Trainer:
    """Trains ``model`` through ``phases``; everything it writes lies under ``out``.

    ``out/<phase>/`` is the finished model of each phase (``ColaWorldModel.from_pretrained``),
    ``out/checkpoints/`` what to resume from, ``out/history.jsonl`` the logs. Killed at any moment
    and started again, it ends with the same weights and logs.

    All processes of ``accelerate launch`` make the same Trainer; the main one logs, measures and
    saves. ``device`` is the kind of device to train on, by default that of the model.

    Raises ColaWorldError when the data is not what a phase needs (real actions, long enough clips),
    the model lacks a component that one needs, or its batch cannot be cut into equal micro-batches.
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
        device: torch.device | None = None,
    ) -> None:
        self.config = config or TrainerConfig()
        self.phases, self.out, self.seed = phases, out, seed
        self.data = PhaseData(train, held_out, phases, seed, self.config.latent_cache)
        check_logger(self.config.logger)
        names = [phase.name for phase in phases]
        keep = self.config.keep_last, self.config.keep_every
        self.checkpoints = TrainingCheckpoints(out / "checkpoints", names, *keep)
        self.accelerator: Accelerator = make_accelerator(
            device or model.device, out, self.config.logger, self.config.accumulation
        )
        check_components(phases, model)
        for phase in phases:
            micro_size(self.accelerator, phase)
        self.model = model.to(self.accelerator.device)
        self.history = History(self.accelerator, out, self.config.logger)
        self._starts = dict(zip(names, accumulate([0, *(p.steps for p in phases)]), strict=False))
        self._saved_at = time.monotonic()
        self._warned: set[str] = set()

    def run(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if self.config.checkpoint_activations:
            self.model.enable_gradient_checkpointing()
        if self.config.compile:
            self.model.compile_repeated_blocks()
        todo, saved = self._begin()
        for phase in todo:
            if any(p.reads_latents for p in self.phases[: self.phases.index(phase) + 1]):
                self.data.encode(self.model, self.accelerator)
            self._run_phase(phase, saved)
            saved = None
        self.history.end()

    def _begin(self) -> tuple[list[Phase], dict[str, Any] | None]:
        """What is left to run, and where in the first of it the newest checkpoint was made."""
        saved = self.checkpoints.newest(self.accelerator.print)
        if saved is None:
            self.history.begin(0, 0)
            return self.phases, None
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise ColaWorldError(
                f"{self.checkpoints.folder} is of another model ({error}): delete it, or choose "
                "another `out`."
            ) from error
        self.accelerator.print(f"Going on from {saved['phase']}, step {saved['step']:,}.")
        self.history.begin(saved["history"], self._starts[saved["phase"]] + saved["step"])
        first = list(self._starts).index(saved["phase"])
        finished = "learner" not in saved
        return self.phases[first + finished :], None if finished else saved

    def _run_phase(self, phase: Phase, saved: dict[str, Any] | None) -> None:
        config, main = self.config, self.accelerator.is_main_process
        train = self.data.train_for(phase)
        learner = Learner(
            self.accelerator,
            self.model,
            phase,
            phase.prepare(train),
            self.seed,
            config.max_gradient_norm,
            config.compile,
        )
        begun, usage = 0, CodebookUsage()
        if saved is not None:
            begun, usage = saved["step"], CodebookUsage(saved["codes"])
            learner.load_state_dict(saved["learner"])
        drawn = self.data.batches(learner, range(begun, phase.steps))
        title = f"{phase.name} ({self.phases.index(phase) + 1} of {len(self.phases)})"
        bar = progress_bar(None, title, total=phase.steps, initial=begun, disable=not main)
        for step in range(begun + 1, phase.steps + 1):
            loss, logs, codes = learner.step(step - 1, [next(drawn) for _ in learner.micros])
            usage.add(codes, self.model.config.quantizer_config["num_codes"])
            bar.update()
            if step % config.log_every == 0:
                logs = {"loss": loss, **logs, **usage.measures()}
                bar.set_postfix_str(summary(logs), refresh=False)
                self._log(phase, step, logs)
            trouble = None
            if step % config.evaluate_every == 0 or step == phase.steps:
                with learner.averaged(), torch.compiler.set_stance("force_eager"):
                    trouble = self._evaluate(phase, step, learner.prepared, bar)
            stop = config.collapse.stop and agreed(self.accelerator, trouble is not None)
            if stop or self._due(step):
                self._save(phase, step, learner, usage)
            if stop:
                raise ColaWorldError(f"Stopped (trainer.collapse.stop): {trouble}")
        bar.close()
        learner.hand_over()
        with torch.no_grad(), autocast(self.model.device):
            phase.finish(self.model, train)
        self._save_model(phase)
        self._save(phase, phase.steps)
        self.accelerator.free_memory()

    def _evaluate(self, phase: Phase, step: int, prepared: Prepared, bar: tqdm[Any]) -> str | None:
        """Log the held-out measures of the main process; what they say is wrong is told once."""
        if not self.accelerator.is_main_process:
            return None
        measures = self._measures(phase, prepared)
        self._log(phase, step, measures)
        bar.write(f"{phase.name} {step}: {summary(measures)}")
        trouble = diagnosis(phase, step, measures, self.config.collapse)
        if trouble is not None and phase.name not in self._warned:
            self._warned.add(phase.name)
            bar.write(f"Warning: {trouble}")
        return trouble

    def _measures(self, phase: Phase, prepared: Prepared) -> dict[str, float]:
        """On held-out data; none when all of it has become unreadable, which ends no training."""
        try:
            held_out = self.data.held_out_for(phase, self.model)
            return phase.evaluate(self.model, held_out, prepared)
        except Unreadable as error:
            tqdm.write(str(error))
            return {}

    def _log(self, phase: Phase, step: int, values: dict[str, float]) -> None:
        self.history.write(phase.name, step, self._starts[phase.name] + step, values)

    def _due(self, step: int) -> bool:
        """Whether to save now: by the clock of the main process, or for good."""
        late = time.monotonic() - self._saved_at > self.config.save_seconds
        kept = self.config.keep_every is not None and step % self.config.keep_every == 0
        return agreed(self.accelerator, late) or kept

    def _save(
        self,
        phase: Phase,
        step: int,
        learner: Learner | None = None,
        usage: CodebookUsage | None = None,
    ) -> None:
        """A checkpoint; without ``learner``, that of the finished phase."""
        weights = self.model.state_dict() if learner is None else learner.weights()
        state: dict[str, Any] = {"model": weights, "history": self.history.size}
        if learner is not None and usage is not None:
            state |= {"learner": learner.state_dict(), "codes": usage.counts}
        if self.accelerator.is_main_process:
            self.checkpoints.save(phase.name, step, state)
        self.accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def _save_model(self, phase: Phase) -> None:
        if self.accelerator.is_main_process:
            write_folder(self.out / phase.name, self.model.save_pretrained)
