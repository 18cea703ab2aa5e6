"""Action conditioning: a causal Transformer over the action sequence, then AdaLN parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from cola_env.models.past import KeyValue, SharedPast, TemporalContext
from cola_env.models.transformer import TransformerBlock


@dataclass(frozen=True)
class ActionConditionerConfig:
    """Sizes of the conditioner; the paper (B.2) uses width 1152, 6 layers and a zero start."""

    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    mlp_ratio: float = 2.0
    zero_start: bool = True


class ActionConditioner(nn.Module):
    """Latent actions -> shift, scale and gate of every frame, added to the timestep modulation.

    Source: CoLA-World, section 3.3 and appendix B.2. Frame ``t`` sees the actions up to the one
    that led to it; a zero vector is "no action" (dropout for guidance, the first frame).
    """

    def __init__(self, action_size: int, model_size: int, config: ActionConditionerConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.embed = nn.Linear(action_size, dim)
        self.blocks = nn.ModuleList(
            [
                TransformerBlock(dim, config.num_heads, config.mlp_ratio)
                for _ in range(config.num_layers)
            ]
        )
        out = nn.Linear(dim, 6 * model_size)
        if config.zero_start:
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)
        self.to_modulation = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.SiLU(), out)

    def forward(
        self, actions: Tensor, time: TemporalContext, past: Sequence[SharedPast] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """actions (B, T, action_size) -> modulation (B, T, 6 * model_size), keys and values."""
        x, kept = self.embed(actions.to(self.embed.weight.dtype))[:, None], []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, time, past[i] if past else None)
            kept.append(cache)
        return self.to_modulation(x[:, 0]), kept
