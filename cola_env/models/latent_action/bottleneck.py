"""A continuous bottleneck of latent actions in place of the codes (AdaWorld, arXiv 2503.18938)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cola_env.models.latent_action.quantizer import Quantized, QuantizerConfig


class GaussianBottleneck(nn.Module):
    """The bottleneck of a variational autoencoder, with the interface of VectorQuantizer.

    Tokens become the mean and the log-variance of a Gaussian. It is drawn from where gradients flow
    into the tokens, so while the IDM learns; elsewhere the mean is the action. The loss is
    ``kl_weight`` times the Kullback-Leibler divergence to a standard normal, summed over the
    dimensions of an action. There are no codes: theirs have shape (..., 0).
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.moments = nn.Linear(config.code_size, 2 * config.code_size)

    def normalize(self, tokens: Tensor) -> Tensor:
        """The actions without noise: what passes on while the bottleneck is not yet in use."""
        return self.moments(tokens.to(self.moments.weight.dtype)).chunk(2, dim=-1)[0]

    def forward(self, tokens: Tensor) -> Quantized:
        """tokens (..., num_tokens, code_size) -> vectors of that shape, codes (..., 0), loss."""
        moments = self.moments(tokens.to(self.moments.weight.dtype)).float()
        mean, log_variance = moments.chunk(2, dim=-1)
        log_variance = log_variance.clamp(-30, 20)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        loss = self.config.kl_weight * divergence.sum((-2, -1)).mean()
        vectors = mean
        if tokens.requires_grad:
            vectors = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        codes = torch.zeros(*tokens.shape[:-2], 0, dtype=torch.long, device=tokens.device)
        return Quantized(vectors, codes, loss)
