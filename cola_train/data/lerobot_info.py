"""What meta/info.json says of a LeRobot dataset."""

import json
import math
from pathlib import Path
from typing import Any

from cola_env.errors import ColaWorldError
from cola_train.data import lerobot_v2

INFO = "meta/info.json"
PICTURES = ("video", "image")
NOTES = ("info", "video_info")
"""Where a feature may say more of itself."""


def read_info(path: Path) -> dict[str, Any]:
    """Raises ColaWorldError when there is none, or it says what cannot be or is not read."""
    if not path.is_dir():
        raise ColaWorldError(
            f"There is no dataset folder {path}: make one with "
            "'python -m cola_train.collect' or name another."
        )
    try:
        info: dict[str, Any] = json.loads((path / INFO).read_text())
    except FileNotFoundError as error:
        raise ColaWorldError(
            f"{path} is no LeRobot dataset: it holds no {INFO} (or its collection has not ended)."
        ) from error
    except (OSError, ValueError) as error:
        raise ColaWorldError(f"{path / INFO} is damaged ({error}).") from error
    if fault := _fault(info):
        raise ColaWorldError(f"{path / INFO} is damaged: {fault}; fetch the dataset again.")
    version = str(info["codebase_version"])
    if not (version.startswith("v3.") or lerobot_v2.is_v2(info)):
        raise ColaWorldError(
            f"{path} is in the LeRobot layout {version}; v3.0, v2.1 and v2.0 are read: convert it "
            "with the scripts of lerobot."
        )
    return info


def _fault(info: Any) -> str:
    """What info.json says that cannot be, or does not say; "" when it is right."""
    if not isinstance(info, dict):
        return "it is no mapping"
    missing = {"codebase_version", "features", "fps", "data_path", "total_episodes"} - info.keys()
    if missing:
        return f"it lacks {sorted(missing)}"
    fps, features = info["fps"], info["features"]
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        return f"fps is {fps}, no positive number"
    if not isinstance(info["total_episodes"], int) or info["total_episodes"] < 1:
        return f"total_episodes is {info['total_episodes']}, no positive number"
    if not isinstance(features, dict):
        return "its features are no mapping"
    for name, feature in features.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            return f"its feature {name!r} has no shape, a list of positive numbers"
        if "dtype" not in feature or (feature["dtype"] in PICTURES and len(shape) != 3):
            return f"its feature {name!r} has no dtype, or pictures have not three axes"
    return ""


def image_shape(feature: dict[str, Any]) -> tuple[int, int, int]:
    """Height, width, channels of pictures declared (H, W, C) or (C, H, W)."""
    one, two, three = feature["shape"]
    names = feature.get("names")
    channels_first, channels_last = one in (1, 3), three in (1, 3)
    if channels_first == channels_last:  # the numbers do not tell
        channels_first = isinstance(names, list) and str(names[:1]).startswith("['channel")
    return (two, three, one) if channels_first else (one, two, three)


def is_camera(feature: dict[str, Any]) -> bool:
    """Whether it is of colour pictures; those of one channel, or said to be so, are depth maps."""
    told = [t for t in (feature, *map(feature.get, NOTES)) if isinstance(t, dict)]
    is_depth = any(t.get("is_depth_map") or t.get("video.is_depth_map") for t in told)
    return feature["dtype"] in PICTURES and not is_depth and image_shape(feature)[2] != 1
