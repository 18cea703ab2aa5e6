from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor


def _box(dims: int = 2, low: float = -1.0, high: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(low=np.full(dims, low), high=np.full(dims, high), shape=(dims,))


def _tracking(target: Tensor) -> Callable[[Tensor], Tensor]:
    """Squared distance of the actions to `target` (B, H, A): solved by the clipped target."""
    return lambda actions: (actions - target.unsqueeze(1)).square().sum((-1, -2))


@pytest.fixture
def box():
    """An action space that is not Gymnasium's."""
    return _box


@pytest.fixture
def tracking():
    return _tracking


@pytest.fixture
def targets() -> Tensor:
    """(B, H, A) = (3, 6, 2), inside [-0.8, 0.8]."""
    return torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8
