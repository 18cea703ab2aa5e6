"""What the tests of the dream environment share."""

from dataclasses import astuple

import numpy as np
import torch

from cola_env.scoring.lpips_distance import CONVOLUTIONS, LPIPS

# The kind of checkpoint that each action mode is tested with.
MODES = {"real": "latent", "latent": "latent", "direct": "direct"}


def actions_for(env, *leading, seed=0):
    env.action_space.seed(seed)
    count = int(np.prod(leading))
    sampled = np.stack([env.action_space.sample() for _ in range(count)])
    return sampled.reshape(*leading, *env.action_space.shape)


class Elsewhere(torch.Tensor):
    """A tensor that numpy cannot read before it is brought to the CPU, as on a GPU; what is
    computed with it is a plain one."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __array__(self, *args, **kwargs):
        raise TypeError("can't convert a tensor that is elsewhere to numpy")

    numpy = __array__

    def detach(self):
        return self

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def elsewhere(values):
    return torch.tensor(values).as_subclass(Elsewhere)


def state_of(env):
    """All numbers of an environment's state, as bytes."""

    def flat(value):
        if isinstance(value, (tuple, list)):
            return [number for part in value for number in flat(part)]
        if isinstance(value, str):
            return [value.encode()]
        return [torch.as_tensor(value).float().numpy().tobytes()] if value is not None else []

    return flat(astuple(env.snapshot()))


def tiny_lpips() -> LPIPS:
    """LPIPS with random weights: no file and no package is needed."""
    torch.manual_seed(0)
    network = LPIPS.__new__(LPIPS)
    torch.nn.Module.__init__(network)
    network.convolutions = torch.nn.ModuleList(
        torch.nn.Conv2d(into, out, kernel, stride, padding)
        for into, out, kernel, stride, padding in CONVOLUTIONS
    )
    network.heads = [torch.rand(1, out, 1, 1) for _, out, *_ in CONVOLUTIONS]
    return network.requires_grad_(False).eval()
