"""The causal ST-DiT: Open-Sora v1.2's STDiT3 without text, with one modulation per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding
from einops import rearrange
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.autoencoders.autoencoder import ResidualBlock
from cola_env.models.pyramid import Pyramid, composite, composite_channels, modulation_size
from cola_env.models.transformer import (
    Attention,
    Checkpointed,
    KeyValue,
    SharedPast,
    TemporalContext,
    TransformerBlock,
)


@dataclass(frozen=True)
class STDiTConfig:
    """Sizes of the network, and where Open-Sora v1.2 and our mini model differ.

    ``residual``: it sees the clean latent of the frame before as further input channels and
    predicts the change from it (our mini model); otherwise it predicts the velocity from the noised
    frames alone, as Open-Sora and the paper do.
    ``conv_channels``: of convolutions at the resolution of the latents, before they are cut into
    patches and after, past which the first go on to the second (our mini model); 0: there are none.
    ``channels``: of convolutions at a half, a quarter, ... of the resolution of the latents, the
    last of which are cut into patches (our models of pixels). They see the noised frame times
    1 - t, as pure noise tells nothing.
    ``flows``: a residual model with ``channels`` puts the frame together from so many moved copies
    of the one before, itself, and new pixels; 0: all of the change is new.
    ``temporal_every``: a temporal block after every so many spatial ones (Open-Sora: every one).
    ``pred_sigma``: the output has as many channels again, which nothing uses (Open-Sora).
    ``fps``: frames per second of the clips, embedded beside the noise level; None: not embedded.
    ``position_scale``: what the positions of the patches are divided by; in Open-Sora the side of
    the picture in units of 512 pixels. None: they span 16 whatever the picture.
    """

    in_channels: int = 16
    input_size: int = 8
    patch_size: int = 2
    hidden_size: int = 192
    depth: int = 4
    temporal_every: int = 1
    num_heads: int = 6
    mlp_ratio: float = 4.0
    window: int = 8
    residual: bool = True
    conv_channels: int = 0
    channels: tuple[int, ...] = ()
    flows: int = 0
    pred_sigma: bool = False
    fps: float | None = None
    position_scale: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.temporal_every <= self.depth:
            raise ColaWorldError(
                f"stdit_config.temporal_every={self.temporal_every} leaves no temporal block in a "
                f"network of depth={self.depth}: choose 1 to {self.depth}."
            )
        if self.channels and self.conv_channels:
            raise ColaWorldError(
                "stdit_config.channels and conv_channels are two kinds of convolutions around the "
                "Transformer: give one of them."
            )
        if self.flows and not (self.residual and self.channels):
            raise ColaWorldError(
                f"stdit_config.flows={self.flows} needs residual=true and channels=[...]: what "
                "moves is the frame before, pixel by pixel."
            )

    @property
    def patch_side(self) -> int:
        """Of a patch, in latents."""
        return self.patch_size * 2 ** len(self.channels)

    @property
    def patch_channels(self) -> int:
        """Of what is cut into patches."""
        return self.channels[-1] if self.channels else self.conv_channels or self.seen_channels

    @property
    def modulation_sizes(self) -> tuple[int, int]:
        """Of what noise level and action add to the Transformer's blocks: six vectors of shift,
        scale and gate; and to the convolutions' of ``channels``."""
        return 6 * self.hidden_size, modulation_size(self.channels)

    @property
    def seen_channels(self) -> int:
        return self.in_channels * (2 if self.residual else 1)

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.pred_sigma else 1)


class Mlp(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, inner)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TimestepEmbedder(nn.Module):
    """Sinusoids of a number, then an MLP: for noise levels and for frames per second."""

    def __init__(self, dim: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, timestep: Tensor) -> Tensor:
        """timestep (B, T) in [0, 1000] -> (B, T, dim)."""
        embedding = get_timestep_embedding(
            timestep.flatten(), self.frequencies, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        embedding = embedding.unflatten(0, timestep.shape)
        return self.mlp(embedding.to(self.mlp[0].weight.dtype))


class STDiTBlock(nn.Module):
    """Attention over space or time, then an MLP, each under adaptive layer norm (AdaLN)."""

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        time: TemporalContext | None = None,
        past: SharedPast | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """x (B, T, S, D), modulation (B, T, 6, D); attends over T with ``time``, else over S."""
        mods = (self.scale_shift_table + modulation).to(x.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = mods[:, :, :, None].unbind(2)
        h = self.norm1(x) * (1 + scale1) + shift1
        if time is None:
            h, kept = self.attn(h)
        else:
            h, kept = self.attn(h.transpose(1, 2), time, past)
            h = h.transpose(1, 2)
        x = x + gate1 * h
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2), kept


class FinalLayer(nn.Module):
    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        channels = config.conv_channels or config.out_channels
        if config.channels:
            channels = config.channels[-1]
        self.norm_final = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(dim, config.patch_size**2 * channels)
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim) / dim**0.5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + t[:, :, None]).to(x.dtype)[:, :, :, None].unbind(2)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


def position_table(config: STDiTConfig, height: int, width: int) -> Tensor:
    """Sines and cosines of the positions of height x width patches, (height * width, dim) float32.

    Source: PositionEmbedding2D of Open-Sora v1.2.
    """
    extent: dict[str, float] = {}
    if config.position_scale is not None:
        side = round((height * width) ** 0.5)
        extent = {"base_size": side, "interpolation_scale": config.position_scale}
    grid = (height, width)
    return get_2d_sincos_pos_embed(config.hidden_size, grid, output_type="pt", **extent).float()


class LatentConvolutions(nn.Module):
    """Convolutions around the Transformer: what is local is predicted at the resolution of the
    latents, and its tokens are of features in place of latents."""

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        channels = config.conv_channels
        self.before = nn.Sequential(
            nn.Conv2d(config.seen_channels, channels, 3, padding=1), ResidualBlock(channels)
        )
        last = nn.Conv2d(channels, config.out_channels, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.after = nn.Sequential(
            ResidualBlock(channels), nn.GroupNorm(8, channels), nn.SiLU(), last
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, latents: Tensor) -> Tensor:
        """latents (B, T, seen_channels, H, W) -> features (B, T, conv_channels, H, W)."""
        return self._frame_by_frame(self.before, latents)

    def output(self, features: Tensor, change: Tensor) -> Tensor:
        """``features`` and what the Transformer makes of them -> (B, T, out_channels, H, W)."""
        return self._frame_by_frame(self.after, features + change)

    def _frame_by_frame(self, layers: nn.Module, x: Tensor) -> Tensor:
        images = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        out: Tensor = layers(images.to(next(self.parameters()).dtype))
        return out.unflatten(0, x.shape[:2])


class STDiT(Checkpointed):
    """Alternating spatial and causal temporal blocks over the patches of latent frames.

    Every frame has its own noise level and action modulation, which lets one network train on
    partly clean clips and predict frame by frame with cached keys and values of the past.
    """

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        self.config = config
        dim, grid = config.hidden_size, config.input_size // config.patch_side
        if config.channels:
            made = config.out_channels
            if config.flows:
                made = composite_channels(config.in_channels, config.flows)
            self.pyramid = Pyramid(config.seen_channels, made, config.input_size, config.channels)
        if config.conv_channels:
            self.convolutions = LatentConvolutions(config)
        self.x_embedder = nn.Linear(config.patch_channels * config.patch_size**2, dim)
        self.t_embedder = TimestepEmbedder(dim)
        if config.fps is not None:
            self.fps_embedder = TimestepEmbedder(dim)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(dim, sum(config.modulation_sizes)))
        self.spatial_blocks = nn.ModuleList([STDiTBlock(config) for _ in range(config.depth)])
        temporal = config.depth // config.temporal_every
        self.temporal_blocks = nn.ModuleList([STDiTBlock(config) for _ in range(temporal)])
        self.final_layer = FinalLayer(config)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", position_table(config, grid, grid), persistent=False)
        if not (config.channels or config.conv_channels):
            nn.init.zeros_(self.final_layer.linear.weight)
            nn.init.zeros_(self.final_layer.linear.bias)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        *,
        previous: Tensor | None = None,
        action_modulation: Tensor | None = None,
        time: TemporalContext,
        past: Sequence[SharedPast] | None = None,
        fps: Tensor | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """One evaluation of the network.

        Args:
            x: noised latents (B, T, C, H, W).
            t: noise level of every frame (B, T) in [0, 1]; 0 is clean, 1 is pure noise.
            previous: clean latents of the frames before (B, T, C, H, W), for ``residual`` models.
            action_modulation: (B, T, sum(modulation_sizes)) from the ActionConditioner.
            time: rotary table, mask and window of the temporal attention.
            past: what the temporal blocks attend to beside these frames.
            fps: frames per second of every clip (B,), where they are not the config's.

        Returns:
            Output (B, T, out_channels, H, W), whose first C channels are the velocity (or change
            from ``previous``), and the temporal blocks' keys and values of these frames: none while
            activations are recomputed.
        """
        if self.config.channels:
            x = (1 - t)[..., None, None, None] * x
        if self.config.residual:
            assert previous is not None
            x = torch.cat([x, previous], dim=2)
        t_embedding = self.t_embedder(t * 1000)
        if self.config.fps is not None:
            rate = t.new_full((1,), self.config.fps) if fps is None else fps
            t_embedding = t_embedding + self.fps_embedder(rate[:, None])
        modulation = self.t_block(t_embedding)
        if action_modulation is not None:
            modulation = modulation + action_modulation
        modulation, local_modulation = modulation.split(self.config.modulation_sizes, dim=-1)
        features: list[Tensor] = []
        if self.config.channels:
            local_modulation = local_modulation.flatten(0, 1)
            features = self.pyramid.down(x.flatten(0, 1), local_modulation)
            x = features[-1].unflatten(0, x.shape[:2])
        elif self.config.conv_channels:
            x = local = self.convolutions.features(x)
        p = self.config.patch_size
        h, w = x.shape[-2] // p, x.shape[-1] // p
        tokens = rearrange(x, "b t c (h p) (w q) -> b t (h w) (c p q)", p=p, q=p)
        tokens = self.x_embedder(tokens.to(self.x_embedder.weight.dtype))
        tokens = tokens + self._positions(h, w).to(tokens.dtype)
        mods = modulation.unflatten(-1, (6, -1))
        kept: list[KeyValue] = []
        for i, spatial in enumerate(self.spatial_blocks, start=1):
            tokens, _ = self.run_block(spatial, tokens, mods)
            layer, between = divmod(i, self.config.temporal_every)
            if between:
                continue
            temporal, before = self.temporal_blocks[layer - 1], past[layer - 1] if past else None
            tokens, cache = self.run_block(temporal, tokens, mods, time, before)
            if not self.recomputes:
                kept.append(cache)
        out = self.final_layer(tokens, t_embedding)
        out = rearrange(out, "b t (h w) (p q c) -> b t c (h p) (w q)", h=h, p=p, q=p)
        if self.config.channels:
            made = self.pyramid.up(features, out.flatten(0, 1), local_modulation)
            out = self._picture(made, previous).unflatten(0, t.shape)
        elif self.config.conv_channels:
            out = self.convolutions.output(local, out)
        return out, kept

    def _picture(self, made: Tensor, previous: Tensor | None) -> Tensor:
        """What the pyramid makes of N frames, as their output (N, out_channels, H, W)."""
        if not self.config.flows:
            return made
        assert previous is not None
        before = previous.flatten(0, 1)
        return composite(made, before, self.config.flows) - before

    def _positions(self, height: int, width: int) -> Tensor:
        grid = self.config.input_size // self.config.patch_side
        if (height, width) == (grid, grid):
            return self.pos_embed
        return position_table(self.config, height, width).to(self.pos_embed.device)


@dataclass(frozen=True)
class ActionConditionerConfig:
    """Sizes of the conditioner; the paper (B.2) uses width 1152, 6 layers and a zero start."""

    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    mlp_ratio: float = 2.0
    zero_start: bool = True


class ActionConditioner(nn.Module):
    """Latent actions -> the modulation of every frame, added to that of its noise level.

    Source: CoLA-World, section 3.3 and appendix B.2. Frame ``t`` sees the actions up to the one
    that led to it; a zero vector is "no action" (dropout for guidance, the first frame).
    """

    def __init__(
        self, action_size: int, modulation_size: int, config: ActionConditionerConfig
    ) -> None:
        super().__init__()
        dim = config.hidden_size
        self.embed = nn.Linear(action_size, dim)
        self.blocks = nn.ModuleList(
            [
                TransformerBlock(dim, config.num_heads, config.mlp_ratio)
                for _ in range(config.num_layers)
            ]
        )
        out = nn.Linear(dim, modulation_size)
        if config.zero_start:
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)
        self.to_modulation = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.SiLU(), out)

    def forward(
        self, actions: Tensor, time: TemporalContext, past: Sequence[SharedPast] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """actions (B, T, action_size) -> modulation (B, T, modulation_size), keys and values."""
        x, kept = self.embed(actions.to(self.embed.weight.dtype))[:, None], []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, time, past[i] if past else None)
            kept.append(cache)
        return self.to_modulation(x[:, 0]), kept
