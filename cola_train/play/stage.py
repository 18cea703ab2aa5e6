"""A dream and its real twin under the same actions, how far the dream can be trusted, and the way
back."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

import cola_env  # noqa: F401  registers the environments
from cola_env.envs.dream import Dream
from cola_env.envs.dream_env import ColaWorldEnv
from cola_env.envs.pair import make_pair
from cola_env.envs.starts import CONTEXT, behind
from cola_env.errors import ColaWorldError
from cola_env.scoring.psnr import frame_psnr
from cola_env.scoring.trust import TRUSTED, TrustSignal, find_signal
from cola_env.worlds import OWN, find_world
from cola_train.play.starts import Clips, Pairs, Starts

STEPS_BACK = 100

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Choice:
    """What to dream of, and with what; the arguments are those of `cola_env.make_pair`.

    data: for a model of the caller's own video, where its starts come from; None: its training.
    """

    env: str
    task: str | None
    checkpoint: str | None
    action_mode: str | None = None
    device: str = "auto"
    data: Any = None


@dataclass(frozen=True)
class Shot:
    """What is seen after a step.

    twin: the real frame, None without one. success: probability by the classifier, None without
    one. solved: whether the real task is. expected: PSNR in dB that `dream` probably has to the
    real frame, None where it is one. psnr: what it has, None without a twin.
    """

    dream: Frame
    twin: Frame | None
    success: float | None
    solved: bool | None
    expected: float | None
    psnr: float | None

    @property
    def trusted(self) -> bool:
        return self.expected is None or self.expected >= TRUSTED


@dataclass(frozen=True)
class Moment:
    """All that it takes to come back to a shot; `steps` since the start of the episode."""

    shot: Shot
    steps: int
    dream: Any
    twin: Any
    memory: Any


class Stage:
    """Plays one choice; begins with `reset`. Everything is called from one thread, which the
    simulator's OpenGL context belongs to; the dream is computed in another beside it.

    Raises ColaWorldError for a choice that there is not.
    """

    def __init__(self, choice: Choice, twin: bool = True) -> None:
        self.choice = choice
        self._dream_env, self._twin, self.twin_absent = _open(choice)
        self.env: ColaWorldEnv = self._dream_env.unwrapped
        dream = self.env.dream
        self.starts = _starts(dream, choice)
        self.signal: TrustSignal = find_signal(dream.model, dream.action_mode, dream.world)
        self.twin_on = twin and self._twin is not None
        self.pair = 0
        self.moments: deque[Moment] = deque(maxlen=STEPS_BACK + 1)
        self.actions: list[NDArray[Any]] = []
        self._memory: Any = None
        self._thread = ThreadPoolExecutor(1)

    @property
    def dream(self) -> Dream:
        return self.env.dream

    @property
    def now(self) -> Moment:
        return self.moments[-1]

    @property
    def goal(self) -> Frame:
        goal: Frame = self.dream.goals[0].cpu().numpy()
        return goal

    def reset(self, pair: int) -> Shot:
        """Begins at the start `pair`; ColaWorldError where there is none."""
        if not 0 <= pair < self.starts.count:
            raise ColaWorldError(f"There are the starts 0 to {self.starts.count - 1}, no {pair}.")
        self.pair = pair
        self.actions.clear()
        self.moments.clear()
        info = self._begin_dream(self.starts.options(pair), pair)
        twin = self._restart_twin() if self.twin_on else None
        return self._keep(self._shot(info, twin, False, None))

    def step(self, action: NDArray[Any]) -> Shot:
        """Dream and twin under an action (A,), or the dream under codes (tokens,)."""
        imagined = self._thread.submit(self._imagine, action)
        real, solved, failure = None, None, None
        if self.twin_on:
            try:
                real, _, _, _, info = self._twin.step(action)
                solved = bool(self.now.shot.solved) or bool(info["success"])
            except Exception as error:  # whatever a simulator raises where its physics diverges
                failure = error
        about, expected = imagined.result()
        if failure is not None:
            self._return_to(self.now)
            raise ColaWorldError(
                f"The real simulator cannot take this step ({failure}): take another, or one back."
            ) from failure
        self.actions.append(action)
        return self._keep(self._shot(about, real, solved, expected))

    def back(self) -> Shot | None:
        """Takes the last step back; None where there is none, or none that is remembered."""
        if len(self.moments) < 2:
            return None
        self.moments.pop()
        self._return_to(self.now)
        if self.twin_on and self.now.twin is None:
            self._keep_again(self._beside_twin())
        return self.now.shot

    def wake(self) -> Shot | None:
        """The dream goes on from the twin's last real frames; None without a twin."""
        if not self.twin_on:
            return None
        past = [moment.shot.twin for moment in list(self.moments)[-CONTEXT:]]
        frames = [frame for frame in past if frame is not None]
        info = self._begin_dream(behind(frames, self.actions, self.goal), self.now.steps)
        self._keep_again(self._shot(info, frames[-1], self.now.shot.solved, None))
        return self.now.shot

    def set_twin(self, on: bool) -> Shot:
        """Lets the twin come along: to the same step of the same episode. ColaWorldError where
        there is none."""
        if on and self._twin is None:
            raise ColaWorldError(f"There is no twin here: {self.twin_absent}")
        if on != self.twin_on:
            self.twin_on = on
            without = replace(self.now.shot, twin=None, solved=None, psnr=None)
            self._keep_again(self._beside_twin() if on else without)
        return self.now.shot

    def close(self) -> None:
        self._thread.shutdown()
        if self._twin is not None:
            self._twin.close()

    def _imagine(self, action: NDArray[Any]) -> tuple[dict[str, Any], float]:
        actions = self.dream.check_actions(action)[None]
        _, _, _, _, info = self.env.step(action)
        self._memory, compared = self.signal.step(
            self._memory, self.dream.memory, self.dream.frames, actions
        )
        return info, float(self.signal.line(compared)[0])

    def _return_to(self, moment: Moment) -> None:
        del self.actions[moment.steps :]
        self.env.restore(moment.dream)
        self._memory = moment.memory
        if self.twin_on and moment.twin is not None:
            self._twin.unwrapped.restore(moment.twin)

    def _begin_dream(self, options: dict[str, Any], seed: int) -> dict[str, Any]:
        _, info = self.env.reset(seed=seed, options=options)
        frames = torch.as_tensor(options.get("frame", self.dream.observations[0]))
        actions = options.get("actions")
        self._memory = self.signal.begin(
            (frames if frames.ndim == 4 else frames[None])[None],
            None if actions is None else torch.as_tensor(actions)[None],
        )
        return info

    def _restart_twin(self) -> Frame:
        frame: Frame
        frame, _ = self._twin.reset(seed=self.pair, options=self.starts.options(self.pair))
        return frame

    def _beside_twin(self) -> Shot:
        """The present shot with the twin's frame after all actions so far."""
        frame, solved = self._restart_twin(), False
        for action in self.actions:
            frame, _, _, _, info = self._twin.step(action)
            solved = solved or bool(info["success"])
        shot = self.now.shot
        return replace(shot, twin=frame, solved=solved, psnr=_psnr(shot.dream, frame))

    def _shot(
        self, info: dict[str, Any], twin: Frame | None, solved: bool | None, expected: float | None
    ) -> Shot:
        frame = self.dream.observations[0]
        success = info.get("success_probability")
        return Shot(
            frame,
            twin,
            None if success is None else float(success),
            None if twin is None else bool(solved),
            expected,
            _psnr(frame, twin),
        )

    def _keep(self, shot: Shot) -> Shot:
        twin = self._twin.unwrapped.snapshot() if self.twin_on else None
        steps = len(self.actions)
        self.moments.append(Moment(shot, steps, self.env.snapshot(), twin, self._memory))
        return shot

    def _keep_again(self, shot: Shot) -> None:
        """In place of the present moment."""
        self.moments.pop()
        self._keep(shot)


def _psnr(dream: Frame, twin: Frame | None) -> float | None:
    if twin is None:
        return None
    return float(frame_psnr(torch.from_numpy(dream), torch.from_numpy(twin)))


def _starts(dream: Dream, choice: Choice) -> Starts:
    if dream.world is OWN:
        return Clips(dream, choice.checkpoint, choice.data)
    return Pairs(dream)


def _open(choice: Choice) -> tuple[Any, Any, str]:
    """The dream, its twin or None, and why there is none."""
    options: dict[str, Any] = {
        "checkpoint": choice.checkpoint,
        "action_mode": choice.action_mode,
        "device": choice.device,
        "max_episode_steps": -1,
    }
    if choice.env == OWN.name:
        dream = gymnasium.make("ColaWorld-Own-v0", **options)
        return dream, None, "there is no simulator of your own video."
    world = find_world(choice.env)
    options["task"] = choice.task
    absent = "latent action codes mean nothing to a real robot."
    if choice.action_mode != "latent":
        try:
            return *make_pair(world=world, **options), ""
        except (ImportError, RuntimeError) as error:
            absent = str(error)
    return gymnasium.make(f"ColaWorld-{world.simulator}-v0", **options), None, absent
