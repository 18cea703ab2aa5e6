"""What a run trains on and is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from cola_env.models.world_model import ColaWorldModel
from cola_train.checks import check_data
from cola_train.data.clips import Batch, TrainingData
from cola_train.data.encoding import encoded
from cola_train.data.loader import batches
from cola_train.learner import Learner
from cola_train.phases import Phase
from cola_train.processes import one_by_one


class Feed:
    """Training and held-out data; with latents, once a phase reads them.

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
            with one_by_one(accelerator):
                self._encode(model)
        self._encoded = True

    def of(self, phase: Phase) -> TrainingData:
        return self.train.with_actions() if phase.needs_actions else self.train

    def held_out_of(self, phase: Phase, model: ColaWorldModel) -> TrainingData:
        acted = phase.needs_actions or model.config.conditioning == "direct"
        return self.held_out.with_actions() if acted else self.held_out

    def batches(self, learner: Learner, steps: range) -> Iterator[Batch]:
        """This process's micro-batches of the steps, on its device."""
        phase, model = learner.phase, learner.model
        draw = partial(phase.draw, count=learner.micro_size)
        for batch in batches(self.of(phase), draw, self.seed, phase.name, steps, learner.micros):
            batch = batch.to(model.device)
            yield batch.encoded(model) if phase.on_latents else batch

    def _encode(self, model: ColaWorldModel) -> None:
        self.train = encoded(self.train, model, self.cache)
        self.held_out = encoded(self.held_out, model, self.cache)
