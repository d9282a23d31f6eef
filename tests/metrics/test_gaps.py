from __future__ import annotations

import math
from functools import partial
from typing import get_args

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score

from equiprune.metrics import gaps, rates
from equiprune.metrics.counts import Counts

CONFUSIONS = st.tuples(st.integers(2, 4), st.integers(2, 4)).flatmap(
    lambda shape: arrays.arrays(np.int64, (shape[0], shape[1], shape[1]), elements=st.integers(0, 6))
)


def slow_rate(confusion: np.ndarray, g: int, k: int, kind: str) -> float:
    cells = confusion[g]
    tp, positive, called, n = cells[k, k], cells[k].sum(), cells[:, k].sum(), cells.sum()
    part, whole = (tp, positive) if kind == "tpr" else (called - tp, n - positive)
    return float(part / whole) if whole else math.nan


def mean(values: np.ndarray | list[float]) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def slow_gap(confusion: np.ndarray, name: str, zero_support: str) -> float:
    """The definitions, read off word by word."""
    found = []
    groups, classes, _ = confusion.shape
    for a in range(groups):
        for b in range(a + 1, groups):
            tpr, fpr = [], []
            for k in range(classes):
                pairs = {kind: [slow_rate(confusion, g, k, kind) for g in (a, b)] for kind in ("tpr", "fpr")}
                if zero_support == "as_zero":
                    pairs = {kind: [0.0 if math.isnan(x) else x for x in pair] for kind, pair in pairs.items()}
                tpr.append(pairs["tpr"][0] - pairs["tpr"][1])
                fpr.append(pairs["fpr"][0] - pairs["fpr"][1])
            both = np.abs(np.array(tpr) + np.array(fpr))
            found.append(
                {
                    "eopp1": mean(np.abs(tpr)),
                    "half_mean": mean(both) / 2,
                    "sum": float(np.nansum(both)) if not np.isnan(both).all() else math.nan,
                    "separate": mean(np.abs(tpr)) + mean(np.abs(fpr)),
                }[name]
            )
    return max((x for x in found if not math.isnan(x)), default=math.nan)


@given(CONFUSIONS, st.sampled_from(get_args(gaps.ZeroSupport)))
@settings(max_examples=150, deadline=None)
def test_gaps_are_their_definitions_for_any_groups_and_classes(
    confusion: np.ndarray, zero_support: gaps.ZeroSupport
) -> None:
    counts = Counts.from_confusion(confusion)
    assert gaps.eopp1(counts, zero_support) == pytest.approx(slow_gap(confusion, "eopp1", zero_support), nan_ok=True)
    for convention in get_args(gaps.Eodd):
        expected = slow_gap(confusion, convention, zero_support)
        assert gaps.eodd(counts, convention, zero_support) == pytest.approx(expected, nan_ok=True, abs=1e-12)


@given(arrays.arrays(np.int64, (2, 3, 3), elements=st.integers(1, 30)))
def test_the_inequality_that_every_published_row_satisfies(confusion: np.ndarray) -> None:
    counts = Counts.from_confusion(confusion)
    assert abs(2 * gaps.eodd(counts) - gaps.eopp1(counts)) <= gaps.eopp0(counts) + 1e-12


@given(CONFUSIONS)
@settings(deadline=None)
def test_gaps_do_not_depend_on_the_order_of_groups_or_classes(confusion: np.ndarray) -> None:
    rng = np.random.default_rng(confusion.sum())
    groups, classes = rng.permutation(confusion.shape[0]), rng.permutation(confusion.shape[1])
    shuffled = confusion[groups][:, classes][:, :, classes]
    for gap in (gaps.eopp0, gaps.eopp1, gaps.eodd):
        first, second = gap(Counts.from_confusion(confusion)), gap(Counts.from_confusion(shuffled))
        assert first == pytest.approx(second, nan_ok=True, abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=8, max_size=60))
@settings(max_examples=40, deadline=None)  # eight counts each, always the same code; fairlearn's takes 80 ms
def test_binary_differences_agree_with_fairlearn(rows: list[tuple[bool, bool, bool]]) -> None:
    # Each group has both classes, found and missed.
    every = [(y, h, a) for y in (False, True) for h in (False, True) for a in (False, True)]
    label, predicted, group = np.array(rows + every, dtype=np.int64).T
    frame = MetricFrame(
        metrics={
            "tpr": true_positive_rate,
            "fpr": false_positive_rate,
            "selection": selection_rate,
            "precision": partial(precision_score, zero_division=np.nan),
        },
        y_true=label,
        y_pred=predicted,
        sensitive_features=group,
    )
    counts = Counts.from_labels(label[:, None].astype(float), predicted[:, None], group, 2)
    assert gaps.worst(gaps.by_pair("tpr", counts)) == pytest.approx(frame.difference()["tpr"], abs=1e-12)
    assert gaps.eopp0(counts) == pytest.approx(frame.difference()["fpr"], abs=1e-12)
    assert gaps.selection_rate(counts) == pytest.approx(frame.difference()["selection"], abs=1e-12)
    assert gaps.worst(gaps.by_pair("ppv", counts)) == pytest.approx(frame.difference()["precision"], abs=1e-12)
    for name, rate in (("tpr", rates.tpr), ("selection", rates.selection_rate)):
        if frame.by_group[name].max() > 0:
            assert gaps.smaller_over_larger(rate(counts))[0] == pytest.approx(frame.ratio()[name], abs=1e-12)
    parity = demographic_parity_difference(label, predicted, sensitive_features=group)
    assert gaps.selection_rate(counts) == pytest.approx(parity, abs=1e-12)
    odds = equalized_odds_difference(label, predicted, sensitive_features=group)
    assert max(float(gaps.eopp0(counts)), float(gaps.eopp1(counts))) == pytest.approx(odds, abs=1e-12)


def test_a_class_without_support_is_skipped_or_counts_as_zero() -> None:
    counts = Counts.from_confusion(np.array([[[4, 0], [1, 1]], [[3, 1], [0, 0]]]))  # no row of class 1 in group 1
    assert gaps.eopp1(counts) == pytest.approx(0.25)
    assert gaps.eopp1(counts, "as_zero") == pytest.approx((0.25 + 0.5) / 2)
    delta = gaps.components("eopp1", gaps.all_rates(counts), gaps.Policy())
    assert gaps.compared(delta[0]).tolist() == [True, False]


def test_nothing_to_compare_is_nan_not_zero() -> None:
    counts = Counts.from_confusion(np.zeros((2, 2, 2), dtype=np.int64))
    values = [gaps.eopp0(counts), gaps.eopp1(counts), *(gaps.eodd(counts, c) for c in get_args(gaps.Eodd))]
    assert np.isnan(values).all()


def test_the_worst_pair_passes_over_an_empty_group() -> None:
    cells = np.array([[[4, 0], [0, 4]], [[2, 2], [0, 4]], [[0, 0], [0, 0]]])
    assert gaps.eopp1(Counts.from_confusion(cells)) == pytest.approx(0.25)


def test_leading_axes_are_draws() -> None:
    cells = np.random.default_rng(0).integers(0, 9, (5, 3, 4, 4))
    each = [gaps.eodd(Counts.from_confusion(one)) for one in cells]
    assert gaps.eodd(Counts.from_confusion(cells)) == pytest.approx(np.array(each))


def test_signed_gaps_of_tpr_and_fnr_are_opposite() -> None:
    counts = Counts.from_confusion(np.random.default_rng(1).integers(1, 9, (2, 3, 3)))
    assert gaps.signed(rates.tpr(counts), 0, 1) == pytest.approx(-gaps.signed(rates.fnr(counts), 0, 1))


def test_the_fnr_gap_is_the_tpr_gap_and_single_rates_are_eopp() -> None:
    counts = Counts.from_confusion(np.random.default_rng(2).integers(0, 5, (3, 4, 4)))
    assert gaps.by_pair("fnr", counts) == pytest.approx(gaps.by_pair("tpr", counts), nan_ok=True)
    assert gaps.by_pair("eopp0", counts) == pytest.approx(gaps.by_pair("fpr", counts), nan_ok=True)


def test_the_gap_of_chosen_pairs_is_that_part_of_all_pairs() -> None:
    counts = Counts.from_confusion(np.random.default_rng(3).integers(1, 9, (4, 3, 3)))
    every = gaps.by_pair("eodd", counts)
    assert gaps.by_pair("eodd", counts, among=[(0, 3), (1, 2)]) == pytest.approx(every[[2, 3]])


def test_ratios_and_deviations_by_hand() -> None:
    rate = np.array([[0.5, 0.0, np.nan], [0.25, 0.0, 1.0]])
    assert gaps.smaller_over_larger(rate)[0] == pytest.approx((0.5 + 1.0) / 2)  # both 0 is equal
    overall = np.array([0.4, 0.0, 1.0])
    expected = ((0.1 + 0.15) / 2 + 0 + 0) / 3
    assert gaps.deviation(rate, overall, np.array([True, True])) == pytest.approx(expected)
