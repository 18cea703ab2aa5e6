"""The rules of a run, and its finished episodes on disk, from which a killed run goes on: a record
and a video each."""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cola_env.envs.starts import CONTEXT
from cola_env.errors import ColaWorldError
from cola_env.files import write_atomically, write_text
from cola_env.scoring.rewards import RewardName, check_reward

NO_PLANNER = "none"
"""The planner of a method that does not plan."""

JUDGES = ("tick", "vp2")
ADDED = ("warmup_steps", "idle_steps", "sum_over_time", "judge", "subgoal_steps")

Frame = NDArray[np.uint8]

PANEL = 192
CAPTION = 22
GAP = 6
BACKGROUND = (24, 26, 31)
GREEN = (70, 200, 120)
FRAMES_PER_SECOND = 4
HOLD = 6


@dataclass(frozen=True)
class Rules:
    """The rules that hold for every model of a run.

    reward: its name, or {name: weight}.
    steps: real steps an episode may take.
    replan_every: actions that are executed of each plan.
    context: real frames that the model sees, at most.
    final_weight: the weight in [0, 1] of the last imagined frame's reward in a candidate's score;
        the mean (or sum) over the horizon has the rest.
    batch_size: episodes that are planned for in one rollout. It is part of a run's identity, since
        the planner's random numbers belong to a batch.
    warmup_steps: zero actions before the first step, which do not count.
    idle_steps: zero actions that the episode's own steps begin with.
    sum_over_time: a candidate's score is the sum of its frames' rewards, not their mean.
    judge: "tick", success at any of the simulator's control ticks, by RoboDesk's rule mended (other
        blocks must lie where the episode began); or "vp2", VP2's: in the state after a step,
        wherever the other blocks are.
    subgoal_steps: a plan's goal image is what the script's own solution shows so many steps on; 0:
        its end. A control, which tells what subgoals could give at most.
    """

    reward: RewardName
    episodes: int
    seed: int
    steps: int = 15
    replan_every: int = 3
    context: int = CONTEXT
    final_weight: float = 0.0
    batch_size: int = 5
    warmup_steps: int = 0
    idle_steps: int = 0
    sum_over_time: bool = False
    judge: str = "tick"
    subgoal_steps: int = 0

    def __post_init__(self) -> None:
        check_reward(self.reward)
        for name in ("episodes", "steps", "replan_every", "context", "batch_size"):
            if getattr(self, name) < 1:
                raise ColaWorldError(f"{name} must be at least 1, but it is {getattr(self, name)}.")
        for name in ("warmup_steps", "idle_steps", "subgoal_steps", "seed"):
            if getattr(self, name) < 0:
                raise ColaWorldError(f"{name} must be at least 0, but it is {getattr(self, name)}.")
        if not 0 <= self.final_weight <= 1:
            raise ColaWorldError(f"final_weight must be in [0, 1], not {self.final_weight}.")
        if self.judge not in JUDGES:
            raise ColaWorldError(
                f"Unknown judge '{self.judge}'; choose one of {', '.join(JUDGES)}."
            )

    @property
    def executed(self) -> int:
        """How many actions of a plan are executed: no more than the episode has."""
        return max(1, min(self.replan_every, self.steps - self.idle_steps))

    def identity(self) -> dict[str, Any]:
        """The rules as JSON values; those of ADDED only where they differ from their default, so
        that the folders of earlier runs stay theirs."""
        defaults = {name: type(self).__dataclass_fields__[name].default for name in ADDED}
        return {k: v for k, v in asdict(self).items() if k not in ADDED or v != defaults[k]}


def fingerprint(*paths: Path) -> str:
    """First 12 hex digits of the SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


class MethodName(NamedTuple):
    """What acts: a model, and the planner that plans in it."""

    model: str
    planner: str


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode.

    pair: index of the goal pair among its task's.
    steps: real steps taken; success ends an episode.
    costs: cost of every plan by the model's own reckoning; empty for a model without one.
    imagined_psnr: dB between the imagined and the real frames of the executed actions, or None.
    seconds: this episode's share of the time that deciding took.
    spent: its share of the seconds by what they were spent on, waiting for the simulator too.
    """

    task: str
    model: str
    planner: str
    pair: int
    success: bool
    steps: int
    costs: tuple[float, ...]
    imagined_psnr: float | None
    seconds: float
    spent: Mapping[str, float] = field(default_factory=dict)

    @property
    def method(self) -> MethodName:
        return MethodName(self.model, self.planner)


def named(label: str, settings: Mapping[str, Any]) -> MethodName:
    """The method of that label in a run's folder, MODEL or MODEL/PLANNER, by its settings."""
    planner = str(settings["planner"])
    return MethodName(label.removesuffix(f"/{planner}"), planner)


class RunFolder:
    """The folder of one run: `settings.json`, and `episodes/LABEL/TASK/PAIR.{json,mp4}`.

    A label is the name of a model, or where planners are compared MODEL/PLANNER.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, common: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> None:
        """Record the settings that decide results, those of `models` by label; labels may be added
        to a run later, and `episodes` as long as there are whole batches of them.

        Raises ColaWorldError when the folder holds a run of other settings.
        """
        known = self.settings()
        for name, wanted in {"": common, **models}.items():
            before = known.get("models", {}).get(name) if name else known.get("common")
            now = json.loads(json.dumps(wanted))
            if before is not None and before != now and not _whole_batches(before, now):
                keys = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
                told = ", ".join(f"{k}={before.get(k)} (now {now.get(k)})" for k in keys)
                whose = f" of model '{name}'" if name else ""
                raise ColaWorldError(
                    f"{self.path} holds a run with other settings{whose}: {told}; choose another "
                    "out=FOLDER, or the same settings to go on with that run."
                )
        merged = {"common": common, "models": {**known.get("models", {}), **models}}
        write_text(self.path / "settings.json", json.dumps(merged, indent=1))

    def settings(self) -> dict[str, Any]:
        """What `claim` recorded, {"common": ..., "models": {label: ...}}; {} for a new folder."""
        path = self.path / "settings.json"
        if not path.is_file():
            return {}
        try:
            known: dict[str, Any] = json.loads(path.read_text())
            if not all(isinstance(known[key], dict) for key in ("common", "models")):
                raise ValueError("no settings")
        except (ValueError, LookupError, TypeError) as error:
            raise ColaWorldError(f"{path} is damaged: choose another out=FOLDER.") from error
        return known

    def labels(self) -> dict[MethodName, str]:
        """The labels of the methods that `claim` recorded."""
        models = self.settings().get("models", {})
        return {named(label, settings): label for label, settings in models.items()}

    def label(self, method: MethodName, alone: bool) -> str:
        """That of an earlier command, or a new one: with the planner's name, unless the planner is
        the command's only one (`alone`)."""
        new = method.model if alone or method.planner == NO_PLANNER else "/".join(method)
        return self.labels().get(method, new)

    def episode(self, label: str, task: str, pair: int, suffix: str = ".json") -> Path:
        return self.path / "episodes" / label / task / f"{pair:03d}{suffix}"

    def save(self, label: str, record: EpisodeRecord) -> None:
        """Write the record, atomically: only whole episodes are ever seen."""
        path = self.episode(label, record.task, record.pair)
        write_text(path, json.dumps(asdict(record), indent=1))

    def load(self, label: str, task: str, pair: int) -> EpisodeRecord | None:
        """The finished episode, or None: also where the record is damaged, of which it warns."""
        path = self.episode(label, task, pair)
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text())
            if "planner" not in data:  # as in records of before planners were compared
                data["planner"] = self.settings()["models"][label]["planner"]
            return _record(data, label, task, pair)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            warnings.warn(
                f"{path} is damaged ({error}) and left out: its episode is played again by the "
                "command that played it.",
                stacklevel=2,
            )
            return None


def _whole_batches(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two runs differ only in how many batches they play: what both play is the same."""
    counts, size = [each.get("episodes") for each in (before, now)], now.get("batch_size")
    if not size or any(not isinstance(count, int) or count % size for count in counts):
        return False
    return {**before, "episodes": counts[1]} == now


def _record(data: dict[str, Any], label: str, task: str, pair: int) -> EpisodeRecord:
    """Raises an exception of some kind for what is no record of that episode."""
    known = {each.name for each in fields(EpisodeRecord)}
    record = EpisodeRecord(**{key: value for key, value in data.items() if key in known})
    numbers = [record.steps, record.seconds, *record.costs, *record.spent.values()]
    labels = (record.model, "/".join(record.method))
    if label not in labels or (record.task, record.pair) != (task, pair):
        raise ValueError("it is of another episode")
    if not isinstance(record.success, bool) or not all(map(math.isfinite, numbers)):
        raise ValueError("it holds no measures")
    return replace(record, costs=tuple(record.costs))


def side_by_side(
    real: Frame, imagined: Frame | None, goal: Frame, caption: str, won: bool
) -> Frame:
    """One video image of three captioned panels, uint8 RGB; `won` frames the real panel green."""
    width = 3 * PANEL + 4 * GAP
    image = Image.new("RGB", (width, PANEL + CAPTION + 2 * GAP), BACKGROUND)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    panels = (("real  " + caption, real), ("imagined", imagined), ("goal", goal))
    for column, (label, frame) in enumerate(panels):
        left = GAP + column * (PANEL + GAP)
        draw.text((left + 2, GAP), label, font=font, fill=(225, 228, 235))
        if frame is None:
            draw.rectangle((left, CAPTION + GAP, left + PANEL, CAPTION + GAP + PANEL), (44, 47, 54))
            draw.text((left + 48, CAPTION + 90), "no imagination", font=font, fill=(140, 145, 155))
            continue
        panel = Image.fromarray(frame).resize((PANEL, PANEL), Image.Resampling.BICUBIC)
        image.paste(panel, (left, CAPTION + GAP))
    if won:
        box = (GAP - 3, CAPTION + GAP - 3, GAP + PANEL + 2, CAPTION + GAP + PANEL + 2)
        draw.rectangle(box, outline=GREEN, width=3)
    return np.asarray(image)


def write_video(
    path: Path,
    real: Sequence[Frame],
    imagined: Sequence[Frame | None],
    goal: Frame,
    success: bool,
) -> None:
    """Write H.264 that every browser plays, atomically; the last image is held for a while.

    real, imagined: T + 1 uint8 RGB frames each; None where nothing was imagined.
    """
    import av

    images = [
        side_by_side(frame, dream, goal, f"step {t}", success and t == len(real) - 1)
        for t, (frame, dream) in enumerate(zip(real, imagined, strict=True))
    ]
    images += images[-1:] * HOLD

    def write(target: Path) -> None:
        with av.open(target, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
            stream.width, stream.height = images[0].shape[1], images[0].shape[0]
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "25", "preset": "fast", "threads": "1"}
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())

    write_atomically(path, write)
