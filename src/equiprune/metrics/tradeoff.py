"""Accuracy against fairness: FATE, and the models that no other model beats in both."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
from jaxtyping import Bool, Float

CRITERIA = ("eopp0", "eopp1", "eodd")
"""The gaps that FATE and the Pareto front set against F1."""


def mean_f1(by_group: Float[np.ndarray, "*draw group"]) -> Float[np.ndarray, "*draw"]:
    """F1 as FATE takes it, as in the published tables: the mean over groups of macro F1; nan where one has none.

    Example:
        >>> float(mean_f1(np.array([0.5, 0.75])))
        0.625
    """
    return np.asarray(by_group.mean(axis=-1))


def fate(f1: float, f1_base: float, fc: float, fc_base: float, weight: float = 1.0) -> float:
    """FATE: relative gain in accuracy minus relative growth of unfairness, against a baseline.

    `(F1 - F1_b) / F1_b - weight * (FC - FC_b) / FC_b`. Above 0 the model trades well. Use unrounded
    values; the baseline is the vanilla model of the same experiment. Source: the tables of the
    FairPrune and soft-nearest-neighbour channel pruning works.

    Args:
        f1: macro F1 of the model.
        f1_base: macro F1 of the baseline.
        fc: a fairness criterion of the model (Eopp0, Eopp1 or Eodd), where 0 is fair.
        fc_base: the same of the baseline.
        weight: λ, how much a relative gain of fairness counts.

    Returns:
        FATE; nan where it is undefined: a baseline of 0, or a value that is nan.

    Example:
        >>> round(fate(0.483, 0.510, 0.330, 0.361), 4)
        0.0329
        >>> fate(0.5, 0.5, 0.1, 0.0)
        nan
    """
    if f1_base == 0 or fc_base == 0 or any(isnan(value) for value in (f1, f1_base, fc, fc_base)):
        return nan
    return (f1 - f1_base) / f1_base - weight * (fc - fc_base) / fc_base


def pareto(gain: Float[np.ndarray, " model"], gap: Float[np.ndarray, " model"]) -> Bool[np.ndarray, " model"]:
    """Which models are on the front: no other has at least the gain and at most the gap, and one of them better.

    A model with a nan is on no front. Equal models are on it together.

    Example:
        >>> pareto(np.array([0.8, 0.7, 0.6]), np.array([0.2, 0.1, 0.15])).tolist()
        [True, True, False]
    """
    as_good = (gain >= gain[:, None]) & (gap <= gap[:, None])
    better = as_good & ((gain > gain[:, None]) | (gap < gap[:, None]))
    return np.asarray(~better.any(axis=1) & ~np.isnan(gain) & ~np.isnan(gap))
