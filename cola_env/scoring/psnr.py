"""Peak signal-to-noise ratio, in dB."""

from torch import Tensor


def psnr(mean_squared_error: Tensor) -> Tensor:
    """dB (...) of errors (...) of numbers in [0, 1]; at most 100."""
    return -10 * mean_squared_error.clamp_min(1e-10).log10()


def frame_psnr(one: Tensor, other: Tensor) -> Tensor:
    """dB (...) between uint8 frames (..., S, S, 3)."""
    return psnr(((one.float() - other.float()) / 255).square().mean((-3, -2, -1)))
