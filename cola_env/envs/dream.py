"""The dream itself: B imagined worlds side by side, one diffusion prediction a step.

`ColaWorldEnv` is a dream of one world, `ColaWorldVectorEnv` one of many; both only add Gymnasium's
bookkeeping to what is here.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cola_env.envs.dream_model import choose_mode, matching_classifier, open_model
from cola_env.envs.starts import Start, Starts
from cola_env.errors import ColaWorldError
from cola_env.inputs import (
    as_actions,
    as_goals,
    check_count,
    check_number,
    real_actions,
    to_bytes,
)
from cola_env.models.dream_state import DreamState
from cola_env.models.loading import pick_devices
from cola_env.models.precision import fast_dtype
from cola_env.models.replicas import SpreadState, replicated
from cola_env.processes import compute_alone_in_a_fork
from cola_env.rollout import Rollout
from cola_env.scoring.rewards import ClassifierReward, Reward, RewardName, is_judged, make_reward
from cola_env.scoring.trust import find_penalty
from cola_env.worlds import OWN, find_world

if TYPE_CHECKING:
    from cola_env.models.world_model import ColaWorldModel

RESET_OPTIONS = ("frame", "goal", "state", "actions", "pair")


@dataclass(frozen=True)
class DreamSnapshot:
    """All that a dream's future depends on; the memory is shared, as nothing ever writes to it.

    model: the settings of the model that the memory is of.
    second: what the second model of a trust penalty remembers, None without one.
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
    second: DreamState | None = None
    rngs: tuple[np.random.Generator, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What one step brought to the B worlds.

    rewards: float32 (B,). success_probability: float64 (B,) or None without a classifier.
    expected_psnr: float64 (B,), in dB, what the frames are expected to have to real ones; None
        without a trust penalty.
    terminated: bool (B,), where the classifier takes the task for solved.
    codes: int64 (B, tokens), the latent actions used, or None for a direct model.
    seconds: wall-clock time of the whole step, reward included, for all worlds together.
    """

    rewards: NDArray[np.float32]
    success_probability: NDArray[np.float64] | None
    expected_psnr: NDArray[np.float64] | None
    terminated: NDArray[np.bool_]
    codes: NDArray[np.int64] | None
    seconds: float


class DreamOptions(TypedDict, total=False):
    """What both environments take beside their own arguments, with the defaults of `Dream`.

    world: "robodesk", "libero", or "own": that of your model, of which nothing is shipped, so that
        reset() needs a "frame"; without a "goal" that frame is the goal, too.
    checkpoint: "cola", "direct", a folder, a hub id, or a loaded ColaWorldModel.
    device: "auto" (the GPU when there is one), "cpu", "cuda", ...
    devices: in its place several, ["cuda:0", "cuda:1"], that the worlds are spread over, and the
        candidates of rollout(); the first one also judges.
    action_mode: "real" (through the adapter), "latent" (codes) or "direct" (a model conditioned on
        real actions); None is the checkpoint's own.
    num_inference_steps, guidance_scale: of the diffusion sampler; None is the checkpoint's own.
    reward: "vp2", "vp2_sums", "mse", "mse_sums", "classifier", {name: weight} of some of these, or
        any Reward.
    trust_penalty: what the reward loses for each dB that a frame is expected to lie below 20 dB, as
        a second model that dreams on beside this one does not agree (see cola_env.scoring.trust);
        info then holds "expected_psnr". A step takes twice as long.
    goals: file of `cola goals`, whose pairs take the place of the shipped ones: starts to train
        from that are not those to be judged by.
    """

    world: str
    checkpoint: "str | Path | ColaWorldModel | None"
    device: str | torch.device
    devices: Sequence[str | torch.device] | None
    action_mode: str | None
    num_inference_steps: int | None
    guidance_scale: float | None
    reward: Reward | RewardName
    trust_penalty: float
    goals: str | Path | None


class Dream:
    """B worlds imagined by one model; the arguments are those of `DreamOptions`."""

    def __init__(
        self,
        batch: int,
        task: str | None = None,
        *,
        world: str = "robodesk",
        checkpoint: "str | Path | ColaWorldModel | None" = None,
        device: str | torch.device = "auto",
        devices: Sequence[str | torch.device] | None = None,
        action_mode: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        reward: Reward | RewardName = "vp2",
        trust_penalty: float = 0.0,
        goals: str | Path | None = None,
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
        first, *others = (device,) if devices is None else pick_devices(device, devices)
        self.model, folder = open_model(checkpoint, self.world, first)
        self.replicas = replicated(self.model, others)
        self.action_mode = choose_mode(self.model, action_mode, self.world)
        self.task = task
        self.batch = batch
        self.config: Mapping[str, Any] = self.model.config
        self._model_settings = json.dumps(
            {name: value for name, value in self.config.items() if not name.startswith("_")}
        )
        self._judged = is_judged(reward)
        classifier = matching_classifier(self.model, folder, self.world, self._judged)
        self.success: ClassifierReward | None = None
        if classifier is not None and classifier.discount == 0 and task in classifier.tasks:
            self.success = ClassifierReward(task, classifier)
            self.threshold = classifier.threshold
        self.reward = make_reward(reward, task, self.success or classifier)
        self.penalty = find_penalty(self.model, self.action_mode, self.world, trust_penalty)
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
            goals,
        )
        self.frame_shape = (self.image_size, self.image_size, 3)
        self._memory: DreamState | SpreadState | None = None
        self._second: DreamState | None = None
        self.frames = torch.zeros((batch, *self.frame_shape), dtype=torch.uint8, device=self.device)
        self.goals = self.frames.clone()
        self.steps = np.zeros(batch, np.int64)
        self.ended = np.zeros(batch, bool)
        self.noise = [torch.Generator() for _ in range(batch)]

    @property
    def device(self) -> torch.device:
        """Where the model computes, and its first replica where there are several."""
        return self.model.device

    @property
    def observation_space(self) -> spaces.Box:
        """Of one world."""
        return spaces.Box(0, 255, self.frame_shape, np.uint8)

    @property
    def action_space(self) -> spaces.Box | spaces.MultiDiscrete:
        """Of one world: real actions, or codes in the mode "latent"."""
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
        given = [start.actions for start in starts if start.actions is not None]
        actions = torch.stack(given).to(self.device) if given else None
        second = None if self.penalty is None else self.penalty.begin(frames, actions)
        self._remember(where, self.model.begin(frames, actions), second)
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
        for name in ("frame", "pair"):
            if name in options:
                raise ColaWorldError(f"Give options['state'] or options['{name}'], not both.")
        snapshot = self._checked(options["state"])
        goals = snapshot.goals
        if "goal" in options:
            leading = () if np.ndim(options["goal"]) == 3 else (self.batch,)
            goals = as_goals(options["goal"], self.image_size, leading)
            goals = goals.to(self.device).expand_as(snapshot.goals)
        where = torch.as_tensor(rows, device=self.device)
        second = None if snapshot.second is None else snapshot.second.select(where)
        self._remember(where, snapshot.memory.select(where), second)
        self.frames[where], self.goals[where] = snapshot.frames[where], goals[where]
        self._reseed(rows, [int(rngs[row].integers(2**31)) for row in rows])

    @torch.no_grad()
    def step(self, actions: Tensor) -> Prediction:
        """Advance every world by its row of `actions` (B, A), see check_actions."""
        start = time.perf_counter()
        second = None if self._second is None else self._draw_steps(1, self._second)[0]
        noise = self._draw(self.noise, self._begun)
        self._memory = self.replicas.step(self._begun, actions, noise=noise, **self._settings)
        self.frames = self.replicas.frames(self._memory)
        codes = self._memory.codes
        images = self.frames.float() / 255
        rewards, expected = self.reward(images, self.goals.float() / 255).float(), None
        if self.penalty is not None and self._second is not None and second is not None:
            self._second, trust = self.penalty.step(self._second, self.frames, actions, second)
            rewards, expected = rewards - self.penalty.cost(trust), trust.double().cpu().numpy()
        probability, solved = None, np.zeros(self.batch, bool)
        if self.success is not None:
            logit = self.success.last if self._judged else self.success.logit(images)
            probability = logit.sigmoid().double().cpu().numpy()
            solved = probability > self.threshold
        self.steps += 1
        return Prediction(
            rewards.cpu().numpy(),
            probability,
            expected,
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
        noise = self._draw_steps(actions.shape[2], self._begun)
        made = self.replicas.rollout(self._begun, actions, noise=noise, **self._settings)
        made = to_bytes(made)
        rewards = self.reward(made.float() / 255, self.goals.float() / 255).float()
        if self.penalty is not None and self._second is not None:
            noise = self._draw_steps(actions.shape[2], self._second)
            trust = self.penalty.rollout(self._second, made, actions, noise)
            rewards = rewards - self.penalty.cost(trust)
        return Rollout(made, rewards)

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
        begun = self._begun
        return begun.whole() if isinstance(begun, SpreadState) else begun

    def snapshot(self) -> DreamSnapshot:
        """The present state of all worlds, for ``restore``."""
        return DreamSnapshot(
            self._model_settings,
            self.memory,
            self.frames.clone(),
            self.goals.clone(),
            self.steps.copy(),
            self.ended.copy(),
            tuple(generator.get_state() for generator in self.noise),
            self._second,
        )

    def restore(self, snapshot: DreamSnapshot) -> None:
        """Continue from a snapshot, of this or of another dream of the same model and size."""
        snapshot = self._checked(snapshot)
        self._memory, self._second = snapshot.memory, snapshot.second
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
        if (snapshot.second is None) != (self.penalty is None):
            raise ColaWorldError(
                "This snapshot is of a dream with another trust_penalty: restore it into one that "
                "has one where the first had one."
            )
        dtype = fast_dtype(self.device) or self.model.dtype
        return replace(
            snapshot,
            memory=snapshot.memory.to(self.device, dtype),
            second=None if snapshot.second is None else snapshot.second.to(self.device, dtype),
            frames=snapshot.frames.to(self.device),
            goals=snapshot.goals.to(self.device),
        )

    @property
    def _begun(self) -> DreamState | SpreadState:
        """The memory where it lies."""
        if self._memory is None:
            raise ColaWorldError("There is no world yet: call reset() first.")
        return self._memory

    def _reseed(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        for row, seed in zip(rows, seeds, strict=True):
            self.noise[row].manual_seed(seed)
            self.steps[row] = 0
            self.ended[row] = False

    def _remember(self, where: Tensor, begun: DreamState, second: DreamState | None) -> None:
        """What the model, and the second one of a penalty, remember of the worlds at `where`."""
        if len(where) == self.batch:
            self._memory, self._second = begun, second
        else:
            self._memory = self._begun.put(where, begun)
            if self._second is not None and second is not None:
                self._second = self._second.put(where, second)

    def _draw_steps(self, steps: int, state: DreamState | SpreadState) -> Tensor:
        """The noise (H, B, C, h, w) of the next steps for latents like those of `state`, which
        stays to be drawn. A step takes as many numbers as the model's own latents have."""
        generators, noise = [generator.clone_state() for generator in self.noise], []
        for _ in range(steps):
            noise.append(self._draw([each.clone_state() for each in generators], state))
            self._draw(generators, self._begun)
        return torch.stack(noise)

    def _draw(
        self, generators: Sequence[torch.Generator], state: DreamState | SpreadState
    ) -> Tensor:
        """One noise (C, h, w) for the latents of `state` from each world's own generator."""
        shape = state.latents.shape[1:]
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.stack(noise).to(self.device)
