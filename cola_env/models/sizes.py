"""The sizes of the one model as configs of its classes (arguments of ``ColaWorldModel``)."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

# Deeper where it is cheap, at 8 x 8 latents, than the defaults of the classes:
# docs/sharper_dream.md.
MINI: Settings = {
    "autoencoder_config": {
        "latent_channels": 32,
        "channels": (32, 64, 128),
        "decoder_blocks": 3,
    },
    "stdit_config": {"in_channels": 32, "depth": 3, "conv_channels": 128},
    "idm_config": {"in_channels": 32},
    "adapter_config": {"frame_size": 2048},
}

# In pixels: what moves is moved, and not painted anew. To be the next `mini`:
# docs/sharper_dream.md.
PIXELS: Settings = {
    "autoencoder_config": {"kind": "pixels"},
    "stdit_config": {
        "in_channels": 3,
        "input_size": 64,
        "depth": 3,
        "channels": (32, 64, 128),
        "flows": 4,
        "window": 4,
    },
    "idm_config": {"in_channels": 3, "input_size": 64, "patch_size": 8, "motion": 10.0},
    "quantizer_config": {"over_batch": True},
    "adapter_config": {"convolutions": (3, 16, 32, 32), "frame_size": 32 * 8 * 8},
}

# For 128 px: 64 tokens a frame, about 30 M parameters. Not trained yet.
SMALL: Settings = {
    "image_size": 128,
    "autoencoder_config": MINI["autoencoder_config"],
    "stdit_config": {
        "in_channels": 32,
        "input_size": 16,
        "hidden_size": 384,
        "depth": 6,
        "conv_channels": 128,
    },
    "conditioner_config": {"hidden_size": 256},
    "idm_config": {"in_channels": 32, "input_size": 16, "hidden_size": 256, "depth": 4},
    "adapter_config": {"frame_size": 32 * 16 * 16},
}

# CoLA-World, appendix B, on Open-Sora v1.2 (hpcai-tech/OpenSora-STDiT-v3). The paper does not say
# the length of its clips (``window``), for which 8 is ours, or the frame rate that it embeds:
# training takes that of the data in place of 24.
PAPER: Settings = {
    "image_size": 256,
    "num_inference_steps": 10,
    "guidance_scale": 4.0,
    "timestep_shift": True,
    "vae_config": {},
    "stdit_config": {
        "in_channels": 4,
        "input_size": 32,
        "hidden_size": 1152,
        "depth": 28,
        "num_heads": 16,
        "window": 8,
        "residual": False,
        "pred_sigma": True,
        "fps": 24.0,
        "position_scale": 0.5,
    },
    "conditioner_config": {"hidden_size": 1152, "num_layers": 6, "num_heads": 16},
    "idm_config": {
        "space": "pixels",
        "in_channels": 3,
        "input_size": 224,
        "patch_size": 14,
        "hidden_size": 768,
        "depth": 12,
        "num_heads": 12,
        "mlp_ratio": 4.0,
        "motion": 0.0,
    },
    "quantizer_config": {"shared": True, "normalize": False},
    "adapter_config": {"blocks": 0, "frame": False, "soft": False},
}

# With the forward dynamics model of the paper's baseline.
PAPER_TWO_STAGE: Settings = PAPER | {
    "fdm_config": {
        "image_size": 224,
        "patch_size": 14,
        "hidden_size": 768,
        "depth": 12,
        "num_heads": 12,
        "residual": False,
    }
}

MODEL_SIZES = {
    "mini": MINI,
    "pixels": PIXELS,
    "small": SMALL,
    "paper": PAPER,
    "paper_two_stage": PAPER_TWO_STAGE,
}
