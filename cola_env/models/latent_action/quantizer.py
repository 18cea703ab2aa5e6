"""Vector quantisation of latent actions (van den Oord et al., 2017; CoLA-World, B.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, layer_norm, mse_loss, normalize

from cola_env.errors import ColaWorldError


@dataclass(frozen=True)
class QuantizerConfig:
    """Two tokens of 32 dimensions, each one of 32 codes: 1,024 actions.

    ``shared``: one codebook serves all tokens, as in the paper; where the tokens come to mean
    different things, each then uses its part of it only. Otherwise every token has its own.
    ``normalize`` brings the encoder's tokens to unit variance first, so that their scale cannot
    shrink away under the commitment loss; without it codes start uniform within 1 / num_codes of 0,
    as in VQ-VAE's usual implementations. The paper weighs both losses with 1.
    ``over_batch``: it is the variance of each dimension over the batch, around its mean, and not
    that of each token over its dimensions (Lancucki et al. 2020, arXiv 2005.08520). What all
    actions have in common is then gone, on which a warm-up settles where actions tell little at
    first. Tokens that do not learn are normalised by the statistics of those that last did. Several
    processes have a batch each.
    ``gradient``: how gradients pass the codes: "straight_through" or "rotation".
    ``kind``: "codes", or "gaussian" for the continuous bottleneck (GaussianBottleneck), whose loss
    ``kl_weight`` weighs.
    """

    kind: str = "codes"
    num_tokens: int = 2
    num_codes: int = 32
    code_size: int = 32
    shared: bool = False
    codebook_weight: float = 1.0
    commitment_weight: float = 1.0
    normalize: bool = True
    over_batch: bool = False
    gradient: str = "straight_through"
    kl_weight: float = 2e-4

    def __post_init__(self) -> None:
        for name, choices in {
            "kind": ("codes", "gaussian"),
            "gradient": ("straight_through", "rotation"),
        }.items():
            if getattr(self, name) not in choices:
                raise ColaWorldError(
                    f"quantizer_config.{name} must be {' or '.join(map(repr, choices))}, "
                    f"not {getattr(self, name)!r}."
                )
        if self.over_batch and not (self.normalize and self.kind == "codes"):
            raise ColaWorldError(
                "quantizer_config.over_batch=true says how the tokens of codes are normalised: it "
                "needs normalize=true and kind='codes'."
            )


@dataclass(frozen=True)
class Quantized:
    """vectors (..., tokens, code_size) with straight-through gradients; codes (..., tokens) long;
    loss: weighted codebook and commitment losses (scalar)."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        books = 1 if config.shared else config.num_tokens
        codes = torch.empty(books, config.num_codes, config.code_size)
        if config.normalize:
            codes.normal_()
        else:
            codes.uniform_(-1 / config.num_codes, 1 / config.num_codes)
        self.codebook = nn.Parameter(codes)
        self.usage: Tensor
        self.register_buffer("usage", torch.full((books, config.num_codes), 1 / config.num_codes))
        self.book: Tensor
        book = torch.arange(config.num_tokens) % books
        self.register_buffer("book", book, persistent=False)
        if config.over_batch:
            self.mean: Tensor
            self.variance: Tensor
            size = config.num_tokens * config.code_size
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("variance", torch.ones(size))

    @property
    def code_vectors(self) -> Tensor:
        """The code vectors of every token (num_tokens, num_codes, code_size)."""
        return self.codebook[self.book]

    def normalize(self, tokens: Tensor) -> Tensor:
        if not self.config.normalize:
            return tokens
        if not self.config.over_batch:
            return layer_norm(tokens.float(), (self.config.code_size,))
        rows = tokens.float().flatten(-2).flatten(0, -2)
        learns = tokens.requires_grad
        return batch_norm(rows, self.mean, self.variance, training=learns).view_as(tokens)

    @torch.no_grad()
    def fit_statistics(self, tokens: Tensor) -> None:
        """Normalise by the mean and variance of tokens (..., num_tokens, code_size), where it is
        ``over_batch`` that they are normalised."""
        if self.config.over_batch:
            variance, mean = torch.var_mean(tokens.float().flatten(-2).flatten(0, -2), dim=0)
            self.mean.copy_(mean)
            self.variance.copy_(variance)

    def forward(self, tokens: Tensor) -> Quantized:
        """Continuous tokens (..., num_tokens, code_size) -> their nearest codes."""
        tokens = self.normalize(tokens)
        by_token = tokens.flatten(0, -3).transpose(0, 1)
        nearest = torch.cdist(by_token.detach(), self.code_vectors.detach()).argmin(-1)
        codes = nearest.T.unflatten(0, tokens.shape[:-2])
        vectors = self.lookup(codes)
        loss = self.config.codebook_weight * mse_loss(vectors, tokens.detach())
        loss = loss + self.config.commitment_weight * mse_loss(tokens, vectors.detach())
        if self.config.gradient == "rotation":
            return Quantized(rotate_onto(tokens, vectors.detach()), codes, loss)
        return Quantized(tokens + (vectors - tokens).detach(), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """codes (..., tokens) long in [0, num_codes) -> vectors (..., tokens, code_size)."""
        return self.codebook[self.book, codes]

    @torch.no_grad()
    def fit_codebook(
        self, tokens: Tensor, generator: torch.Generator, iterations: int = 20
    ) -> None:
        """Initialise the codes by k-means on continuous tokens (N, num_tokens, code_size).

        Starts from k-means++ seeds (Arthur and Vassilvitskii, 2007).
        """
        for book in range(len(self.codebook)):
            data = self._tokens_of(book, tokens)
            centres = data[torch.randint(len(data), (1,), generator=generator)]
            while len(centres) < self.config.num_codes:
                distance = torch.cdist(data, centres).amin(1).square() + 1e-12
                pick = torch.multinomial(distance.cpu(), 1, generator=generator).to(data.device)
                centres = torch.cat([centres, data[pick]])
            for _ in range(iterations):
                nearest = torch.cdist(data, centres).argmin(-1)
                for code in nearest.unique():
                    centres[code] = data[nearest == code].mean(0)
            self.codebook[book] = centres

    @torch.no_grad()
    def track_usage(self, codes: Tensor, decay: float = 0.98) -> None:
        """Update ``usage``, the running share of every code, with codes (..., num_tokens)."""
        for book, usage in enumerate(self.usage):
            chosen = codes[..., self.book == book].flatten()
            counts = torch.bincount(chosen, minlength=self.config.num_codes)
            usage.lerp_((counts / counts.sum()).to(usage), 1 - decay)

    @torch.no_grad()
    def restart_dead_codes(
        self, tokens: Tensor, generator: torch.Generator, threshold: float = 0.1
    ) -> int:
        """Move codes with less than ``threshold`` of an even share of the usage onto data.

        tokens (N, num_tokens, code_size) continuous. Returns the number of codes that were moved.
        Source: Jukebox (arXiv 2005.00341).
        """
        even, moved = 1 / self.config.num_codes, 0
        for book, usage in enumerate(self.usage):
            dead = torch.nonzero(usage < threshold * even).flatten()
            data = self._tokens_of(book, tokens)
            picks = torch.randint(len(data), (len(dead),), generator=generator)
            self.codebook[book, dead] = data[picks.to(data.device)]
            usage[dead] = even
            moved += len(dead)
        return moved

    def _tokens_of(self, book: int, tokens: Tensor) -> Tensor:
        """The normalised tokens (M, code_size) that ``book`` serves."""
        return self.normalize(tokens)[:, self.book == book].flatten(0, 1)


def rotate_onto(tokens: Tensor, vectors: Tensor) -> Tensor:
    """``vectors`` (..., D), reached by rotating and scaling ``tokens`` (..., D).

    Gradients pass through the rotation and the scale, both held constant, so that the angle between
    gradient and token is kept (Fifty et al., arXiv 2410.06424, eq. 4).
    """
    token, code = tokens.detach().float(), vectors.float()
    scale = code.norm(dim=-1, keepdim=True) / token.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    token, code = normalize(token, dim=-1), normalize(code, dim=-1)
    middle = normalize(token + code, dim=-1)

    def along(direction: Tensor) -> Tensor:
        return (tokens * direction).sum(-1, keepdim=True)

    return scale * (tokens - 2 * along(middle) * middle + 2 * along(token) * code)


class GaussianBottleneck(nn.Module):
    """A continuous bottleneck in place of the codes (AdaWorld, arXiv 2503.18938): that of a
    variational autoencoder, with the interface of VectorQuantizer.

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
