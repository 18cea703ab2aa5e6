"""A model of a few weights, clips for it, and phases that train it."""

import torch

from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips, fixed_batch
from cola_train.phases import (
    Adaptation,
    FlowMatching,
    Phase,
    Reconstruction,
)

SMALL = {
    "stdit_config": {"hidden_size": 32, "depth": 1, "num_heads": 2, "window": 4},
    "conditioner_config": {"hidden_size": 32, "num_heads": 2},
    "autoencoder_config": {"channels": (8, 8, 16)},
    "idm_config": {"hidden_size": 32, "depth": 1, "num_heads": 2},
    "adapter_config": {"hidden_size": 16, "blocks": 0},
}


def small_model(**kwargs: object) -> ColaWorldModel:
    torch.manual_seed(0)
    return ColaWorldModel(**(SMALL | kwargs))


def moving_square(episodes: int = 24, steps: int = 6) -> Clips:
    """A bright square that the first two action dimensions push over a dark floor."""
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(episodes, steps, 5, generator=generator) * 2 - 1
    place = 24 + torch.cat([torch.zeros(episodes, 1, 2), actions[..., :2].cumsum(1) * 6], 1)
    place = place.round().long().clamp(0, 48)
    frames = torch.full((episodes, steps + 1, 64, 64, 3), 30, dtype=torch.uint8)
    for e in range(episodes):
        for t in range(steps + 1):
            x, y = place[e, t].tolist()
            frames[e, t, y : y + 16, x : x + 16] = torch.tensor([250, 120, 20], dtype=torch.uint8)
    return Clips(frames, actions)


def phases() -> list[Phase]:
    common = {"batch_size": 4, "lr_warmup": 2, "measured_clips": 8}
    flow = common | {"clip": 4}
    return [
        Reconstruction("autoencoder", 3, ["autoencoder"], **common),
        FlowMatching(
            "warm_up", 4, ["idm", "quantizer", "conditioner"], actions="latent",
            continuous_steps=2, fit_codes=True, restart_steps=2, restart_every=1, **flow,
        ),
        FlowMatching("end_to_end", 3, ["stdit", "conditioner", "idm", "quantizer"],
                     actions="latent", crop_scale=0.5, own_frames=0.5, **flow),
        Adaptation("adapter", 2, ["adapter"], **flow),
        FlowMatching("finetune", 2, ["stdit"], actions="latent", adapter_share=0.5,
                     **flow),
    ]  # fmt: skip


class Killed(Exception):
    pass


def teacher_model(**settings: object) -> ColaWorldModel:
    """A model that acts on its actions and whose steps are not straight, without training."""
    torch.manual_seed(0)
    model = ColaWorldModel(**{**SMALL, **settings})
    torch.nn.init.normal_(model.stdit.final_layer.linear.weight, std=0.2)
    torch.nn.init.normal_(model.conditioner.to_modulation[-1].weight, std=0.2)
    return model.eval()


def with_codes(model: ColaWorldModel, clips: Clips) -> ColaWorldModel:
    """The model with codes of what its IDM sees in the clips, so that many are in use."""
    model = model.eval().requires_grad_(False)
    batch = fixed_batch(clips, model, 24, 4)
    tokens = model.action_tokens(batch.frames, batch.latents).flatten(0, 1)
    model.quantizer.fit_codebook(tokens, torch.Generator().manual_seed(0))
    return model
