"""A world model by name, folder or hub id, on a device."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cola_env.checkpoints import find_checkpoint, load_weights
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_env.worlds import ROBODESK, WorldInfo


def load_model(
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    world: str | WorldInfo = ROBODESK,
) -> ColaWorldModel:
    """Load a world model for inference: eval mode, no gradients, on `device` (see pick_device).

    checkpoint, world, errors: see find_checkpoint.
    """
    model = load_weights(ColaWorldModel, find_checkpoint(checkpoint, world))
    return model.eval().requires_grad_(False).to(pick_device(device))


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto" is the GPU when there is one, else the CPU; ColaWorldError for a device not here."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ColaWorldError(
            f"Device '{device}' cannot be used here; pass device='auto' or device='cpu'."
        ) from error


def pick_devices(
    device: str | torch.device = "auto", devices: Sequence[str | torch.device] | None = None
) -> list[torch.device]:
    """Those of `devices`, which compute alike, or `device` alone (see pick_device).

    Raises ColaWorldError for what is no list of devices of one kind, and for both arguments.
    """
    if devices is None:
        return [pick_device(device)]
    if device != "auto":
        raise ColaWorldError(f"Give device={device} or devices={devices}, not both.")
    if isinstance(devices, str) or not devices:
        raise ColaWorldError(
            f"devices={devices} must be a list of devices, such as [cuda:0,cuda:1]."
        )
    picked = [pick_device(each) for each in devices]
    if len({each.type for each in picked}) > 1:
        raise ColaWorldError(
            f"devices={list(map(str, devices))} are of several kinds, which round differently: "
            "give only GPUs, or only CPUs."
        )
    return picked
