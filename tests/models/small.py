"""A world model of a few weights whose velocity is not zero."""

import torch

from cola_env.models.world_model import ColaWorldModel

SMALL = {
    "stdit_config": {"hidden_size": 32, "depth": 2, "num_heads": 2, "window": 5},
    "conditioner_config": {"hidden_size": 32, "num_heads": 2, "zero_start": False},
    "autoencoder_config": {"channels": (8, 8, 16)},
    "idm_config": {"hidden_size": 32, "depth": 1, "num_heads": 2},
    "adapter_config": {"hidden_size": 16},
}


def small_model(**kwargs: object) -> ColaWorldModel:
    torch.manual_seed(0)
    model = ColaWorldModel(**(SMALL | kwargs)).eval()
    torch.nn.init.normal_(model.stdit.final_layer.linear.weight, std=0.1)
    if model.stdit.config.conv_channels:
        torch.nn.init.normal_(model.stdit.convolutions.after[-1].weight, std=0.1)
    if model.stdit.config.channels:
        torch.nn.init.normal_(model.stdit.pyramid.last[2].weight, std=0.1)
    return model
