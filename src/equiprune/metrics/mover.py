"""Intervals of a change and of a ratio of gaps, put together from the intervals of both models' audits.

How far an end of an interval lies from its value stands for the error in that direction (MOVER, the method of variance
estimates recovery: Zou 2008, Donner and Zou 2012). Noise lifts gaps, by an amount that depends on what they truly are.
That is no error that could cancel another: it is taken off the one end as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Lifted:
    """A figure that is at least 0 and that noise may have lifted.

    Args:
        value: the figure.
        error: how far its 95 % interval reaches up.
        lift: by how much noise has lifted it at most.
    """

    value: float
    error: float
    lift: float

    @classmethod
    def of(cls, value: float, low: float, high: float) -> Lifted:
        """From an audit's interval: what it reaches further down than up is lift; if it may be 0, it may be all lift.

        Example:
            >>> Lifted.of(0.5, 0.25, 0.625), Lifted.of(0.125, 0.0, 0.25)
            (Lifted(value=0.5, error=0.125, lift=0.125), Lifted(value=0.125, error=0.125, lift=0.125))
        """
        return cls(value, high - value, value if low <= 0 else max(value - low - (high - value), 0.0))


def correlation(first: Float[np.ndarray, " draw"], second: Float[np.ndarray, " draw"]) -> float:
    """How two figures vary together: 1 where their difference never varies, 0 where only one of them does.

    Example:
        >>> correlation(np.array([0.25, 0.5]), np.array([0.5, 0.75])), correlation(np.zeros(2), np.arange(2.0))
        (1.0, 0.0)
    """
    seen = np.isfinite(first) & np.isfinite(second)
    first, second = first[seen], second[seen]
    if len(first) < 2 or np.ptp(second - first) == 0:
        return 1.0
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))


def change(before: Lifted, after: Lifted, together: float) -> tuple[float, float]:
    """95 % interval of after - before.

    Args:
        before: one model's gap.
        after: the other's.
        together: their correlation. Gaps that vary alike are lifted alike.

    Example:
        >>> change(Lifted(0.5, 0.3, 0.0), Lifted(0.25, 0.4, 0.25), 0.0)
        (-0.8, 0.25)
        >>> change(Lifted(0.5, 0.3, 0.2), Lifted(0.25, 0.3, 0.25), 1.0)
        (-0.25, -0.25)
    """
    apart, error = sqrt(1 - together**2), _error(after.error, before.error, together)
    value = after.value - before.value
    low, high = value - apart * after.lift - error, value + apart * before.lift + error
    return max(low, -before.value - before.error), min(high, after.value + after.error)  # gaps are at least 0


def quotient(part: Lifted, whole: Lifted, together: float) -> tuple[float, float]:
    """95 % interval of part / whole; its upper end is infinite where the whole may be 0.

    Args:
        part: one model's gap.
        whole: the other's, not 0.
        together: their correlation.

    Example:
        >>> low, high = quotient(Lifted(2.0, 1.0, 0.0), Lifted(4.0, 1.0, 0.0), 0.0)
        >>> round(low, 3), round(high, 3)
        (0.243, 0.824)
        >>> quotient(Lifted(0.5, 0.1, 0.0), Lifted(0.5, 0.1, 0.5), 0.0)[1]
        inf
    """
    value, apart = part.value / whole.value, sqrt(1 - together**2)
    if part == whole and together == 1:
        return value, value
    least, most = (part.value - apart * part.lift, whole.value), (part.value, whole.value - apart * whole.lift)
    errors = part.error, whole.error
    return min(_first(*least, *errors, together), value), max(_last(*most, *errors, together), value)


def gain_less_ratio(
    gain: tuple[float, float, float], gaps: tuple[Lifted, Lifted], together: float, with_ratio: float
) -> tuple[float, float]:
    """95 % interval of a gain minus a ratio of gaps; an end is infinite where the second gap may be 0.

    Args:
        gain: its value and the ends of its interval.
        gaps: part and whole of the ratio.
        together: the correlation of part and whole.
        with_ratio: that of the gain and the ratio.

    Example:
        >>> gain_less_ratio((0.25, 0.25, 0.25), (Lifted(0.5, 0.0, 0.25), Lifted(1.0, 0.0, 0.5)), 0.0, 0.0)
        (-0.75, 0.0)
        >>> gain_less_ratio((0.0, -0.1, 0.1), (Lifted(0.5, 0.1, 0.0), Lifted(0.5, 0.1, 0.5)), 0.0, 0.0)[0]
        -inf
    """
    value, low, high = gain
    part, whole = gaps
    apart, (bottom, top) = sqrt(1 - together**2), quotient(part, whole, together)
    ratio, least = part.value / whole.value, (part.value - apart * part.lift) / whole.value
    # What gaps are lifted by is added as a whole: it is no error that another could cancel.
    up = _error(high - value, max(least - bottom, 0.0), with_ratio) + ratio - least
    if top == inf:
        return -inf, value - ratio + up
    most = part.value / (whole.value - apart * whole.lift)
    return value - most - _error(value - low, max(top - most, 0.0), with_ratio), value - ratio + up


def _error(one: float, other: float, together: float) -> float:
    if inf in (one, other):
        return inf
    return sqrt(max(one**2 + other**2 - 2 * together * one * other, 0.0))


def _first(part: float, whole: float, error: float, of_whole: float, together: float) -> float:
    """The least r at which part - r x whole is no further above 0 than its error."""
    a, b = whole**2 - of_whole**2, part * whole - together * error * of_whole
    c = max(part**2 - error**2, 0.0)
    reach = b + sqrt(max(b**2 - a * c, 0.0))
    return c / reach if reach > 0 else 0.0


def _last(part: float, whole: float, error: float, of_whole: float, together: float) -> float:
    """The greatest r at which part - r x whole is no further below 0 than its error."""
    a, b = whole**2 - of_whole**2, part * whole - together * error * of_whole
    if whole <= 0 or a <= 0:
        return inf
    return (b + sqrt(max(b**2 - a * (part**2 - error**2), 0.0))) / a
