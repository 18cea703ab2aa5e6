"""Statistics of a feature in the form that LeRobot keeps: min, max, mean, std, count."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[np.float64]]


def episode_stats(values: NDArray[Any], dtype: str) -> Stats:
    """min, max, mean, std and count over time; a video's are per channel, in [0, 1], (3, 1, 1)."""
    axes: tuple[int, ...] = (0,)
    data = values.astype(np.float64)
    if dtype == "video":
        axes, data = (0, 2, 3), data.transpose(0, 3, 1, 2) / 255
    elif data.ndim == 1:
        data = data[:, None]
    keep = dtype == "video"
    stats = {
        "min": data.min(axes, keepdims=keep),
        "max": data.max(axes, keepdims=keep),
        "mean": data.mean(axes, keepdims=keep),
        "std": data.std(axes, keepdims=keep),
    }
    stats = {name: value[0] if keep else value for name, value in stats.items()}
    return stats | {"count": np.array([len(values)], np.float64)}


def merge_stats(parts: list[Stats]) -> Stats:
    """The statistics of the union, from those of its parts."""
    counts = np.stack([part["count"] for part in parts])
    means = np.stack([part["mean"] for part in parts])
    squares = np.stack([part["std"] for part in parts]) ** 2
    weights = (counts / counts.sum()).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(0)
    return {
        "min": np.stack([part["min"] for part in parts]).min(0),
        "max": np.stack([part["max"] for part in parts]).max(0),
        "mean": mean,
        "std": np.sqrt((weights * (squares + (means - mean) ** 2)).sum(0)),
        "count": counts.sum(0),
    }
