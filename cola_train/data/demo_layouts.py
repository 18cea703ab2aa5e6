"""How demonstrations lie in an HDF5 file: the layouts of robomimic and VP2, LIBERO, and ALOHA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from cola_env.hdf5 import env_args, has, member, names_robodesk
from cola_train.data.episode_source import Frames, purpose_of
from cola_train.data.video import decode_image

AT_ONCE = 2**26
"""Values of a data set that are looked through at a time."""


@dataclass(frozen=True)
class Pictures:
    """Arrays (T, H, W, 3) or (T, 3, H, W) of values from 0 to 255, or T encoded images (JPEG, PNG),
    each a row of bytes, padded with zeros, or of variable length.

    Attributes:
        data: the HDF5 data set.
        upside_down: its first row is the lowest.
    """

    data: Any
    upside_down: bool = False

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def are_rgb(self) -> bool:
        return self._are_encoded or self._have_colours_last or self._have_colours_first

    def size(self) -> tuple[int, int]:
        """Height and width. Raises ValueError for what is no picture."""
        if self._are_encoded:
            return self.read(0, 1).shape[1:3] if len(self) else (0, 0)
        if not self.are_rgb or (len(self) and not self.data.size):
            raise ValueError(
                f"{self.data.name} has shape {self.data.shape}: frames are RGB, (T, H, W, 3)"
            )
        return self.data.shape[1:3] if self._have_colours_last else self.data.shape[2:4]

    def check_values(self) -> None:
        """Raises ValueError where frames were never written, which HDF5 reads as black, and for
        values that are none of pixels, from 0 to 255. Bytes always are."""
        if not _is_written(self.data):
            raise ValueError(f"{self.data.name} has frames that were never written")
        if self._are_encoded or self.data.dtype == np.uint8:
            return
        if self.data.dtype.kind not in "uif":
            raise ValueError(f"{self.data.name} holds {self.data.dtype}: frames are uint8")
        low, high = np.inf, -np.inf
        step = max(1, AT_ONCE // max(1, int(np.prod(self.data.shape[1:]))))
        for start in range(0, len(self), step):
            values = self.data[start : start + step]
            if not np.isfinite(values).all():
                raise ValueError(f"{self.data.name} holds values that are not finite")
            low, high = min(low, values.min()), max(high, values.max())
        if len(self) and not 0 <= low <= high <= 255:
            raise ValueError(
                f"{self.data.name} has values from {low:g} to {high:g}: store frames as uint8, "
                "from 0 to 255"
            )
        if self.data.dtype.kind == "f" and 0 < high <= 1:
            raise ValueError(f"{self.data.name} is in [0, 1]: store frames as uint8, from 0 to 255")

    def read(self, start: int, stop: int, stride: int = 1) -> Frames:
        """Frames start, start + stride, ... before stop, uint8 RGB (n, H, W, 3)."""
        values = self.data[start:stop:stride]
        if self._are_encoded:
            values = np.stack([decode_image(bytes(row)) for row in values])
        elif not self._have_colours_last:
            values = np.moveaxis(values, 1, -1)
        if values.dtype != np.uint8:
            values = values.round().clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(values[:, ::-1] if self.upside_down else values)

    @property
    def _are_encoded(self) -> bool:
        shape, kind = self.data.shape, self.data.dtype.kind
        return (len(shape) == 1 and kind in "OS") or (
            len(shape) == 2 and self.data.dtype == np.uint8
        )

    @property
    def _have_colours_last(self) -> bool:
        return self.data.ndim == 4 and self.data.shape[-1] == 3

    @property
    def _have_colours_first(self) -> bool:
        return self.data.ndim == 4 and self.data.shape[1] == 3


def _is_written(data: Any) -> bool:
    """Whether all of an HDF5 data set is stored."""
    if data.is_virtual or not data.size:
        return True
    if data.chunks:
        chunks = [-(-n // size) for n, size in zip(data.shape, data.chunks, strict=True)]
        return bool(data.id.get_num_chunks() == np.prod(chunks))
    return bool(data.id.get_storage_size() > 0)


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Attributes:
        cameras: the frames by the name of the camera.
        actions: HDF5 data set (T, A) or (T - 1, A) of T frames; None: there are none.
        first_action: number of the action that follows frame 0.
        length: how many frames or actions the file says there are; None: it does not say.
    """

    cameras: Mapping[str, Pictures]
    actions: Any | None
    first_action: int = 0
    length: int | None = None


class Layout(Protocol):
    """The demonstrations of an open file."""

    @property
    def fps(self) -> float: ...

    @property
    def rendering(self) -> str | None:
        """Profile of simulated frames, see ``cola_env.simulators.rendering``."""
        ...

    @property
    def splits(self) -> Mapping[str, str]:
        """ "train" or "test" by the key of a demo, where the file says so."""
        ...

    def keys(self) -> Sequence[str]: ...

    def demo(self, key: str) -> Demo: ...


@dataclass(frozen=True)
class Robomimic:
    """Demonstrations in the layout of robomimic and VP2.

    data/demo_{i}/obs/{camera}_image    (T, H, W, 3), or {camera}_rgb; of VP2: camera_image
    data/demo_{i}/actions               (T, A) or (T - 1, A); the last of T leads to no frame
    data/demo_{i}, attribute num_samples
    data, attribute env_args            JSON; env_kwargs.control_freq is the frame rate
    mask/{train, valid, test, ...}      names of demos, see ``purpose_of``

    Frame t is before action t. Other contents (states, rewards, goals) are not read.
    """

    file: Any

    usual_fps: ClassVar[float] = 10.0
    """Of files that name no control frequency: RoboDesk's under VP2's action repeat of 50."""

    @cached_property
    def data(self) -> Any:
        return member(self.file, "data")

    @cached_property
    def environment(self) -> dict[str, Any]:
        return env_args(self.data)

    @property
    def fps(self) -> float:
        rate = (self.environment.get("env_kwargs") or {}).get("control_freq")
        if not isinstance(rate, int | float | None):
            raise ValueError(f"its frame rate, control_freq in env_args, is {rate!r}")
        return self.usual_fps if rate is None else float(rate)

    @property
    def rendering(self) -> str | None:
        return "vp2" if names_robodesk(self.environment) else None

    @property
    def splits(self) -> dict[str, str]:
        """From the masks; where a demo is for both, "test" holds."""
        splits: dict[str, str] = {}
        if has(self.file, "mask"):
            masks = member(self.file, "mask")
            uses = {mask: use for mask in masks if (use := purpose_of(mask))}
            for mask in sorted(uses, key=lambda mask: uses[mask] == "test"):
                names = member(masks, mask)
                if names.size and names.dtype.kind not in "OS":
                    raise ValueError(f"{names.name} holds {names.dtype}, not names of demos")
                splits.update((name.decode(), uses[mask]) for name in names[:])
        return splits

    def keys(self) -> list[str]:
        """In the order of their numbers."""
        return sorted(self.data, key=_number)

    def demo(self, key: str) -> Demo:
        demo = member(self.data, key)
        observations = member(demo, "obs")
        names = [name for name in sorted(observations) if name.endswith(("image", "rgb"))]
        found = {name: Pictures(member(observations, name)) for name in names}
        length = demo.attrs.get("num_samples")
        return Demo(
            {name: pictures for name, pictures in found.items() if pictures.are_rgb} or found,
            member(demo, "actions") if has(demo, "actions") else None,
            length=None if length is None else int(length),
        )


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0, name)


LIBERO_CAMERAS = ("agentview_rgb", "eye_in_hand_rgb")
IMAGE_CONVENTION = "macros_image_convention"
JOINTS = slice(1, 8)
"""Of a state: the time, then the joints of the arm, then the rest."""
COMPARED = 64
"""Steps whose joints are compared."""


@dataclass(frozen=True)
class Libero(Robomimic):
    """LIBERO's own demonstrations: robomimic's layout, with three differences.

    - The cameras are obs/agentview_rgb and obs/eye_in_hand_rgb.
    - Their images are upside down, unless the attribute macros_image_convention of data says
      "opencv".
    - Observation t was recorded after action t. That is seen in the joints: obs/joint_states[t] are
      those of states[t + 1], where in files that others have recorded anew they are those of
      states[t].
    """

    usual_fps = 20.0

    @staticmethod
    def fits(file: Any) -> bool:
        """Whether a file of robomimic's layout is LIBERO's."""
        data = member(file, "data")
        if IMAGE_CONVENTION in data.attrs:
            return True
        first = next(iter(data), None)
        demo = None if first is None else member(data, first)
        return demo is not None and any(has(demo, f"obs/{camera}") for camera in LIBERO_CAMERAS)

    @property
    def rendering(self) -> str:
        """robosuite draws with shadows, reflections and four samples a pixel."""
        return "vp2"

    def demo(self, key: str) -> Demo:
        demo = super().demo(key)
        flipped = str(self.data.attrs.get(IMAGE_CONVENTION, "opengl")) == "opengl"
        cameras = {name: Pictures(p.data, flipped) for name, p in demo.cameras.items()}
        first = 1 if _is_recorded_after_its_action(member(self.data, key)) else 0
        return replace(demo, cameras=cameras, first_action=first)


def _is_recorded_after_its_action(demo: Any) -> bool:
    observations = member(demo, "obs")
    if not (has(observations, "joint_states") and has(demo, "states")):
        return False
    joints = member(observations, "joint_states")[:COMPARED]
    states = member(demo, "states")[:COMPARED, JOINTS]
    if joints.shape != states.shape or len(joints) < 2:
        return False
    return bool(np.abs(joints[:-1] - states[1:]).max() < np.abs(joints - states).max())


ALOHA_IMAGES = "observations/images"


@dataclass(frozen=True)
class Aloha:
    """A demonstration in the layout of ALOHA and ACT, one a file.

    observations/images/{camera}    (T, H, W, 3), or T JPEG images, padded with zeros
    action                          (T, A)

    Frame t is before action t. The frame rate is not told: 50 a second.
    """

    file: Any

    fps: ClassVar[float] = 50.0
    rendering: ClassVar[None] = None
    splits: ClassVar[dict[str, str]] = {}

    @staticmethod
    def fits(file: Any) -> bool:
        return has(file, "observations") and has(member(file, "observations"), "images")

    def keys(self) -> list[str]:
        return [""]

    def demo(self, key: str) -> Demo:
        images = member(self.file, ALOHA_IMAGES)
        return Demo(
            {name: Pictures(member(images, name)) for name in sorted(images)},
            member(self.file, "action") if has(self.file, "action") else None,
        )
