"""Tests: chance alone, single classes, several classes at once, and what a test set could find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln, ndtr, ndtri

POWER = 0.8
LEVEL = 0.05
_TWO_SIDED = float(ndtri(1 - LEVEL / 2))
_TIE = 1e-12  # equal gaps may differ in the last bit


def chance(value: float, permuted: Float[np.ndarray, " draw"]) -> tuple[float, float, float]:
    """The noise floor of a gap (mean over permutations), its 95th percentile, and the gap's p-value.

    The p-value is a mid-p (Lancaster 1961): draws equal to the gap count half. Gaps of few images take few values,
    and counting ties in full would make the test find too little. A gap that no draw falls below has p = 1.

    Example:
        >>> chance(0.5, np.array([0.25, 0.25, 0.25, 0.75]))[::2]
        (0.375, 0.3)
    """
    permuted = permuted[~np.isnan(permuted)]
    if np.isnan(value) or not len(permuted):
        return np.nan, np.nan, np.nan
    above = int((permuted > value + _TIE).sum())
    equal = int((permuted >= value - _TIE).sum()) - above
    p = 1.0 if above + equal == len(permuted) else (0.5 + above + equal / 2) / (1 + len(permuted))
    return float(permuted.mean()), float(np.quantile(permuted, 1 - LEVEL)), p


def two_sided(size: float, error: float) -> float:
    """P-value of a difference with a normal error; without error, 1 for no difference and 0 for any.

    Example:
        >>> round(two_sided(1.96, 1.0), 3), two_sided(0.0, 0.0), two_sided(0.5, 0.0)
        (0.05, 1.0, 0.0)
    """
    if error <= 0:
        return float(size <= _TIE)
    return float(2 * ndtr(-size / error))


def fisher(hits: int, total: int, other_hits: int, other_total: int) -> float:
    """Two-sided mid-p of Fisher's exact test that two proportions are equal; nan where one has no denominator.

    With both margins fixed, outcomes are ordered by the difference of the proportions, as the gap orders them.

    Example:
        >>> round(fisher(8, 8, 4, 8), 4), fisher(4, 8, 4, 8)
        (0.0385, 1.0)
    """
    if not total or not other_total:
        return np.nan
    right = hits + other_hits
    first = np.arange(max(0, right - other_total), min(total, right) + 1)
    gap = np.abs(first / total - (right - first) / other_total)
    seen = abs(hits / total - other_hits / other_total)
    log = _choices(total, first) + _choices(other_total, right - first) - _choices(total + other_total, np.array(right))
    weight = np.exp(log)
    above, equal = gap > seen + _TIE, np.abs(gap - seen) <= _TIE
    if not (gap < seen - _TIE).any():
        return 1.0
    return float(min(1.0, weight[above].sum() + weight[equal].sum() / 2))


def _choices(many: int, chosen: Int[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    return np.asarray(gammaln(many + 1) - gammaln(chosen + 1) - gammaln(many - chosen + 1))


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Holm's adjusted p-values: below 0.05, the chance of any false finding among all tests is below 0.05.

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    return _stepped(p, falling=True)


def benjamini_hochberg(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Benjamini and Hochberg's adjusted p-values: of those below 0.05, at most 5 % are false on average.

    Example:
        >>> benjamini_hochberg(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
        [0.03, 0.04, nan, 0.04]
    """
    return _stepped(p, falling=False)


def _stepped(p: Float[np.ndarray, " test"], *, falling: bool) -> Float[np.ndarray, " test"]:
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    rank = np.arange(1, len(order) + 1)
    adjusted = np.full(len(p), np.nan)
    if falling:
        stepped = np.maximum.accumulate(p[order] * (len(order) + 1 - rank))
    else:
        stepped = np.minimum.accumulate((p[order] * len(order) / rank)[::-1])[::-1]
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


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
            return float(ndtr((delta[0] * weight - limit) / max(noise[0] * weight, _TIE)))
        limit = self.limit + self._exceeded(chance) - self._exceeded(self.noise)
        return float((np.abs(delta + noise * self.drawn) @ self.weight > limit).mean())

    def _exceeded(self, noise: Float[np.ndarray, " item"]) -> float:
        """What a gap of chance alone passes in one case of twenty."""
        return float(np.quantile(np.abs(noise * self.drawn) @ self.weight, 1 - LEVEL))
