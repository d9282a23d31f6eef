"""Fairness gaps between groups: Eopp0, Eopp1, Eodd, and the gaps of single rates.

Every function takes counts with axes `*draw group class` and gives one number a draw: the gap of
the *worst pair* of groups (with two groups, of the two). A gap is nan where no class can be compared.

What happens to a class whose rate has no denominator in one group of a pair is a choice:

- `zero_support="skip"` (default): the class is left out for that pair.
- `zero_support="as_zero"`: its rate counts as 0, which adds the other group's whole rate. This is
  what the code behind the published tables does.

Sources: FairPrune (MICCAI 2022), Eq. 5-6, and the tables of the works that followed it.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from equiprune.metrics import rates
from equiprune.metrics.counts import Counts

Eodd = Literal["half_mean", "sum", "separate"]
ZeroSupport = Literal["skip", "as_zero"]


def pairs(groups: int) -> list[tuple[int, int]]:
    """All pairs of groups, in the order of the pair axis.

    Example:
        >>> pairs(3)
        [(0, 1), (0, 2), (1, 2)]
    """
    return list(combinations(range(groups), 2))


def differences(
    rate: Float[np.ndarray, "*draw group class"], zero_support: ZeroSupport = "skip"
) -> Float[np.ndarray, "*draw pair class"]:
    """First group's rate minus the second's for every pair; nan where the class is skipped."""
    if zero_support == "as_zero":
        rate = np.where(np.isnan(rate), 0.0, rate)
    first, second = np.array(pairs(rate.shape[-2])).reshape(-1, 2).T
    return np.asarray(rate[..., first, :] - rate[..., second, :])


def mean_known(values: Float[np.ndarray, "*axes class"]) -> Float[np.ndarray, "*axes"]:
    """Mean over the last axis of what is not nan; nan where nothing is left."""
    return rates.ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


def worst(by_pair: Float[np.ndarray, "*draw pair"]) -> Float[np.ndarray, "*draw"]:
    """The largest gap over pairs; a pair that cannot be compared (nan) is passed over."""
    return np.asarray(np.fmax.reduce(by_pair, axis=-1, initial=np.nan))


def eopp0_by_pair(counts: Counts, zero_support: ZeroSupport = "skip") -> Float[np.ndarray, "*draw pair"]:
    """Mean over classes of |ΔTNR|, for every pair of groups."""
    return mean_known(np.abs(differences(rates.tnr(counts), zero_support)))


def eopp1_by_pair(counts: Counts, zero_support: ZeroSupport = "skip") -> Float[np.ndarray, "*draw pair"]:
    """Mean over classes of |ΔTPR|, for every pair of groups."""
    return mean_known(np.abs(differences(rates.tpr(counts), zero_support)))


def eodd_by_pair(
    counts: Counts, convention: Eodd = "half_mean", zero_support: ZeroSupport = "skip"
) -> Float[np.ndarray, "*draw pair"]:
    """Equalised odds in one of its three published meanings, for every pair of groups; see `eodd`."""
    tpr = differences(rates.tpr(counts), zero_support)
    fpr = differences(rates.fpr(counts), zero_support)
    if convention == "separate":
        return np.asarray(mean_known(np.abs(tpr)) + mean_known(np.abs(fpr)))
    together = np.abs(tpr + fpr)
    if convention == "half_mean":
        return np.asarray(mean_known(together) / 2)
    return np.where(np.isnan(together).all(axis=-1), np.nan, np.nansum(together, axis=-1))


def eopp0(counts: Counts, zero_support: ZeroSupport = "skip") -> Float[np.ndarray, "*draw"]:
    """Eopp0: mean over classes of the absolute gap of the true negative rate, of the worst pair.

    Example:
        >>> two = Counts.from_confusion(np.array([[[4, 0], [0, 4]], [[2, 2], [0, 4]]]))
        >>> float(eopp0(two)), float(eopp1(two)), float(eodd(two))
        (0.25, 0.25, 0.25)
    """
    return worst(eopp0_by_pair(counts, zero_support))


def eopp1(counts: Counts, zero_support: ZeroSupport = "skip") -> Float[np.ndarray, "*draw"]:
    """Eopp1: mean over classes of the absolute gap of the true positive rate, of the worst pair."""
    return worst(eopp1_by_pair(counts, zero_support))


def eodd(
    counts: Counts, convention: Eodd = "half_mean", zero_support: ZeroSupport = "skip"
) -> Float[np.ndarray, "*draw"]:
    """Eodd, of the worst pair, under one of three published conventions.

    Args:
        counts: with two groups or more.
        convention: `half_mean` = mean over classes of |ΔTPR + ΔFPR| / 2 (nearly all published tables; then
            |2 Eodd - Eopp1| <= Eopp0); `sum` = the sum of |ΔTPR + ΔFPR| (FairPrune, Eq. 6);
            `separate` = mean |ΔTPR| + mean |ΔFPR| (FairPrune's ISIC table).
        zero_support: see the module. A class is skipped where either rate is undefined; `separate`
            skips for each of its two means alone.
    """
    return worst(eodd_by_pair(counts, convention, zero_support))


def rate_by_pair(rate: Float[np.ndarray, "*draw group class"]) -> Float[np.ndarray, "*draw pair"]:
    """Mean over classes of the absolute gap of one rate, over the classes where both groups have it.

    Used for the gaps of TPR, FPR, PPV and FNR that the layer-pruning report prints for each finding
    and averages over findings with support. The absolute value is taken before the mean, so that gaps
    of opposite sign do not cancel; hence the FNR gap equals the TPR gap (FNR = 1 - TPR), and the TPR
    and FPR gaps equal Eopp1 and Eopp0 where classes without support are skipped. `signed` keeps the sign.
    """
    return mean_known(np.abs(differences(rate)))


def signed(rate: Float[np.ndarray, "group class"], privileged: int, other: int) -> float:
    """Mean over classes of (privileged group's rate - other group's); nan where no class has both.

    Example:
        >>> signed(np.array([[0.75, 0.5], [0.5, np.nan]]), 1, 0)
        -0.25
    """
    return float(mean_known(rate[privileged] - rate[other]))


def scalar_by_pair(value: Float[np.ndarray, "*draw group"]) -> Float[np.ndarray, "*draw pair"]:
    """Absolute difference of one figure a group (macro F1, AUROC), for every pair; nan where one is nan."""
    return np.asarray(np.abs(differences(value[..., None]))[..., 0])


def compared(rate: Float[np.ndarray, "group class"], pair: tuple[int, int]) -> Bool[np.ndarray, " class"]:
    """The classes whose rate both groups of a pair have."""
    return np.asarray(~np.isnan(rate[list(pair)]).any(axis=0))
