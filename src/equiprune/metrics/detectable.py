"""The smallest gap that a test set could have found: power at the level that `testing` tests at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from equiprune.metrics.testing import LEVEL

POWER = 0.8
_TWO_SIDED = float(ndtri(1 - LEVEL / 2))
_LEAST = 1e-12  # of a standard deviation that is divided by


@dataclass(frozen=True, eq=False)
class Shares:
    """Components of a gap that are differences of shares: the larger a difference, the noisier they may be.

    A class without an error shows no noise under permutation, and would have some if there were a difference. So one
    group is taken to have the rate of all groups, the other one that is nearer to 1/2, where shares are noisier.

    Args:
        rate: of each component, in all groups.
        inverse: 1/n + 1/m of the two groups' numbers of observations.
        times: what a difference of the shares counts in its component.
    """

    rate: Float[np.ndarray, " item"]
    inverse: Float[np.ndarray, " item"]
    times: Float[np.ndarray, " item"]

    def __getitem__(self, used: Bool[np.ndarray, " item"]) -> Shares:
        return Shares(self.rate[used], self.inverse[used], self.times[used])

    def moved(self, size: float) -> tuple[Float[np.ndarray, " item"], ...]:
        """Differences of this size, at most what is left of the shares, and how much more variance they have.

        Returns:
            The differences; by how much their variance grows under permutation; by how much it really grows.
        """
        away = np.where(self.rate < 0.5, 1, -1) * size / self.times
        worse = np.clip(self.rate + away, 0, 1)
        now, then, both = (p * (1 - p) for p in (self.rate, worse, (self.rate + worse) / 2))
        scale = self.times**2 * self.inverse
        return np.abs(worse - self.rate) * self.times, scale * (both - now), scale * (then - now) / 2


def detectable(
    permuted: Float[np.ndarray, " draw"],
    noise: Float[np.ndarray, " item"],
    weight: Float[np.ndarray, " item"],
    rng: np.random.Generator,
    top: float = 1.0,
    shares: Shares | None = None,
) -> float:
    """The smallest true gap that p < 0.05 would find with 80 % power, if it lay equally in every class.

    Args:
        permuted: the gap under chance.
        noise: standard deviation of each component under chance.
        weight: of each component in the gap; 0 where it is left out.
        rng: of the normal draws that stand for new test sets.
        top: the largest difference there can be.
        shares: where components are shares, how their noise grows with the gap. None: it does not.

    Returns:
        Σ weight x difference at that difference; nan where even the largest would not be found, or where chance
        shows nothing and components are no shares, so that their noise is not known.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> one = np.abs(rng.normal(size=20_000)) * 0.1
        >>> round(detectable(one, np.array([0.1]), np.array([1.0]), rng), 2)  # (1.96 + 0.84) standard errors
        0.28
    """
    permuted = permuted[~np.isnan(permuted)]
    used = (weight > 0) & ~np.isnan(noise)
    if not len(permuted) or not used.any() or (shares is None and noise[used].max() == 0):
        return np.nan
    limit = float(np.quantile(permuted, 1 - LEVEL))
    drawn = rng.normal(size=(1000, int(used.sum())))
    law = _Planted(limit, noise[used], weight[used], None if shares is None else shares[used], drawn)
    low, high = 0.0, top if shares else min(top, limit / float(weight[used].sum()) + 10 * float(noise[used].max()))
    if law.power(high) < POWER:
        return np.nan
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if law.power(middle) >= POWER else (middle, high)
    return float(law.moved(high)[0] @ weight[used])


@dataclass(frozen=True, eq=False)
class _Planted:
    """A difference of one size in every component, and how often it is found."""

    limit: float
    noise: Float[np.ndarray, " item"]
    weight: Float[np.ndarray, " item"]
    shares: Shares | None
    drawn: Float[np.ndarray, "draw item"]

    def moved(self, size: float) -> tuple[Float[np.ndarray, " item"], ...]:
        return self.shares.moved(size) if self.shares else (np.full(len(self.noise), size), *np.zeros((2, 1)))

    def power(self, size: float) -> float:
        delta, permuted, real = self.moved(size)
        noise, chance = (np.sqrt(np.maximum(self.noise**2 + more, 0)) for more in (real, permuted))
        if len(noise) == 1:  # without the error of 1,000 draws
            weight = self.weight[0]
            limit = self.limit + _TWO_SIDED * weight * float(chance[0] - self.noise[0])
            return float(ndtr((delta[0] * weight - limit) / max(noise[0] * weight, _LEAST)))
        limit = self.limit + self._exceeded(chance) - self._usual
        return float((np.abs(delta + noise * self.drawn) @ self.weight > limit).mean())

    @cached_property
    def _usual(self) -> float:
        """The same at every size that is tried."""
        return self._exceeded(self.noise)

    def _exceeded(self, noise: Float[np.ndarray, " item"]) -> float:
        """What a gap of chance alone passes in one case of twenty."""
        return float(np.quantile(np.abs(noise * self.drawn) @ self.weight, 1 - LEVEL))
