"""Drawn splits: by unit, stratified by label and group, seeded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from equiprune.data.cohort import SPLITS, Cohort
from equiprune.errors import DataError, Problem

_TOLERANCE = 0.015
_MOST_FOLDS = 30


def draw_splits(cohort: Cohort, fractions: Sequence[float], seed: int) -> NDArray[np.str_]:
    """Draws train, validation and test so that no unit is in two of them.

    scikit-learn's `StratifiedGroupKFold` deals the units into folds alike in label and group (for
    several findings: the rarest positive one and the group), and folds become splits, the largest
    ones train. Strata smaller than the number of folds are pooled within their group. Then one unit
    of each class that train lacks is moved there.

    Args:
        cohort: rows with labels, groups and perhaps units; splits that it has are not looked at.
        fractions: shares of train, validation and test; they sum to 1.
        seed: the same cohort, fractions and seed give the same splits.

    Returns:
        "train", "validation" or "test" for each row. Shares of rows are as asked to within a few
        percent, except where single units are larger than that.

    Raises:
        DataError: there are too few units for three splits.
    """
    unit = _unit_codes(cohort)
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < len(SPLITS):
        what = f"{n_units} {cohort.unit_name or 'rows'} are too few for train, validation and test"
        raise DataError(Problem(what, hint="Three splits need three or more"))
    quota = _folds(fractions, min(_MOST_FOLDS, n_units))
    fold = _deal(_strata(cohort, sum(quota)), unit, sum(quota), seed)
    sizes = np.bincount(fold, minlength=sum(quota))
    split_of_fold = np.empty(sum(quota), np.int64)
    split_of_fold[np.argsort(-sizes, kind="stable")] = np.repeat(np.arange(len(SPLITS)), quota)
    split = split_of_fold[fold]
    _fill(split, unit)
    _teach_every_class(split, unit, cohort)
    names: NDArray[np.str_] = np.array(SPLITS)[split]
    return names


def _unit_codes(cohort: Cohort) -> Int[np.ndarray, " row"]:
    if cohort.unit is None:
        return np.arange(len(cohort))
    return np.asarray(np.unique(cohort.unit, return_inverse=True)[1])


def _folds(fractions: Sequence[float], most: int) -> tuple[int, int, int]:
    """The fewest folds whose whole numbers come near the fractions: 0.6, 0.2, 0.2 is 3 + 1 + 1."""
    best, least = (1, 1, 1), np.inf
    for total in range(len(SPLITS), most + 1):
        validation, test = (max(1, round(share * total)) for share in fractions[1:])
        quota = (total - validation - test, validation, test)
        if quota[0] < 1:
            continue
        error = max(abs(count / total - share) for count, share in zip(quota, fractions, strict=True))
        if error < least:
            best, least = quota, error
        if least <= _TOLERANCE:
            break
    return best


def _strata(cohort: Cohort, folds: int) -> Int[np.ndarray, " row"]:
    """Label x group; what is rarer than the folds is pooled within its group, and then altogether."""
    codes = _class_codes(cohort) * (len(cohort.groups) + 1) + cohort.group + 1
    pooled = -1 - (cohort.group + 1)
    for rarer in (pooled, np.full(len(cohort), -1 - len(cohort.groups) - 1)):
        _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        codes = np.where(counts[inverse] < folds, rarer, codes)
    return np.asarray(np.unique(codes, return_inverse=True)[1])


def _class_codes(cohort: Cohort) -> Int[np.ndarray, " row"]:
    if cohort.task == "multiclass":
        return np.asarray(cohort.label, dtype=np.int64)
    positive = cohort.positive
    frequency = np.where(positive, positive.sum(axis=0), len(cohort) + 1)
    return np.asarray(np.where(positive.any(axis=1), frequency.argmin(axis=1), positive.shape[1]))


def _deal(
    strata: Int[np.ndarray, " row"], unit: Int[np.ndarray, " row"], folds: int, seed: int
) -> Int[np.ndarray, " row"]:
    # Slow to import; the reader does without.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    fold = np.zeros(len(unit), np.int64)
    # Where every row stands alone the plain dealer does the same deal, and at once.
    alone = int(unit.max()) + 1 == len(unit)
    dealer = (StratifiedKFold if alone else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A last stratum rarer than the folds is only told by a warning; it does no harm here.
        warnings.filterwarnings("ignore", message="The least populated class")
        for index, (_, held) in enumerate(dealer.split(strata, strata, None if alone else unit)):
            fold[held] = index
    return fold


def _fill(split: Int[np.ndarray, " row"], unit: Int[np.ndarray, " row"]) -> None:
    """Gives a split without rows (few units, some very large) the smallest unit of the richest split."""
    size = np.bincount(unit)
    for empty in range(len(SPLITS)):
        if (split == empty).any():
            continue
        owners = [len(np.unique(unit[split == other])) for other in range(len(SPLITS))]
        candidates = np.unique(unit[split == int(np.argmax(owners))])
        split[unit == candidates[np.argmin(size[candidates])]] = empty


def _teach_every_class(split: Int[np.ndarray, " row"], unit: Int[np.ndarray, " row"], cohort: Cohort) -> None:
    positive = cohort.positive
    for index in range(len(cohort.classes)):
        has = positive[:, index]
        if has.any() and not (has & (split == 0)).any():
            moved = unit[has][np.argmin(split[has])]  # from validation rather than from test
            split[unit == moved] = 0
