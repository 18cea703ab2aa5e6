"""What happens at the controls: each message of the page changes the stage and the recording."""

from __future__ import annotations

import io
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cola_env.checkpoints import SHIPPED
from cola_env.errors import ColaWorldError
from cola_env.scoring.trust import TRUSTED
from cola_env.worlds import OWN
from cola_train.play.controls import Axis, Controls
from cola_train.play.driver import Driver, DriverConfig, Ghosts
from cola_train.play.messages import (
    Act,
    Back,
    Choose,
    Codes,
    Drive,
    Message,
    Record,
    Reset,
    Twin,
    Wake,
)
from cola_train.play.recording import Recorder, Source
from cola_train.play.stage import Choice, Shot, Stage


@dataclass
class PlayConfig:
    """env: "robodesk", "libero", "own" (a model of your own video), or MODULE:NAME.
    task: None: the world's first. checkpoint: one, or a list for the menu; None: the shipped ones.
    action_mode: "latent" plays codes. data: of "own", where its starts come from; None: what the
    checkpoint was trained on. twin: whether the real simulator comes along at the start.
    out: folder of recordings."""

    env: str = "robodesk"
    task: str | None = None
    checkpoint: Any = None
    action_mode: str | None = None
    device: str = "auto"
    data: Any = None
    twin: bool = True
    out: str = "runs/play"
    driver: DriverConfig = field(default_factory=DriverConfig)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Those of the menu."""
        if self.checkpoint is None:
            return () if self.env == OWN.name else SHIPPED
        if isinstance(self.checkpoint, str | Path):
            return (str(self.checkpoint),)
        return tuple(str(each) for each in self.checkpoint)


@dataclass(frozen=True)
class Menu:
    """What the page needs to know of a choice.

    codes: of each token all codes, the most frequent first; empty for real actions.
    twin_absent, driver_absent: why there is none; "" where there is.
    signal: what the expected PSNR is told by; limit: dB below which it is not trusted.
    """

    env: str
    tasks: tuple[str, ...]
    checkpoints: tuple[str, ...]
    pairs: int
    axes: tuple[Axis, ...]
    codes: tuple[tuple[int, ...], ...]
    twin_absent: str
    driver_absent: str
    signal: str
    limit: float
    out: str


@dataclass(frozen=True)
class View:
    """What the page shows; pictures are data URLs.

    menu, goal: None where they are as before. milliseconds: that the last message took.
    note: one sentence on what has just happened.
    """

    task: str
    checkpoint: int
    pair: int
    step: int
    can_go_back: bool
    dream: str
    twin: str | None
    twin_on: bool
    success: float | None
    solved: bool | None
    expected: float | None
    trusted: bool
    psnr: float | None
    action: tuple[float, ...]
    driving: bool
    recording: bool
    recorded_steps: int
    episodes: int
    milliseconds: float
    note: str = ""
    menu: Menu | None = None
    goal: str | None = None
    ghosts: tuple[tuple[str, ...], ...] | None = None


class Session:
    """One player's stage, planner and recording. Everything is called from one thread."""

    def __init__(self, config: PlayConfig) -> None:
        """Raises ColaWorldError for settings that there are not."""
        self.config = config
        self.driver = Driver(config.driver)
        self.recorder = Recorder(Path(config.out))
        self.driving = False
        self._checkpoint = 0
        self._action: tuple[float, ...] = ()
        self._open(config.task, 0, config.twin)
        self._reset(0)

    def handle(self, message: Message) -> View:
        """Does what the page asked for. Raises ColaWorldError where that cannot be done, and then
        has done nothing."""
        start = time.perf_counter()
        view = self._do(message)
        return replace(view, milliseconds=1000 * (time.perf_counter() - start))

    def drive(self) -> View:
        """A step of the planner; a dream beside a twin wakes before each plan."""
        start = time.perf_counter()
        if self.driver.plans_next and self.stage.twin_on and self.stage.actions:
            self._wake()
        action, ghosts = self.driver.act(self.stage.env)
        shot = self._step(action)
        if shot.solved:
            self.driving = False
        view = self._view("Solved: the real task is done." if shot.solved else "", ghosts=ghosts)
        return replace(view, milliseconds=1000 * (time.perf_counter() - start))

    def whole(self, note: str = "") -> View:
        """Everything, for a page that knows nothing yet."""
        return replace(self._view(note), menu=self._menu(), goal=data_url(self.stage.goal))

    def close(self) -> None:
        """Ends the recording and frees the simulator."""
        self.recorder.end()
        self.stage.close()

    def _do(self, message: Message) -> View:
        match message:
            case Act(keys, size):
                action = self._controls().action(keys, size)
                self.driving = False
                self._step(action)
            case Codes(codes):
                if not self.codes:
                    raise ColaWorldError("This model is played by keys, not by codes.")
                self._step(self.stage.dream.check_actions(np.array(codes)).cpu().numpy())
            case Back():
                return self._back()
            case Wake():
                if not self.stage.twin_on:
                    raise ColaWorldError("The dream can only wake to a twin's frame.")
                self._wake()
                return self._view("The dream goes on from the real frame.")
            case Reset(pair):
                self._reset(pair)
                return self.whole()
            case Choose(task, checkpoint):
                self._choose(task, checkpoint)
                return self.whole()
            case Twin(on):
                self.stage.set_twin(on)
                return self._view(self._again("The twin is on." if on else "The twin is off."))
            case Drive(on):
                if on and self._driver_absent:
                    raise ColaWorldError(self._driver_absent)
                self.driving = on
                self.driver.start(self.stage.pair)
            case Record(on):
                return self._record(on)
        return self._view()

    def _step(self, action: NDArray[Any]) -> Shot:
        shot = self.stage.step(action)
        self._action = tuple(float(value) for value in action)
        self.recorder.add(action, self._recorded(shot))
        return shot

    def _back(self) -> View:
        self.driving = False
        shot = self.stage.back()
        if shot is None:
            return self._view("This is as far back as it goes.")
        self.recorder.take_back(self._recorded(shot))
        return self._view()

    def _wake(self) -> None:
        self.stage.wake()
        if self.recorder.recording and self._source().imagined:
            self._begin_recording()

    def _reset(self, pair: int) -> None:
        self.stage.reset(pair)
        self.driving = False
        self.driver.start(pair)
        if self.controls is not None:
            self.controls.release()
        self._action = ()
        if self.recorder.recording:
            self._begin_recording()

    def _choose(self, task: str, checkpoint: int) -> None:
        if task not in self.stage.starts.tasks:
            raise ColaWorldError(f"There is no task {task!r} in the menu.")
        if not 0 <= checkpoint < max(1, len(self.config.checkpoints)):
            raise ColaWorldError(f"There is no checkpoint {checkpoint} in the menu.")
        pair, before = self.stage.pair, self.stage
        self._open(task, checkpoint, before.twin_on)
        before.close()
        self._reset(min(pair, self.stage.starts.count - 1))

    def _open(self, task: str | None, checkpoint: int, twin: bool) -> None:
        names = self.config.checkpoints
        choice = Choice(
            self.config.env,
            task,
            names[checkpoint] if names else None,
            self.config.action_mode,
            self.config.device,
            self.config.data,
        )
        self.stage = Stage(choice, twin)
        self._checkpoint = checkpoint
        dream = self.stage.dream
        self.codes = _frequent_codes(dream.model) if dream.action_mode == "latent" else ()
        self.controls = None if self.codes else Controls(self._action_names())

    def _record(self, on: bool) -> View:
        if on == self.recorder.recording:
            return self._view()
        if on:
            self._begin_recording()
            kind = "dream" if self._source().imagined else "real twin"
            return self._view(f"Recording the frames of the {kind}.")
        before = self.recorder.episodes
        self.recorder.end()
        if self.recorder.episodes == before:
            return self._view("Nothing was recorded: an episode needs a step.")
        return self._view(f"Saved to {self.recorder.folder}.")

    def _begin_recording(self) -> None:
        self.recorder.begin(
            self._source(), self.stage.dream.task, self._recorded(self.stage.now.shot)
        )

    def _again(self, note: str) -> str:
        """A recording goes on as another episode, of the other kind of frames."""
        if self.recorder.recording:
            self._begin_recording()
        return note

    def _recorded(self, shot: Shot) -> NDArray[np.uint8]:
        return shot.dream if shot.twin is None else shot.twin

    def _source(self) -> Source:
        dream = self.stage.dream
        return Source(
            dream.world.name,
            not self.stage.twin_on,
            bool(self.codes),
            () if self.codes else tuple(self._action_names()),
            str(dream.config["rendering"]),
            dream.world.action_repeat,
            dream.image_size,
            int(self.stage.env.metadata["render_fps"]),
        )

    def _action_names(self) -> Sequence[str]:
        dream = self.stage.dream
        return dream.world.actions or [
            f"action {i + 1}" for i in range(int(dream.config["action_dim"]))
        ]

    def _controls(self) -> Controls:
        if self.controls is None:
            raise ColaWorldError("This model is played by codes, not by keys.")
        return self.controls

    @property
    def _driver_absent(self) -> str:
        return "The planner plans real actions, not latent codes." if self.codes else ""

    def _menu(self) -> Menu:
        return Menu(
            self.stage.dream.world.name,
            self.stage.starts.tasks,
            self.config.checkpoints or ("cola",),
            self.stage.starts.count,
            () if self.controls is None else self.controls.axes,
            self.codes,
            self.stage.twin_absent,
            self._driver_absent,
            self.stage.signal.name,
            TRUSTED,
            self.config.out,
        )

    def _view(self, note: str = "", ghosts: Ghosts | None = None) -> View:
        moment = self.stage.now
        shot = moment.shot
        return View(
            task=self.stage.dream.task,
            checkpoint=self._checkpoint,
            pair=self.stage.pair,
            step=moment.steps,
            can_go_back=len(self.stage.moments) > 1,
            dream=data_url(shot.dream),
            twin=None if shot.twin is None else data_url(shot.twin),
            twin_on=self.stage.twin_on,
            success=shot.success,
            solved=shot.solved,
            expected=shot.expected,
            trusted=shot.trusted,
            psnr=shot.psnr,
            action=self._action,
            driving=self.driving,
            recording=self.recorder.recording,
            recorded_steps=self.recorder.steps,
            episodes=self.recorder.episodes,
            milliseconds=0.0,
            note=note,
            ghosts=None if ghosts is None else _pictures(ghosts),
        )


def data_url(frame: NDArray[np.uint8]) -> str:
    """A lossless PNG of a uint8 RGB frame (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png", compress_level=1)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()


def _pictures(ghosts: Ghosts) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(data_url(frame) for frame in candidate) for candidate in ghosts.frames)


def _frequent_codes(model: Any) -> tuple[tuple[int, ...], ...]:
    """Of each token all codes, by how often they are used."""
    usage = model.quantizer.usage[model.quantizer.book].float().cpu()
    return tuple(tuple(int(code) for code in row.argsort(descending=True)) for row in usage)
