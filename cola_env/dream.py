"""The dream itself: B imagined worlds side by side, one diffusion prediction a step.

`ColaWorldEnv` is a dream of one world, `ColaWorldVectorEnv` one of many; both only add Gymnasium's
bookkeeping to what is here.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cola_env.dream_model import choose_mode, matching_classifier, open_model
from cola_env.errors import ColaWorldError
from cola_env.forks import compute_alone_in_a_fork
from cola_env.inputs import as_actions, as_goals, check_count, check_number, real_actions
from cola_env.models.past import DreamState
from cola_env.models.pictures import to_bytes
from cola_env.models.precision import fast_dtype
from cola_env.rewards import ClassifierReward, Reward, RewardName, is_judged, make_reward
from cola_env.rollout import Rollout
from cola_env.starts import Start, Starts
from cola_env.worlds import OWN, find_world

if TYPE_CHECKING:
    from cola_env.models.world_model import ColaWorldModel

RESET_OPTIONS = ("frame", "goal", "state", "actions")


@dataclass(frozen=True)
class DreamSnapshot:
    """All that a dream's future depends on; the memory is shared, as nothing ever writes to it.

    model: the settings of the model that the memory is of.
    ended: which worlds of a vector environment begin anew with its next step, bool (B,).
    rngs: what a vector environment then draws their starts with, a generator a world.
    """

    model: str
    memory: DreamState
    frames: Tensor
    goals: Tensor
    steps: NDArray[np.int64]
    ended: NDArray[np.bool_]
    noise: tuple[Tensor, ...]
    rngs: tuple[np.random.Generator, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What one step brought to the B worlds.

    rewards: float32 (B,). success_probability: float64 (B,) or None without a classifier.
    terminated: bool (B,), where the classifier takes the task for solved.
    codes: int64 (B, tokens), the latent actions used, or None for a direct model.
    seconds: wall-clock time of the whole step, reward included, for all worlds together.
    """

    rewards: NDArray[np.float32]
    success_probability: NDArray[np.float64] | None
    terminated: NDArray[np.bool_]
    codes: NDArray[np.int64] | None
    seconds: float


class Dream:
    """B worlds imagined by one model; the arguments are those of `ColaWorldEnv`."""

    def __init__(
        self,
        batch: int,
        *,
        world: str,
        task: str | None,
        checkpoint: "str | Path | ColaWorldModel | None",
        device: str | torch.device,
        action_mode: str | None,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        reward: Reward | RewardName,
    ) -> None:
        compute_alone_in_a_fork()
        self.world = OWN if world == OWN.name else find_world(world)
        task = task or self.world.goal_tasks[0]
        if task not in self.world.tasks:
            raise ColaWorldError(
                f"Unknown task '{task}'; choose one of {', '.join(self.world.tasks)}."
            )
        if num_inference_steps is not None:
            check_count("num_inference_steps", num_inference_steps)
        if guidance_scale is not None:
            check_number("guidance_scale", guidance_scale, least=0)
        self.model, folder = open_model(checkpoint, self.world, device)
        self.action_mode = choose_mode(self.model, action_mode, self.world)
        self.task = task
        self.batch = batch
        self.config: Mapping[str, Any] = self.model.config
        self._model_settings = json.dumps(
            {name: value for name, value in self.config.items() if not name.startswith("_")}
        )
        classifier = matching_classifier(self.model, folder, self.world, is_judged(reward))
        self.reward = make_reward(reward, task, classifier)
        self.success: ClassifierReward | None = None
        if classifier is not None and classifier.discount == 0 and task in classifier.tasks:
            self.success = ClassifierReward(task, classifier)
            self.threshold = classifier.threshold
        self._settings: dict[str, Any] = {
            "action_mode": self.action_mode,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
        }
        self.image_size = int(self.config["image_size"])
        self.starts = Starts(
            self.world,
            task,
            str(self.config["rendering"]),
            self.image_size,
            int(self.config["action_dim"]) if self.action_mode == "direct" else None,
        )
        self.frame_shape = (self.image_size, self.image_size, 3)
        self._memory: DreamState | None = None
        self.frames = torch.zeros((batch, *self.frame_shape), dtype=torch.uint8, device=self.device)
        self.goals = self.frames.clone()
        self.steps = np.zeros(batch, np.int64)
        self.ended = np.zeros(batch, bool)
        self.noise = [torch.Generator() for _ in range(batch)]

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(0, 255, self.frame_shape, np.uint8)

    @property
    def action_space(self) -> spaces.Box | spaces.MultiDiscrete:
        if self.action_mode == "latent":
            quantizer = self.model.quantizer.config
            return spaces.MultiDiscrete([quantizer.num_codes] * quantizer.num_tokens)
        return real_actions(int(self.config["action_dim"]))

    @property
    def observations(self) -> NDArray[np.uint8]:
        """The worlds' present frames, uint8 (B, 64, 64, 3), a copy."""
        return self.frames.to("cpu", copy=True).numpy()

    def begin(self, rows: Sequence[int], starts: Sequence[Start]) -> None:
        """Start the worlds `rows` anew, one of `starts` each (all with equally many frames)."""
        where = torch.as_tensor(rows, device=self.device)
        frames = torch.stack([start.frames for start in starts]).to(self.device)
        actions = [start.actions for start in starts if start.actions is not None]
        begun = self.model.begin(frames, torch.stack(actions).to(self.device) if actions else None)
        everyone = len(rows) == self.batch
        self._memory = begun if everyone else self.memory.put(where, begun)
        self.frames[where] = frames[:, -1]
        self.goals[where] = torch.stack([start.goal for start in starts]).to(self.device)
        self._reseed(rows, [start.seed for start in starts])

    def begin_at(
        self,
        rows: Sequence[int],
        options: Mapping[str, Any],
        rngs: Sequence[np.random.Generator],
    ) -> None:
        """Start the worlds `rows` from their rows of options["state"], with new noise, 0 steps."""
        if "frame" in options:
            raise ColaWorldError("Give options['state'] or options['frame'], not both.")
        snapshot = self._checked(options["state"])
        goals = snapshot.goals
        if "goal" in options:
            leading = () if np.ndim(options["goal"]) == 3 else (self.batch,)
            goals = as_goals(options["goal"], self.image_size, leading)
            goals = goals.to(self.device).expand_as(snapshot.goals)
        where = torch.as_tensor(rows, device=self.device)
        begun = snapshot.memory.select(where)
        everyone = len(rows) == self.batch
        self._memory = begun if everyone else self.memory.put(where, begun)
        self.frames[where], self.goals[where] = snapshot.frames[where], goals[where]
        self._reseed(rows, [int(rngs[row].integers(2**31)) for row in rows])

    @torch.no_grad()
    def step(self, actions: Tensor) -> Prediction:
        """Advance every world by its row of `actions` (B, A), see check_actions."""
        start = time.perf_counter()
        noise = self._draw(self.noise)
        self._memory = self.model.step(self.memory, actions, noise=noise, **self._settings)
        self.frames = self.model.frames(self._memory)
        codes = self._memory.codes
        images = self.frames.float() / 255
        rewards = self.reward(images, self.goals.float() / 255).float().cpu().numpy()
        probability = self.success_probability()
        solved = np.zeros(self.batch, bool)
        if probability is not None:
            solved = probability > self.threshold
        self.steps += 1
        return Prediction(
            rewards,
            probability,
            solved,
            None if codes is None else codes.cpu().numpy(),
            time.perf_counter() - start,
        )

    @torch.no_grad()
    def rollout(self, actions: Tensor) -> Rollout:
        """Imagine `actions` (B, N, H, A) from the present state, which stays as it is.

        The N candidates of a world share its next noise (common random numbers), so that each is
        what stepping with it would have given.
        """
        generators = [generator.clone_state() for generator in self.noise]
        noise = torch.stack([self._draw(generators) for _ in range(actions.shape[2])])
        made = to_bytes(self.model.rollout(self.memory, actions, noise=noise, **self._settings))
        rewards = self.reward(made.float() / 255, self.goals.float() / 255)
        return Rollout(made, rewards.float())

    @torch.no_grad()
    def success_probability(self) -> NDArray[np.float64] | None:
        """The classifier's probability that the present frames show success, float64 (B,).

        None for a task without a classifier.
        """
        if self.success is None:
            return None
        return self.success.success_probability(self.frames.float() / 255).double().cpu().numpy()

    @property
    def memory(self) -> DreamState:
        """What the model remembers of the B worlds; ColaWorldError before the first reset."""
        if self._memory is None:
            raise ColaWorldError("There is no world yet: call reset() first.")
        return self._memory

    def snapshot(self) -> DreamSnapshot:
        return DreamSnapshot(
            self._model_settings,
            self.memory,
            self.frames.clone(),
            self.goals.clone(),
            self.steps.copy(),
            self.ended.copy(),
            tuple(generator.get_state() for generator in self.noise),
        )

    def restore(self, snapshot: DreamSnapshot) -> None:
        """Continue from a snapshot, of this or of another dream of the same model and size."""
        snapshot = self._checked(snapshot)
        self._memory = snapshot.memory
        self.frames = snapshot.frames.clone()
        self.goals = snapshot.goals.clone()
        self.steps = snapshot.steps.copy()
        self.ended = snapshot.ended.copy()
        for generator, state in zip(self.noise, snapshot.noise, strict=True):
            generator.set_state(state)

    def check_actions(self, actions: ArrayLike | Tensor, *leading: int | str) -> Tensor:
        """Actions for `step` or `rollout`, see cola_env.inputs.as_actions."""
        return as_actions(actions, self.action_space, leading)

    def _checked(self, snapshot: Any) -> DreamSnapshot:
        if not isinstance(snapshot, DreamSnapshot) or len(snapshot.frames) != self.batch:
            raise ColaWorldError(
                f"restore() and options['state'] take what snapshot() of a dream of {self.batch} "
                "world(s) returned."
            )
        if snapshot.model != self._model_settings:
            raise ColaWorldError(
                "This snapshot is of a dream of another model: restore it into one that was made "
                "with the same checkpoint."
            )
        return replace(
            snapshot,
            memory=snapshot.memory.to(self.device, fast_dtype(self.device) or self.model.dtype),
            frames=snapshot.frames.to(self.device),
            goals=snapshot.goals.to(self.device),
        )

    def _reseed(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        for row, seed in zip(rows, seeds, strict=True):
            self.noise[row].manual_seed(seed)
            self.steps[row] = 0
            self.ended[row] = False

    def _draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """One noise (C, h, w) from each world's own generator."""
        shape = self.memory.latents.shape[1:]
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.stack(noise).to(self.device)
