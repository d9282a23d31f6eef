"""Fairness gaps between groups: Eopp0, Eopp1, Eodd, demographic parity, and the gaps of single rates.

A gap is made of *components*: signed differences between the two groups of a pair, one a class. Its
value is the mean of their absolute values over the classes that can be compared. What happens to a
class whose rate has no denominator in one group of a pair is a choice, for Eopp0, Eopp1 and Eodd:

- `zero_support="skip"` (default): the class is left out for that pair.
- `zero_support="as_zero"`: its rate counts as 0, which adds the other group's whole rate. This is
  what the code behind the published tables does.

Sources: FairPrune (MICCAI 2022), Eq. 5-6, and the tables of the works that followed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from equiprune.metrics import rates
from equiprune.metrics.counts import Counts

Eodd = Literal["half_mean", "sum", "separate"]
ZeroSupport = Literal["skip", "as_zero"]
Pairs = Sequence[tuple[int, int]]
Rates = dict[str, Float[np.ndarray, "*draw group class"]]

RATES: dict[str, Callable[[Counts], Float[np.ndarray, "*draw group class"]]] = {
    "tpr": rates.tpr,
    "fpr": rates.fpr,
    "ppv": rates.ppv,
    "fnr": rates.fnr,
    "tnr": rates.tnr,
    "selection_rate": rates.selection_rate,
}


@dataclass(frozen=True)
class Policy:
    """The two choices that change a gap's meaning; see the module."""

    eodd: Eodd = "half_mean"
    zero_support: ZeroSupport = "skip"


Part = tuple[tuple[str, float], ...]
"""One mean over classes: the rates whose differences are added, with their weights."""

_EODD: dict[str, tuple[Part, ...]] = {
    "half_mean": ((("tpr", 0.5), ("fpr", 0.5)),),
    "sum": ((("tpr", 1.0), ("fpr", 1.0)),),
    "separate": ((("tpr", 1.0),), (("fpr", 1.0),)),
}
COUNT_GAPS = ("eopp0", "eopp1", "eodd", "tpr", "fpr", "ppv", "fnr", "selection_rate")
"""The gaps that are means over classes of absolute differences of rates."""


def parts(name: str, policy: Policy) -> tuple[Part, ...]:
    """What a gap of `COUNT_GAPS` is the sum of.

    Example:
        >>> parts("eopp1", Policy())
        ((('tpr', 1.0),),)
    """
    single = {"eopp0": "tnr", "eopp1": "tpr"}.get(name, name)
    return _EODD[policy.eodd] if name == "eodd" else (((single, 1.0),),)


def pairs(groups: int) -> list[tuple[int, int]]:
    """All pairs of groups, in the order of the pair axis.

    Example:
        >>> pairs(3)
        [(0, 1), (0, 2), (1, 2)]
    """
    return list(combinations(range(groups), 2))


def all_rates(counts: Counts) -> Rates:
    """Every rate of `RATES`."""
    return {name: rate(counts) for name, rate in RATES.items()}


def differences(
    rate: Float[np.ndarray, "*draw group class"], among: Pairs | None = None
) -> Float[np.ndarray, "*draw pair class"]:
    """First group's rate minus the second's for every pair; nan where one of them is undefined."""
    first, second = np.array(pairs(rate.shape[-2]) if among is None else among).reshape(-1, 2).T
    return np.asarray(rate[..., first, :] - rate[..., second, :])


def components(
    name: str, found: Rates, policy: Policy, among: Pairs | None = None
) -> Float[np.ndarray, "*draw pair part class"]:
    """The signed differences that a gap is made of; nan where a class cannot be compared.

    Args:
        name: one of `COUNT_GAPS`.
        found: `all_rates`.
        policy: which Eodd, and what zero support counts as.
        among: the pairs of groups; all by default.
    """
    as_zero = policy.zero_support == "as_zero" and name.startswith("eo")
    each = [
        sum(
            weight * differences(np.nan_to_num(found[rate]) if as_zero else found[rate], among) for rate, weight in part
        )
        for part in parts(name, policy)
    ]
    return np.stack(each, axis=-2)


def total(
    name: str, delta: Float[np.ndarray, "*draw pair part class"], policy: Policy
) -> Float[np.ndarray, "*draw pair"]:
    """The gap of every pair from its components: means over classes of absolute values, summed over parts."""
    size = np.abs(delta)
    if name == "eodd" and policy.eodd == "sum":
        return np.where(np.isnan(size).all(axis=(-2, -1)), np.nan, np.nansum(size, axis=(-2, -1)))
    return np.asarray(mean_known(size).sum(axis=-1))


def mean_known(values: Float[np.ndarray, "*axes class"]) -> Float[np.ndarray, "*axes"]:
    """Mean over the last axis of what is not nan; nan where nothing is left."""
    return rates.ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


def by_pair(
    name: str, counts: Counts, policy: Policy | None = None, among: Pairs | None = None
) -> Float[np.ndarray, "*draw pair"]:
    """A gap of `COUNT_GAPS` for every pair of groups.

    The gaps of single rates (`tpr`, `fpr`, `ppv`, `fnr`) are those that the layer-pruning report prints
    for each finding and averages over findings with support. The absolute value is taken before the mean,
    so that gaps of opposite sign do not cancel; hence the FNR gap equals the TPR gap (FNR = 1 - TPR), and
    the TPR and FPR gaps equal Eopp1 and Eopp0 where classes without support are skipped. `signed` keeps the sign.
    """
    chosen = policy or Policy()
    return total(name, components(name, all_rates(counts), chosen, among), chosen)


def worst(by_pair: Float[np.ndarray, "*draw pair"]) -> Float[np.ndarray, "*draw"]:
    """The largest gap over pairs; a pair that cannot be compared (nan) is passed over."""
    return np.asarray(np.fmax.reduce(by_pair, axis=-1, initial=np.nan))


def eopp0(counts: Counts, zero_support: ZeroSupport = "skip") -> Float[np.ndarray, "*draw"]:
    """Eopp0: mean over classes of the absolute gap of the true negative rate, of the worst pair.

    Example:
        >>> two = Counts.from_confusion(np.array([[[4, 0], [0, 4]], [[2, 2], [0, 4]]]))
        >>> float(eopp0(two)), float(eopp1(two)), float(eodd(two))
        (0.25, 0.25, 0.25)
    """
    return worst(by_pair("eopp0", counts, Policy(zero_support=zero_support)))


def eopp1(counts: Counts, zero_support: ZeroSupport = "skip") -> Float[np.ndarray, "*draw"]:
    """Eopp1: mean over classes of the absolute gap of the true positive rate, of the worst pair."""
    return worst(by_pair("eopp1", counts, Policy(zero_support=zero_support)))


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
    return worst(by_pair("eodd", counts, Policy(convention, zero_support)))


def selection_rate(counts: Counts) -> Float[np.ndarray, "*draw"]:
    """Demographic parity: mean over classes of the absolute gap of the selection rate, of the worst pair."""
    return worst(by_pair("selection_rate", counts))


def signed(rate: Float[np.ndarray, "group class"], privileged: int, other: int) -> float:
    """Mean over classes of (privileged group's rate - other group's); nan where no class has both.

    Example:
        >>> signed(np.array([[0.75, 0.5], [0.5, np.nan]]), 1, 0)
        -0.25
    """
    return float(mean_known(rate[privileged] - rate[other]))


def scalar_by_pair(
    value: Float[np.ndarray, "*draw group"], among: Pairs | None = None
) -> Float[np.ndarray, "*draw pair"]:
    """Absolute difference of one figure a group (macro F1, AUROC), for every pair; nan where one is nan."""
    return np.asarray(np.abs(differences(value[..., None], among))[..., 0])


def smaller_over_larger(
    rate: Float[np.ndarray, "*draw group class"], among: Pairs | None = None
) -> Float[np.ndarray, "*draw pair"]:
    """Ratio form: mean over classes of the smaller rate over the larger (1 is fair), for every pair.

    A class where both rates are 0 counts as 1 (equal); one without a denominator is left out.

    Example:
        >>> smaller_over_larger(np.array([[0.5, 1.0], [1.0, 1.0]])).tolist()
        [0.75]
    """
    first, second = np.array(pairs(rate.shape[-2]) if among is None else among).reshape(-1, 2).T
    one, other = rate[..., first, :], rate[..., second, :]
    low, high = np.minimum(one, other), np.maximum(one, other)
    return mean_known(np.where(high == 0, 1.0, rates.ratio(low, high)))


def deviation(
    rate: Float[np.ndarray, "group class"], overall: Float[np.ndarray, " class"], among: Bool[np.ndarray, " group"]
) -> float:
    """Mean over classes of the groups' mean absolute deviation from the overall rate; nan where nothing is known.

    Example:
        >>> deviation(np.array([[0.5], [1.0]]), np.array([0.75]), np.array([True, True]))
        0.25
    """
    away = np.abs(rate[among] - overall)
    return float(mean_known(mean_known(away.T)))


def compared(delta: Float[np.ndarray, "part class"]) -> Bool[np.ndarray, " class"]:
    """The classes that a gap of one pair rests on."""
    return np.asarray(~np.isnan(delta).any(axis=0))
