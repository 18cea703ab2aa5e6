"""Models of the user's own: VP2's one callable, or an object with our `imagine`."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import hydra
import numpy as np
import torch
from torch import Tensor

from benchmarks.vp2_protocol.agents import Dynamics, Imagination, Situation
from cola_env.errors import ColaWorldError

VideoPredictor = Callable[[dict[str, Any]], Mapping[str, Any]]
"""VP2's interface (s-tian/vp2, `VideoPredictionModel`).

Called with {"video": float32 NumPy (N, C, 64, 64, 3) in [0, 1], "actions": float32 NumPy
(N, C - 1 + H, A)}, where the actions between the frames of the video come first, it returns
{"rgb": floats in [0, 1], (N, C - 1 + H, 64, 64, 3) or (N, H, 64, 64, 3)}, an array or tensor. C is
its attribute `num_context`, by default 2."""


class VideoPredictionDynamics:
    """Imagines with a `VideoPredictor`, one call at a time.

    A past shorter than C is filled up with its first frame and zero actions, as VP2 does.
    """

    def __init__(self, model: VideoPredictor, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.device = torch.device(device)
        self.context = int(getattr(model, "num_context", 2))
        self._lock = Lock()

    def imagine(self, situation: Situation) -> Imagination:
        frames, past = situation.frames[:, -self.context :], situation.actions
        missing = self.context - frames.shape[1]
        video = torch.cat((frames[:, :1].expand(-1, missing, -1, -1, -1), frames), 1).float() / 255
        past = past[:, past.shape[1] - (frames.shape[1] - 1) :]
        past = torch.cat((past.new_zeros(len(past), missing, past.shape[2]), past), 1)

        def imagination(rows: slice, candidates: Tensor) -> Tensor:
            count, horizon = candidates.shape[1:3]
            known = past[rows][:, None].expand(-1, count, -1, -1)
            batch = {
                "video": _rows(video[rows][:, None].expand(-1, count, -1, -1, -1, -1)),
                "actions": _rows(torch.cat((known, candidates.cpu()), 2)),
            }
            with self._lock:
                made = self.model(batch)
            return self._frames(made, len(batch["video"]), horizon).unflatten(0, (-1, count))

        return imagination

    def _frames(self, made: Mapping[str, Any], count: int, horizon: int) -> Tensor:
        told = type(made).__name__
        if isinstance(made, Mapping) and "rgb" in made:
            frames = torch.as_tensor(made["rgb"])
            told = f"{frames.dtype} {tuple(frames.shape)}"
            lengths = (horizon, self.context - 1 + horizon)
            fits = tuple(frames.shape) in [(count, length, 64, 64, 3) for length in lengths]
            if fits and frames.is_floating_point():
                return frames[:, -horizon:].to(self.device, torch.float32)
        raise ColaWorldError(
            f"The model {type(self.model).__name__} must return {{'rgb': frames}}, floats in "
            f"[0, 1] of shape ({count}, {self.context - 1 + horizon}, 64, 64, 3), not {told}."
        )


def _rows(values: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(b, N, ...) -> float32 NumPy (b * N, ...)."""
    return values.flatten(0, 1).float().contiguous().numpy()


def make_foreign(spec: Mapping[str, Any], device: torch.device, context: int) -> Dynamics:
    """Build the model of `_target_`, with the other keys as its arguments.

    context: real frames that the run keeps for it.
    Raises ColaWorldError when it cannot be built, is neither of the two, or needs more frames.
    """
    target = spec.get("_target_")
    try:
        model = hydra.utils.instantiate(dict(spec))
    except Exception as error:
        told = " ".join(str(error).split())
        raise ColaWorldError(f"The model {target} cannot be built: {told}") from error
    if hasattr(model, "imagine") and hasattr(model, "device"):
        dynamics: Dynamics = model
        return dynamics
    if not callable(model):
        raise ColaWorldError(
            f"The model {target} is neither a callable of {{'video', 'actions'}} nor has it "
            "imagine(situation) and a device."
        )
    predictor = VideoPredictionDynamics(model, device)
    if predictor.context < 1:
        raise ColaWorldError(f"The model {target} sees num_context={predictor.context} frames.")
    if predictor.context > context:
        raise ColaWorldError(
            f"The model {target} sees num_context={predictor.context} frames, but the run keeps "
            f"{context}: give context={predictor.context}."
        )
    return predictor
