from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from equiprune.metrics import testing


def slow_fisher(x: int, n: int, y: int, m: int) -> float:
    """Every way to choose the hits among all rows, as the hypergeometric law counts them."""
    law = stats.hypergeom(n + m, n, x + y)
    seen, p = abs(x / n - y / m), 0.0
    for first in range(max(0, x + y - m), min(n, x + y) + 1):
        gap = abs(first / n - (x + y - first) / m)
        if gap > seen + 1e-12:
            p += law.pmf(first)
        elif gap > seen - 1e-12:
            p += law.pmf(first) / 2
    return p


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_fisher_counts_what_the_hypergeometric_law_says(n: int, m: int, p: float, q: float) -> None:
    x, y = round(p * n), round(q * m)
    found = testing.fisher(x, n, y, m)
    expected = slow_fisher(x, n, y, m)
    if found == 1.0:
        assert expected >= 0.5 - 1e-9  # no outcome is closer: mid-p would say half
    else:
        assert found == pytest.approx(expected, abs=1e-9)
    assert testing.fisher(y, m, x, n) == pytest.approx(found)


def test_fisher_stands_between_the_exact_test_and_its_half() -> None:
    full = stats.fisher_exact(np.array([[18, 2], [9, 11]])).pvalue
    assert full / 2 < testing.fisher(18, 20, 9, 20) < full
    assert np.isnan(testing.fisher(0, 0, 3, 5))
    big = testing.fisher(700_000, 1_000_000, 699_000, 1_000_000)
    z = 0.001 / np.sqrt(2 * 0.6995 * 0.3005 / 1e6)
    assert big == pytest.approx(2 * stats.norm.sf(z), rel=0.02)


def slow_holm(p: list[float]) -> list[float]:
    order, found, worst = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, p[i] * (len(p) - rank)))
        found[i] = worst
    return found


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_p_values_agree_with_scipy_and_a_loop(p: list[float]) -> None:
    assert testing.benjamini_hochberg(np.array(p)) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)
    assert testing.holm(np.array(p)) == pytest.approx(slow_holm(p), abs=1e-12)
    assert (testing.holm(np.array(p)) >= testing.benjamini_hochberg(np.array(p)) - 1e-12).all()


def test_what_is_not_estimable_is_no_test() -> None:
    p = np.array([np.nan, 0.02, np.nan])
    assert testing.holm(p)[1] == testing.benjamini_hochberg(p)[1] == 0.02
    assert np.isnan(testing.holm(p)[[0, 2]]).all()


def test_chance_counts_ties_half() -> None:
    floor, high, p = testing.chance(0.3, np.array([0.1, 0.3, 0.3, 0.5]))
    assert floor == pytest.approx(0.3)
    assert p == pytest.approx((0.5 + 1 + 2 / 2) / 5)
    assert high == pytest.approx(np.quantile([0.1, 0.3, 0.3, 0.5], 0.95))
    assert testing.chance(0.0, np.zeros(10))[2] == 1.0
    assert np.isnan(testing.chance(np.nan, np.zeros(10))).all()
    assert np.isnan(testing.chance(0.1, np.full(3, np.nan))).all()
    assert testing.chance(0.5, np.full(1999, 0.1))[2] == pytest.approx(0.5 / 2000)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_lies_between_the_raw_and_bonferroni(p: list[float]) -> None:
    corrected = testing.holm(np.array([*p, np.nan]))[:-1].tolist()
    assert len(corrected) == len(p)
    for raw, value in zip(p, corrected, strict=True):
        assert raw <= value <= min(1.0, len(p) * raw) + 1e-12
    assert np.argsort(p, kind="stable").tolist() == sorted(range(len(p)), key=lambda i: (corrected[i], p[i], i))


@settings(max_examples=40, deadline=None)
@given(total=st.integers(1, 30), other=st.integers(1, 30), data=st.data())
def test_the_exact_floor_is_the_mean_gap_of_a_hypergeometric_draw(total: int, other: int, data: st.DataObject) -> None:
    hits, more = data.draw(st.integers(0, total)), data.draw(st.integers(0, other))
    right = hits + more
    outcomes = np.arange(max(0, right - other), min(total, right) + 1)
    weight = stats.hypergeom(total + other, right, total).pmf(outcomes)
    expected = (weight * np.abs(outcomes / total - (right - outcomes) / other)).sum()
    assert testing.exact_floor(hits, total, more, other) == pytest.approx(expected, abs=1e-9)
    assert np.isnan(testing.exact_floor(0, 0, more, other))
