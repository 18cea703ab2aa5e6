"""What happens when action sequences are tried out from an environment's current state."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """Outcome of N action sequences of H steps: (N, H) from one state, (B, N, H) from B.

    frames: uint8 RGB (..., N, H, 64, 64, 3), the frame after each action.
    rewards: float32 (..., N, H), the reward of each of those frames.
    """

    frames: Tensor
    rewards: Tensor
