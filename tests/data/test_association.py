from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from equiprune.data import association
from equiprune.data.association import associate, chi_square, cramers_v

TABLES = st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=2, max_size=5)


@given(TABLES)
def test_as_scipy_has_it(cells: list[list[int]]) -> None:
    table = np.array(cells)
    used = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(used.shape) < 2:
        assert np.isnan(cramers_v(table))
        return
    assert chi_square(table) == pytest.approx(stats.chi2_contingency(used, correction=False).statistic, abs=1e-9)
    assert cramers_v(table) == pytest.approx(stats.contingency.association(used, method="cramer"), abs=1e-9)


def _rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.nonzero(table)
    many = table[one, other]
    return np.repeat(one, many), np.repeat(other, many)


def test_the_p_value_is_that_of_the_known_tests() -> None:
    two = np.array([[30, 20], [22, 28]])
    assert associate(*_rows(two), None, draws=20_000).p_value == pytest.approx(stats.fisher_exact(two)[1], abs=0.015)
    six = np.array([[40, 10, 20], [30, 20, 25]])
    expected = stats.chi2_contingency(six).pvalue
    assert associate(*_rows(six), None, draws=20_000).p_value == pytest.approx(expected, abs=0.015)


def test_both_ways_of_permuting_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    unit = rng.integers(40, size=150)
    one, other = rng.integers(3, size=150), (unit % 2 + rng.integers(2, size=150)) % 2
    found = []
    for cells in (0, 10**9):
        monkeypatch.setattr(association, "_CELLS", cells)
        found.append(associate(one, other, unit, draws=20_000))
    assert found[0].cramers_v == found[1].cramers_v
    assert found[0].by_chance == pytest.approx(found[1].by_chance, abs=0.003)
    assert found[0].p_value == pytest.approx(found[1].p_value, abs=0.02)


def test_the_p_value_of_independence_is_uniform() -> None:
    """By unit: labels and groups are constant within patients of very different sizes, and independent."""
    p = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        unit = np.repeat(np.arange(60), rng.choice([1, 5, 40], 60))
        one, other = rng.integers(2, size=60)[unit], rng.integers(3, size=60)[unit]
        p.append(associate(one, other, unit, draws=199, seed=seed).p_value)
    assert stats.kstest(np.array(p, dtype=float), "uniform").pvalue > 0.001
    assert 0 < np.mean(np.array(p, dtype=float) <= 0.05) < 0.12


def test_images_of_one_patient_are_not_counted_as_many() -> None:
    """Four patients of 250 images each: by rows certain, by patients nothing."""
    unit = np.repeat(np.arange(4), 250)
    one, other = unit // 2, unit // 2
    by_row, by_unit = associate(one, other, None), associate(one, other, unit)
    assert by_row.p_value == 0.001
    assert by_unit.p_value is not None
    assert by_unit.p_value > 0.2
    assert (by_row.units, by_unit.units) == (None, 4)


def test_units_of_one_row_are_rows() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(3, size=80), rng.integers(2, size=80)
    alone = associate(one, other, rng.permutation(80))
    rows = associate(one, other, None)
    assert alone.cramers_v == pytest.approx(rows.cramers_v)
    assert alone.p_value == rows.p_value


def test_one_value_has_no_association() -> None:
    found = associate(np.zeros(5, int), np.arange(5) % 2, None)
    assert (found.cramers_v, found.p_value, found.p_holm) == (None, None, None)
    nothing = associate(np.zeros(0, int), np.zeros(0, int), None)
    assert nothing.cramers_v is None
