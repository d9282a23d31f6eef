"""Tests: chance alone, single classes, several classes at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln, ndtr

LEVEL = 0.05
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
    gap, weight = _under_equal(hits + other_hits, total, other_total)
    seen = abs(hits / total - other_hits / other_total)
    above, equal = gap > seen + _TIE, np.abs(gap - seen) <= _TIE
    if not (gap < seen - _TIE).any():
        return 1.0
    return float(min(1.0, weight[above].sum() + weight[equal].sum() / 2))


def exact_floor(hits: int, total: int, other_hits: int, other_total: int) -> float:
    """The noise floor of the gap of one rate: its mean where both groups have the rate of all, with both margins fixed.

    Returns:
        nan where a proportion has no denominator.

    Example:
        >>> exact_floor(1, 1, 0, 1), exact_floor(3, 3, 5, 5)
        (1.0, 0.0)
    """
    if not total or not other_total:
        return np.nan
    gap, weight = _under_equal(hits + other_hits, total, other_total)
    return float(gap @ weight / weight.sum())


def _under_equal(
    right: int, total: int, other_total: int
) -> tuple[Float[np.ndarray, " outcome"], Float[np.ndarray, " outcome"]]:
    """The gap of every outcome with these margins, and its probability (hypergeometric)."""
    first = np.arange(max(0, right - other_total), min(total, right) + 1)
    gap = np.abs(first / total - (right - first) / other_total)
    log = _choices(total, first) + _choices(other_total, right - first) - _choices(total + other_total, np.array(right))
    return gap, np.exp(log)


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
