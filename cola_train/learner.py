"""One phase's optimisation, on one process or many: its gradients, and the codebook's upkeep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.from_diffusers import from_diffusers
from cola_env.models.latent_action.codebook_health import code_counts, count_measures
from cola_env.models.latent_action.quantizer import VectorQuantizer
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.batches import step_generator
from cola_train.data.clips import ClipBatch
from cola_train.distributed import load_whole, shardable_copy, sharded_like, whole, whole_state
from cola_train.phases.phase import LatentActionPhase, Logs, Loss, Phase, Prepared, Step

T = TypeVar("T")


class ModelCall(nn.Module):
    """A model whose forward is any function of it, so that the wrappers of DDP and FSDP2 see all
    that a phase does with it."""

    def __init__(self, model: ColaWorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *args: Any) -> T:
        return function(self.model, *args)


class Learner:
    """Gradient steps of ``phase``.

    The global batch of a step is cut into ``accelerator.num_processes`` times
    ``accelerator.gradient_accumulation_steps`` micro-batches; process p computes those whose number
    leaves the rest p. What a micro-batch holds and its noise depend on its number alone, and the
    gradient is the mean of theirs, so that who computes them changes nothing but rounding. The loss
    of a phase may be a weighted mean over its micro-batch (FlowMatching weighs moving latents): the
    mean over the micro-batches gives each the same say, whatever the sum of its weights.

    ``model`` is whole in every process. Under FSDP2 it is a sharded copy that learns, and
    ``averaged`` and ``hand_over`` bring what it has learned to ``model``.

    Raises:
        ColaWorldError: the micro-batches would not be of equal size.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: ColaWorldModel,
        phase: Phase,
        prepared: Prepared,
        seed: int,
        max_gradient_norm: float,
        compiled: bool,
    ) -> None:
        self.accelerator, self.model = accelerator, model
        self.phase, self.prepared = phase, prepared
        self.seed, self.max_gradient_norm = seed, max_gradient_norm
        processes, accumulated = accelerator.num_processes, accelerator.gradient_accumulation_steps
        self.micros = range(accelerator.process_index, processes * accumulated, processes)
        self.micro_size = micro_size(accelerator, phase)
        self.learning = shardable_copy(model, compiled) if accelerator.is_fsdp2 else model
        # Compiled for a CPU, a block that gradients pass through is twice as slow without gradients
        # of its weights (the layouts then make matrix products copy), so that all get them.
        self.learning.requires_grad_(compiled and accelerator.device.type == "cpu")
        self.upkeep = codebook_upkeep(phase, self.learning)
        groups = []
        for name, component in phase.components(self.learning).items():
            component.requires_grad_(True)
            lr = phase.lr * phase.lr_scale.get(name, 1.0)
            groups.append({"params": list(component.parameters()), "lr": lr})
        optimizer = torch.optim.AdamW(
            groups, weight_decay=phase.weight_decay, betas=(0.9, 0.99), fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, phase)
        )
        self.module, self.optimizer = accelerator.prepare(ModelCall(self.learning), optimizer)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.ema = from_diffusers("training_utils").EMAModel(
            self.parameters, decay=phase.ema_decay, inv_gamma=1.0, use_ema_warmup=False
        )

    def step(self, step: int, batches: Sequence[ClipBatch]) -> tuple[float, Logs, Tensor | None]:
        """One optimiser step on this process's micro-batches.

        Returns:
            The loss and the logs, means over all micro-batches, and the codes of all of them.

        Raises:
            ColaWorldError: the loss is not finite; no weight has changed.
        """
        phase, accelerator = self.phase, self.accelerator
        generators = [self._generator(step, micro) for micro in self.micros]
        first = self._generator(step, 0) if self.micros[0] else generators[0]
        losses = list[Loss]()
        self.learning.zero_grad(set_to_none=True)

        def infer_tokens() -> Tensor:
            return self.gathered([self._tokens(batch) for batch in batches])

        if self.upkeep is not None:
            self.upkeep.before_losses(step, infer_tokens, first)
        for batch, generator in zip(batches, generators, strict=True):
            torch.manual_seed(generator.initial_seed())
            with accelerator.accumulate(self.module), accelerator.autocast():
                loss: Loss = self.module(phase.loss, batch, Step(step, generator, self.prepared))
                accelerator.backward(loss.value)
            losses.append(loss._replace(value=loss.value.detach()))
        seen = [loss.codes for loss in losses if loss.codes is not None]
        codes = self.gathered(seen) if seen else None
        if self.upkeep is not None:
            self.upkeep.after_losses(codes)
        values = torch.stack([loss.value for loss in losses])
        mean = float(accelerator.reduce(values.mean(), "mean"))
        if not math.isfinite(mean):
            raise ColaWorldError(
                f"The loss of phase {phase.name} is not finite at step {step}: lower its lr; "
                "the last checkpoint is kept."
            )
        accelerator.clip_grad_norm_(self.parameters, self.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.ema.step(self.parameters)
        return mean, self._mean([loss.logs for loss in losses]), codes

    def gathered(self, parts: list[Tensor]) -> Tensor:
        """What each micro-batch of this process has, (n, ...), and those of the others: (N, ...) in
        the order of their numbers."""
        everyone = self.accelerator.gather(torch.stack(parts))
        by_process = everyone.unflatten(0, (-1, len(parts)))
        return by_process.transpose(0, 1).flatten(0, 2)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """``model`` with the moving average of the weights in place."""
        self.ema.store(self.parameters)
        self.hand_over()
        yield
        self.ema.restore(self.parameters)

    def hand_over(self) -> None:
        """Give ``model`` the moving average of the weights."""
        self.ema.copy_to(self.parameters)
        if self.learning is not self.model:
            self.model.load_state_dict(whole_state(self.learning))

    def weights(self) -> dict[str, Tensor]:
        return whole_state(self.learning)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = whole(
            {
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "ema": self.ema.state_dict(),
            }
        )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of ``state_dict``; the weights are those of the ``model`` that it was made with."""
        moments = state["optimizer"]["state"]
        for number, parameter in enumerate(self.parameters):
            for name, value in moments.get(number, {}).items():
                if value.shape == parameter.shape:
                    moments[number][name] = sharded_like(value, parameter)
        shadows = state["ema"]["shadow_params"]
        shadows = [sharded_like(s, p) for s, p in zip(shadows, self.parameters, strict=True)]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.ema.load_state_dict(state["ema"] | {"shadow_params": shadows})
        self.ema.to(self.accelerator.device)

    def _generator(self, step: int, micro: int) -> torch.Generator:
        return step_generator(self.seed, self.phase.name, step, "loss", micro)

    @torch.no_grad()
    def _tokens(self, batch: ClipBatch) -> Tensor:
        """The IDM's tokens (n, tokens, code_size) of a micro-batch."""
        with self.accelerator.autocast():
            tokens: Tensor = self.module(action_tokens, batch)
        if isinstance(self.module, FSDPModule):
            self.module.reshard()
        return tokens

    def _mean(self, logs: list[Logs]) -> Logs:
        values = torch.tensor([[log[key] for key in logs[0]] for log in logs], dtype=torch.float64)
        values = self.accelerator.reduce(values.mean(0).to(self.accelerator.device), "mean")
        return dict(zip(logs[0], values.tolist(), strict=True))


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
            fitted, tokens = self._whole_copy(), infer_tokens()
            fitted.fit_statistics(tokens)
            fitted.fit_codebook(tokens, generator)
            load_whole(self.quantizer, fitted.state_dict())
        elif self._learns and phase.restarts_codes(step):
            self._restarted, tokens = self._whole_copy(), infer_tokens()
            self._restarted.fit_statistics(tokens)
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


def micro_size(accelerator: Accelerator, phase: Phase) -> int:
    """Of each micro-batch of a step. Raises ColaWorldError when they would not be of equal size."""
    processes, accumulated = accelerator.num_processes, accelerator.gradient_accumulation_steps
    return equal_parts(phase, processes, accumulated)


def equal_parts(phase: Phase, processes: int, accumulated: int) -> int:
    """The size of each of the micro-batches that ``processes`` make ``accumulated`` of in a step.

    Raises ColaWorldError when they would not be of equal size."""
    size, rest = divmod(phase.batch_size, processes * accumulated)
    if rest or not size:
        raise ColaWorldError(
            f"phases.{phase.name}.batch_size={phase.batch_size} cannot be cut into "
            f"{processes} (processes) x {accumulated} (trainer.accumulation) equal parts: "
            f"choose a multiple of {processes * accumulated}."
        )
    return size


def codebook_upkeep(phase: Phase, model: ColaWorldModel) -> CodebookUpkeep | None:
    """None for a phase without latent actions, and for those without codes."""
    if not isinstance(phase, LatentActionPhase) or not phase.has_latent_actions:
        return None
    quantizer = model.quantizer
    return CodebookUpkeep(phase, quantizer) if isinstance(quantizer, VectorQuantizer) else None


def action_tokens(model: ColaWorldModel, batch: ClipBatch) -> Tensor:
    return model.action_tokens(batch.frames, batch.latents).flatten(0, -3)


class Schedule(Protocol):
    """Settings of a learning rate, see `Phase`."""

    @property
    def steps(self) -> int: ...

    @property
    def lr_warmup(self) -> int: ...

    @property
    def lr_end(self) -> float: ...


def learning_rate(step: int, phase: Schedule) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine to ``lr_end``."""
    if step < phase.lr_warmup:
        return (step + 1) / phase.lr_warmup
    done = (step - phase.lr_warmup) / max(1, phase.steps - phase.lr_warmup)
    return phase.lr_end + (1 - phase.lr_end) * 0.5 * (1 + math.cos(done * math.pi))
