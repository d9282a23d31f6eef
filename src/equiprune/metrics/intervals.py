"""95 % intervals: of a proportion, of a mean of proportions over classes, of a gap between groups.

All are score intervals (Wilson 1927): they hold in small groups and at rates near 0 and 1, where
the percentile bootstrap does not. What hangs together, classes or rows of one patient, comes in
through the bootstrap: as the ratio of the true variance of a sum to that of independent parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from equiprune.metrics.rates import ratio

Z = 1.959963984540054
LEVEL = 0.05

Ends = tuple[Float[np.ndarray, "*axes"], Float[np.ndarray, "*axes"]]


def score_interval(
    p: Float[np.ndarray, "*axes"], n: Float[np.ndarray, "*axes"], z: float | Float[np.ndarray, "*#axes"] = Z
) -> Ends:
    """Wilson's interval of a proportion `p` seen in `n` independent observations, which need not be whole.

    It covers what it says on average over true proportions: what differences and means are put together from.

    Example:
        >>> low, high = score_interval(np.array(1.0), np.array(8.0))
        >>> round(float(low), 3), float(high)
        (0.676, 1.0)
    """
    n = np.where(n > 0, n, np.nan)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 1)
    return np.asarray(np.minimum(low, p)), np.asarray(np.maximum(high, p))


def covering_interval(p: Float[np.ndarray, "*axes"], n: Float[np.ndarray, "*axes"]) -> Ends:
    """Wilson's 95 % interval with continuity correction, Newcombe's (1998) method 4: for a proportion that is reported.

    It covers at least 95 % at every true proportion, where Wilson's own falls to 93 % with 8 observations.

    Args:
        p: the proportion.
        n: independent observations, which need not be whole; nan ends where it is 0.

    Example:
        >>> low, high = covering_interval(np.array(81 / 263), np.array(263.0))  # Newcombe's example
        >>> round(float(low), 4), round(float(high), 4)
        (0.2535, 0.3682)
    """
    n = np.where(n > 0, n, np.nan)
    ends = []
    for share in (p, 1 - p):  # the upper end is the lower end of the opposite
        root = np.sqrt(np.maximum(Z**2 - 1 / n + 4 * n * share * (1 - share) + (4 * share - 2), 0))
        low = (2 * n * share + Z**2 - 1 - Z * root) / (2 * (n + Z**2))
        ends.append(np.where(np.isnan(share + n), np.nan, np.where(share > 0, np.clip(low, 0, share), 0.0)))
    return np.asarray(ends[0]), np.asarray(1 - ends[1])


def smoothed(p: Float[np.ndarray, "*axes"], n: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    """Variance of a proportion, with half a success and half a failure added so that 0 and n of n have one too.

    Example:
        >>> float(smoothed(np.array(1.0), np.array(4.0))) > 0
        True
    """
    n = np.where(n > 0, n, np.nan)
    towards = (p * n + 0.5) / (n + 1)
    return np.asarray(towards * (1 - towards) / (np.maximum(n, 1) - 0.5))


def shared_out(
    variance: Float[np.ndarray, "*axes class"],
    weight: Float[np.ndarray, "*axes class"],
    together: Float[np.ndarray, "*axes"],
    z: float = Z,
) -> Float[np.ndarray, "*axes 1"]:
    """The z at which single intervals add up to one of a weighted sum (Yan and Su 2010).

    With one class it is z itself. With many it is small: errors of different classes cancel.

    Args:
        variance: of each part.
        weight: of each part in the sum; 0 where a part is left out.
        together: variance of the sum relative to that of independent parts.
        z: of the sum.

    Example:
        >>> shared_out(np.ones(4), np.full(4, 0.25), np.array(1.0), 2.0).tolist()
        [1.0]
    """
    used = np.where(weight > 0, np.nan_to_num(variance), 0.0)
    whole = np.sqrt(together * (weight**2 * used).sum(axis=-1))
    return np.nan_to_num(z * ratio(whole, (weight * np.sqrt(used)).sum(axis=-1)))[..., None]


def as_f1(jaccard: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    """F1 from the share of hits among the rows that are of the class or called so: 2 J / (1 + J)."""
    return np.asarray(2 * jaccard / (1 + jaccard))


def mean_of_proportions(
    p: Float[np.ndarray, "*axes class"],
    n: Float[np.ndarray, "*axes class"],
    weight: Float[np.ndarray, "*axes class"],
    together: Float[np.ndarray, "*axes"],
    spread: Float[np.ndarray, "*axes"] | float = 0.0,
    shape: Callable[[Float[np.ndarray, ...]], Float[np.ndarray, ...]] | None = None,
) -> Ends:
    """Interval of Σ weight x shape(p) over classes: each class's Wilson interval at the z of `shared_out`.

    Args:
        p: the proportions.
        n: independent observations behind each.
        weight: sums to 1; 0 where a class is left out.
        together: see `shared_out`.
        spread: variance of the sum in the bootstrap: what the variances of the proportions are taken to add up to at
            least, since they leave out how classes present and denominators vary.
        shape: a rising function, such as `as_f1`; None leaves proportions as they are.
    """
    curve = shape or np.asarray
    variance = smoothed(p, n)
    if shape is not None:
        near = (np.nan_to_num(p) * np.nan_to_num(n) + 0.5) / (np.nan_to_num(n) + 1)
        variance = variance * (2 / (1 + near) ** 2) ** 2
    apart = np.asarray(np.where(weight > 0, weight**2 * np.nan_to_num(variance), 0.0).sum(axis=-1))
    least = ratio(np.broadcast_to(spread, apart.shape), apart)
    z = shared_out(variance, weight, np.asarray(np.fmax(together, least)))
    low, high = score_interval(p, n, z)
    used = weight > 0
    ends = [np.where(used, weight * np.nan_to_num(curve(end)), 0.0).sum(axis=-1) for end in (low, high)]
    return np.asarray(ends[0]), np.asarray(ends[1])


@dataclass(frozen=True, eq=False)
class Difference:
    """How far below and above a difference its interval reaches, and its variance."""

    down: Float[np.ndarray, "*axes"]
    up: Float[np.ndarray, "*axes"]

    def of_size(self, delta: Float[np.ndarray, "*axes"]) -> Ends:
        """Interval of |difference|: its lower end is below 0 where the difference may be 0.

        Example:
            >>> low, high = Difference(np.array([0.1]), np.array([0.3])).of_size(np.array([-0.2]))
            >>> low.round(3).tolist(), high.round(3).tolist()
            ([-0.1], [0.3])
        """
        size = np.abs(delta)
        ahead, behind = np.where(delta < 0, self.down, self.up), np.where(delta < 0, self.up, self.down)
        return np.asarray(size - behind), np.maximum(size + ahead, behind - size)


def difference(
    p: Float[np.ndarray, "*axes"],
    n: Float[np.ndarray, "*axes"],
    q: Float[np.ndarray, "*axes"],
    m: Float[np.ndarray, "*axes"],
    z: float | Float[np.ndarray, "*#axes"] = Z,
) -> Difference:
    """Newcombe's interval (1998, method 10) of p - q, from the score intervals of both.

    Example:
        >>> found = difference(np.array(56 / 70), np.array(70.0), np.array(48 / 80), np.array(80.0))
        >>> round(0.2 - float(found.down), 4), round(0.2 + float(found.up), 4)  # Newcombe's first example
        (0.0524, 0.3339)
    """
    (low, high), (least, most) = score_interval(p, n, z), score_interval(q, m, z)
    return Difference(np.asarray(np.hypot(p - low, most - q)), np.asarray(np.hypot(high - p, q - least)))


def folded(x: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    """By how much the mean of |x + noise| exceeds |x|, for standard normal noise.

    Example:
        >>> round(float(folded(np.array(0.0))), 4), round(float(folded(np.array(3.0))), 4)
        (0.7979, 0.0008)
    """
    return np.asarray(np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2) - 2 * x * ndtr(-x))


def added_by_noise(
    size: Float[np.ndarray, "*axes"], noise: Float[np.ndarray, "*axes"], chance: Float[np.ndarray, "*axes"]
) -> Float[np.ndarray, "*axes"]:
    """What noise adds at most to the mean of |difference|: all its mean size, less where it is clearly passed.

    Args:
        size: the observed |difference|.
        noise: its standard error.
        chance: mean of |noise| where the true difference is 0.

    Example:
        >>> added_by_noise(np.array([0.1, 0.5]), np.array([0.1, 0.1]), np.array([0.08, 0.08])).round(4).tolist()
        [0.08, 0.0]
    """
    clear = np.nan_to_num(np.maximum(ratio(size, noise) - 1, 0))
    return np.asarray(chance * folded(clear) / folded(np.zeros(1)))


def sum_of_sizes(
    delta: Float[np.ndarray, "pair item"],
    reach: Difference,
    variance: Float[np.ndarray, "pair item"],
    weight: Float[np.ndarray, "pair item"],
    chance: Float[np.ndarray, "pair item"],
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """Interval of Σ weight x |true difference|, from noisy differences.

    Noise can only add to a sum of absolute values, and by how much depends on the true differences: nothing where
    they are large, the whole of its mean size where they are 0. Which of them are 0 cannot be told from the data
    (Cai and Low 2011). So the upper end is the sum plus its standard error, as if noise had added nothing; the
    lower end takes off what noise adds at most: for each item the mean of its noise, less where its difference
    is clearly large; but for one item, since a gap that is not 0 lies somewhere. With one item both ends are
    those of the difference itself.

    Args:
        delta: signed differences.
        reach: their intervals, at the z of `shared_out`.
        variance: of each.
        weight: of each; 0 where it is left out.
        chance: mean of |noise| where groups have the same error rates.
    """
    used = weight > 0
    size = np.where(used, np.abs(delta), 0.0)
    low, high = (np.where(used, end, 0.0) for end in reach.of_size(delta))
    noise = np.sqrt(np.where(used, variance, 1.0))
    added = np.where(used, weight * added_by_noise(size, noise, np.nan_to_num(chance)), 0.0)
    most = added.sum(axis=1) - added.max(axis=1, initial=0.0)
    return (weight * low).sum(axis=1) - most, (weight * high).sum(axis=1)


def interval(
    value: float, draws: Float[np.ndarray, " draw"], low: float = 0.0, high: float = 1.0
) -> tuple[float, float]:
    """Bias-corrected 95 % bootstrap interval; it always holds the value itself.

    The mean of absolute gaps grows when its parts get noisier, so a resample lies above the value as
    the value lies above the truth. Efron's BC interval answers with shifted percentiles, but runs out of
    draws when the bias is large; here the percentiles are moved by twice the median bias instead, which
    is the same for a bias that does not depend on the value. Then they are cut to [low, high] and,
    where needed, widened to hold the value.

    Args:
        value: the figure; nan gives (nan, nan).
        draws: its bootstrap draws; nan where a draw left it undefined.
        low: the least value the figure can take.
        high: the greatest.

    Example:
        >>> interval(0.25, np.linspace(0.375, 0.625, 101))
        (0.0, 0.25)
    """
    draws = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(draws):
        return np.nan, np.nan
    ends = np.quantile(draws, [LEVEL / 2, 0.5, 1 - LEVEL / 2])
    least, most = np.clip(ends[[0, 2]] - 2 * (ends[1] - value), low, high)
    return min(float(least), value), max(float(most), value)


class Together:
    """How the variance of a weighted sum over classes compares with that of independent classes, from draws.

    Args:
        centre: the observed parts; a draw that left one undefined has no deviation there.
        weight: of the parts.

    Example:
        >>> together = Together(np.zeros(2), np.ones(2))
        >>> together.add(np.array([[1.0, 1.0], [-1.0, -1.0]]))  # both always err alike
        >>> float(together.ratio())
        2.0
    """

    def __init__(self, centre: Float[np.ndarray, "*axes class"], weight: Float[np.ndarray, "*axes class"]) -> None:
        self.centre, self.weight = centre, weight
        self.linear: list[Float[np.ndarray, draw * axes]] = []
        self.sum, self.squares = np.zeros(centre.shape), np.zeros(centre.shape)

    def add(self, draws: Float[np.ndarray, "draw *axes class"]) -> None:
        """Takes in a chunk of draws."""
        away = np.nan_to_num(draws - self.centre)
        self.linear.append((away * self.weight).sum(axis=-1))
        self.sum += away.sum(axis=0)
        self.squares += (away**2).sum(axis=0)

    def shift(self) -> Float[np.ndarray, "*axes"]:
        """By how much draws of the weighted sum lie above the observed one: its bias, if parts are no plain rates."""
        return np.asarray(np.concatenate(self.linear).mean(axis=0))

    def variance(self) -> Float[np.ndarray, "*axes"]:
        """Of the weighted sum."""
        return np.asarray(np.concatenate(self.linear).var(axis=0))

    def ratio(self) -> Float[np.ndarray, "*axes"]:
        """Variance of the sum over that of independent parts; 1 where nothing varies."""
        linear = np.concatenate(self.linear)
        each = self.squares / len(linear) - (self.sum / len(linear)) ** 2
        found = ratio(linear.var(axis=0), (self.weight**2 * each).sum(axis=-1))
        return np.where(np.isnan(found), 1.0, found)
