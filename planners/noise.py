"""Noise over time: unit variance at every step, whatever its colour.

Correlated noise is a linear filter of white noise, so over a horizon of H steps it is one matrix:
`M @ z` with z (H, ...) standard normal. Rows of M with unit norm keep the variance at one, which
the filters of VP2 (std 0.577 at beta 0.5) and of common iCEM code (1.19 at exponent 2) do not.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """Noise over a horizon, given by its mixing matrix."""

    def matrix(self, horizon: int) -> Tensor | None:
        """(H, H), or (A, H, H) for each component of an action its own, that white noise over
        time is multiplied with; None leaves it white."""
        ...


@dataclass(frozen=True)
class WhiteNoise:
    """Independent at every step."""

    def matrix(self, horizon: int) -> None:
        """None: it stays white."""
        return None


@dataclass(frozen=True)
class AR1Noise:
    """x[0] = z[0], x[t] = beta x[t-1] + sqrt(1 - beta^2) z[t]: correlation beta^k at lag k.

    `beta` in [0, 1), one number or one for each component of an action: a gripper that is to hold
    a thing must not change its mind at every step. The noise of Nagabandi et al. 2019 (PDDM) and
    of VP2, with the factor that keeps the variance.
    """

    beta: float | Sequence[float] = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.beta, Sequence):
            object.__setattr__(self, "beta", tuple(self.beta))
        if not self._betas or not all(0 <= beta < 1 for beta in self._betas):
            raise ValueError(f"beta must be in [0, 1), not {self.beta}")

    @property
    def _betas(self) -> Sequence[float]:
        return self.beta if isinstance(self.beta, Sequence) else (self.beta,)

    def matrix(self, horizon: int) -> Tensor:
        """The Cholesky factor of the correlation that falls by `beta` a step."""
        matrices = torch.stack(
            [ar1_matrix(beta, horizon, (1 - beta**2) ** 0.5) for beta in self._betas]
        )
        return matrices if isinstance(self.beta, Sequence) else matrices[0]


@dataclass(frozen=True)
class ColoredNoise:
    """Power spectrum 1 / f^exponent: 0 white, 1 pink, 2 red (Pinneri et al. 2020, iCEM).

    The spectrum of Timmer and Koenig 1995 on a period of 2H steps, of which a plan is one half:
    on a period of H steps, as in common code, the last step would resemble the first.
    `exponent` >= 0.
    """

    exponent: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.exponent < float("inf"):
            raise ValueError(f"the noise exponent must be finite and >= 0, not {self.exponent}")

    def matrix(self, horizon: int) -> Tensor:
        """The square root of the correlation that the power spectrum has."""
        return _colored_matrix(self.exponent, horizon)


@lru_cache(maxsize=64)
def ar1_matrix(beta: float, horizon: int, fresh: float) -> Tensor:
    """(H, H): x[0] = z[0], x[t] = beta x[t-1] + fresh z[t]."""
    lag = torch.arange(horizon)[:, None] - torch.arange(horizon)
    matrix = (torch.tensor(beta, dtype=torch.float64) ** lag.clamp(min=0)).tril()
    matrix[:, 1:] *= fresh
    return matrix.float()


@lru_cache(maxsize=64)
def _colored_matrix(exponent: float, horizon: int) -> Tensor:
    frequencies = torch.arange(horizon + 1, dtype=torch.float64).clamp(min=1)
    correlation = torch.fft.irfft(frequencies**-exponent + 0j, n=2 * horizon)[:horizon]
    lag = (torch.arange(horizon)[:, None] - torch.arange(horizon)).abs()
    values, vectors = torch.linalg.eigh((correlation / correlation[0])[lag])
    return ((vectors * values.clamp(min=0).sqrt()) @ vectors.T).float()


class NoiseStream:
    """Draws noise for B problems, each from a generator of its own.

    A problem's numbers depend on its own seed alone, so its plan does not depend on the other
    problems of the batch. ``antithetic``: the second half of the samples is minus the first.
    """

    def __init__(
        self,
        noise: Noise,
        seeds: Sequence[int],
        horizon: int,
        action_dim: int,
        device: torch.device,
        antithetic: bool = False,
    ) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._horizon, self._action_dim, self._device = horizon, action_dim, device
        self._antithetic = antithetic
        matrix = noise.matrix(horizon)
        if matrix is not None and matrix.ndim == 3 and len(matrix) != action_dim:
            raise ValueError(
                f"the noise is of {len(matrix)} components, but an action has {action_dim}"
            )
        self._matrix = None if matrix is None else matrix.to(device)
        self._white = self._mixed = torch.empty(0, 0, 0)  # kept between draws

    def draw(self, num_samples: int, std: Tensor, mean: Tensor | None = None) -> Tensor:
        """New normal samples of `std` around `mean` (both (B, H, A); None: around zero), float32
        (B, N, H, A)."""
        count = -(-num_samples // 2) if self._antithetic else num_samples
        shape = len(self._generators), num_samples, self._horizon, self._action_dim
        samples = torch.empty(shape, device=self._device)
        drawn, mirrored = samples[:, :count], samples[:, count:]
        torch.mul(self._unscaled(count), std.unsqueeze(1), out=drawn)
        if mean is None:
            torch.neg(drawn[:, : mirrored.shape[1]], out=mirrored)
            return samples
        centre = mean.unsqueeze(1)
        torch.sub(centre, drawn[:, : mirrored.shape[1]], out=mirrored)
        drawn.add_(centre)
        return samples

    def _unscaled(self, count: int) -> Tensor:
        """(B, count, H, A) in memory that the next call writes to again."""
        batch, steps, dims = len(self._generators), self._horizon, self._action_dim
        if self._white.shape[2:] != (count * dims,):
            self._white = torch.empty(batch, steps, count * dims, device=self._device)
            self._mixed = torch.empty_like(self._white)
        for row, generator in zip(self._white.unbind(), self._generators, strict=True):
            row.normal_(generator=generator)
        if self._matrix is None:
            return self._white.view(batch, count, steps, dims)
        if self._matrix.ndim == 3:
            white = self._white.view(batch, steps, count, dims).permute(0, 3, 1, 2)
            return (self._matrix @ white).permute(0, 3, 2, 1)
        torch.bmm(self._matrix.expand(batch, steps, steps), self._white, out=self._mixed)
        return self._mixed.view(batch, steps, count, dims).transpose(1, 2)


def problem_seeds(seed: int | Sequence[int] | torch.Generator, batch: int) -> list[int]:
    """One seed per problem.

    An int s gives problem b the seed that (s, b) hashes to; a sequence of B ints gives problem b
    what the int seeds[b] would give a batch of one; a generator draws the ints (and advances).
    """
    if isinstance(seed, torch.Generator):
        drawn = torch.randint(2**62, (batch,), generator=seed, device=seed.device)
        pairs = [(s, 0) for s in drawn.tolist()]
    elif isinstance(seed, Sequence):
        if len(seed) != batch:
            raise ValueError(f"{len(seed)} seeds for {batch} problems: give one each, or one int")
        pairs = [(whole_seed(s), 0) for s in seed]
    else:
        pairs = [(whole_seed(seed), b) for b in range(batch)]
    return [_mixed(_mixed(s) + row) >> 1 for s, row in pairs]


def whole_seed(seed: object) -> int:
    """`seed` as an int; TypeError or ValueError unless it is a whole number, not negative."""
    try:
        number = operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"a seed is a whole number, not {seed!r}") from None
    if number < 0:
        raise ValueError(f"seeds must not be negative: {number}")
    return number


def _mixed(number: int) -> int:
    """A hash of 64 bits (Steele et al. 2014, SplitMix64): near numbers give far ones."""
    z = (number + 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def noise_seeds(seeds: Sequence[int]) -> Iterator[int]:
    """Seeds below 2**32 for the noise of a stochastic cost, from the seeds of the problems."""
    generator = np.random.default_rng(np.random.SeedSequence(seeds, spawn_key=(1,)))
    while True:
        yield int(generator.integers(2**32))
