"""What the tests of the dream environment share."""

from dataclasses import astuple

import numpy as np
import torch

# The kind of checkpoint that each action mode is tested with.
MODES = {"real": "latent", "latent": "latent", "direct": "direct"}


def actions_for(env, *leading, seed=0):
    env.action_space.seed(seed)
    count = int(np.prod(leading))
    sampled = np.stack([env.action_space.sample() for _ in range(count)])
    return sampled.reshape(*leading, *env.action_space.shape)


def state_of(env):
    """All numbers of an environment's state, as bytes."""

    def flat(value):
        if isinstance(value, (tuple, list)):
            return [number for part in value for number in flat(part)]
        return [torch.as_tensor(value).float().numpy().tobytes()] if value is not None else []

    return flat(astuple(env.snapshot()))
