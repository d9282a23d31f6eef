from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from equiprune.metrics import gaps
from equiprune.metrics.counts import Counts, confusion, count
from equiprune.metrics.estimates import Policy, count_draws, effective, score_draws, score_sums
from equiprune.metrics.inference import interval, permuted_cells, shares, wilson
from equiprune.metrics.null import majority, null_draws
from equiprune.metrics.sampling import chunks, count_atoms, counts_of, resample, unit_codes
from equiprune.predictions import Predictions


def simulated(n: int = 240, *, units: int = 0, multilabel: bool = False, seed: int = 0) -> Predictions:
    """Classes hang together within a unit, and one group does worse."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, units or n, n)
    group = (unit % 3 == 0).astype(np.int64)
    label = (unit // 3 + (rng.random(n) < 0.2)) % 3
    logits = rng.normal(size=(n, 3)) + np.where(group == 0, 2.0, 1.2)[:, None] * (label[:, None] == np.arange(3))
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = unit.astype(str) if units else None
    if multilabel:
        truth = np.eye(3)[label]
        truth[rng.random((n, 3)) < 0.1] = np.nan
        return Predictions(truth, score, group, ["a", "b", "c"], ["f", "m"], unit=ids, threshold=[0.4, 0.4, 0.4])
    return Predictions(label, score, group, ["a", "b", "c"], ["f", "m"], unit=ids)


def slow_figures(p: Predictions, rows: np.ndarray) -> tuple[float, ...]:
    one = p.take(rows)
    counts, sums = count(one), score_sums(one)
    figures = sums.figures(np.asarray(sums.rows.sum(axis=0)))
    groups = counts.take(slice(-1))
    names = ("overall.auroc", "overall.brier", "overall.ece")
    return float(gaps.eopp1(groups)), float(gaps.eodd(groups)), *(float(figures[name]) for name in names)


@pytest.mark.parametrize(("units", "multilabel"), [(0, False), (60, False), (0, True), (60, True)])
def test_the_bootstrap_has_the_law_of_a_loop_over_resampled_rows(units: int, multilabel: bool) -> None:
    p = simulated(units=units, multilabel=multilabel)
    rng = np.random.default_rng(1)
    code = unit_codes(p)
    members = [np.flatnonzero(code == u) for u in range(code.max() + 1)]
    strata = [np.unique(code[p.group == g]) for g in range(2)]
    slow = np.array(
        [
            slow_figures(p, np.concatenate([members[u] for s in strata for u in rng.choice(s, len(s))]))
            for _ in range(250)
        ]
    )
    counted = count_draws(p, Policy(), 2000, np.random.default_rng(2))
    scored = score_draws(p, score_sums(p), 2000, np.random.default_rng(3))
    fast = [counted["gaps.eopp1"], counted["gaps.eodd"], *(scored[f"overall.{m}"] for m in ("auroc", "brier", "ece"))]
    for i, draws in enumerate(fast):
        spread = slow[:, i].std()
        assert draws.mean() == pytest.approx(slow[:, i].mean(), abs=5 * spread / np.sqrt(250)), i
        assert draws.std() == pytest.approx(spread, rel=0.25), i


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_sums_of_every_row_once_are_the_counts(multilabel: bool) -> None:
    p = simulated(units=50, multilabel=multilabel)
    for atoms in (count_atoms(p), count_atoms(Predictions(p.label, p.score, p.group, p.classes, p.groups))):
        again = counts_of(atoms.copies @ atoms.totals, 3, 3)
        direct = count(Predictions(p.label, p.score, p.group, p.classes, p.groups))
        assert np.array_equal(again.positive[:2], direct.positive[:2])
        assert np.array_equal(again.tn.sum(), counts_of(atoms.copies @ atoms.totals, 3, 3).tn.sum())


def test_group_sizes_stay_in_every_resample() -> None:
    p = simulated(100)
    for totals in resample(count_atoms(p), 50, np.random.default_rng(0)):
        sizes = counts_of(totals, 3, 3).positive.sum(axis=-1)
        assert (sizes == np.append(np.bincount(p.group), 0)).all()


def test_permuted_cells_have_the_law_of_shuffled_groups_within_a_class() -> None:
    p = simulated(90)
    group = p.group.copy()
    group[::5] = 2  # three groups
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(1500):
        shuffled = group.copy()
        for k in range(3):
            rows = np.flatnonzero(p.label == k)
            shuffled[rows] = rng.permutation(group[rows])
        slow.append(float(gaps.eopp0(Counts.from_confusion(confusion(p.label, p.predicted, shuffled, 3, 3)))))
    cells = confusion(p.label, p.predicted, group, 3, 3)
    chunk = list(permuted_cells(cells, 3000, np.random.default_rng(1)))
    fast = np.concatenate([gaps.eopp0(counts) for counts in chunk])
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3
    for counts in chunk:
        assert (counts.positive == cells.sum(axis=2)).all()
        assert (counts.tp.sum(axis=1) == np.diagonal(cells.sum(axis=0))).all()
        assert min(part.min() for part in (counts.tp, counts.fp, counts.fn, counts.tn)) >= 0


@pytest.mark.parametrize("units", [0, 45])
def test_the_floor_by_unit_and_of_auroc_has_the_law_of_a_loop(units: int) -> None:
    p = simulated(150, units=units)
    sums = score_sums(p)
    null = null_draws(p, sums.shared, Policy(), 1500, np.random.default_rng(0))
    code = unit_codes(p)
    group, stratum = majority(p.group, code), majority(p.label, code)
    rng = np.random.default_rng(1)
    slow = []
    for _ in range(300):
        shuffled = group.copy()
        for k in range(3):
            rows = np.flatnonzero(stratum == k)
            shuffled[rows] = rng.permutation(group[rows])
        one = Predictions(p.label, p.score, shuffled[code], p.classes, p.groups)
        found = score_sums(one)
        figures = found.figures(np.asarray(found.rows.sum(axis=0)))
        slow.append((float(gaps.eopp1(count(one).take(slice(-1)))), float(figures["gaps.auroc"])))
    for i, name in enumerate(("gaps.eopp1", "gaps.auroc")):
        loop = np.array(slow)[:, i]
        assert null[name].mean() == pytest.approx(loop.mean(), abs=5 * loop.std() / np.sqrt(300) + 0.1 * loop.mean())
        assert null[name].std() == pytest.approx(loop.std(), rel=0.25)


def test_the_floor_of_findings_has_the_law_of_a_loop_for_one_finding() -> None:
    p = simulated(150, multilabel=True)
    one = Predictions(p.label[:, :1], p.score[:, :1], p.group, ["a"], p.groups, threshold=[0.4])
    null = null_draws(one, score_sums(one).shared, Policy(), 2000, np.random.default_rng(0))
    rng, slow = np.random.default_rng(1), []
    for _ in range(1000):
        shuffled = one.group.copy()
        for truth in (0, 1):
            rows = np.flatnonzero(one.label[:, 0] == truth)
            shuffled[rows] = rng.permutation(one.group[rows])
        counts = Counts.from_labels(one.label, one.predicted, shuffled, 2)
        slow.append((float(gaps.eopp1(counts)), float(gaps.eopp0(counts))))
    for i, name in enumerate(("gaps.eopp1", "gaps.eopp0")):
        assert stats.ks_2samp(np.array(slow)[:, i], null[name]).pvalue > 1e-3


def test_rows_of_a_unit_stay_together_over_findings() -> None:
    p = simulated(120, multilabel=True)
    twice = Predictions(
        np.tile(p.label[:, :1], 2), np.tile(p.score[:, :1], 2), p.group, ["a", "again"], p.groups, threshold=[0.4, 0.4]
    )
    one = Predictions(p.label[:, :1], p.score[:, :1], p.group, ["a"], p.groups, threshold=[0.4])
    drawn = [
        null_draws(q, score_sums(q).shared, Policy(), 500, np.random.default_rng(0))["gaps.eopp1"] for q in (twice, one)
    ]
    assert drawn[0] == pytest.approx(drawn[1])  # a finding and its copy are dealt alike


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_agrees_with_scipy(hits: int, total: int) -> None:
    hits = min(hits, total)
    expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
    low, high = wilson(np.array(hits), np.array(total))
    assert float(low) == pytest.approx(expected.low, abs=1e-9)
    assert float(high) == pytest.approx(expected.high, abs=1e-9)
    assert float(low) <= hits / total <= float(high)


def test_wilson_of_nothing_is_undefined() -> None:
    assert np.isnan(wilson(np.array(0), np.array(0))).all()


def test_the_effective_number_of_rows() -> None:
    p = simulated(120, units=30)
    found = effective(p)
    assert found is not None
    code, many = unit_codes(p), {"tpr": p.label == 1, "fpr": p.label != 1, "ppv": p.predicted == 1}
    for name, chosen in many.items():
        sizes = np.bincount(code[chosen & (p.group == 0)])
        assert found[name][0, 1] == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum())
    alone = Predictions(p.label, p.score, p.group, p.classes, p.groups, unit=np.arange(120).astype(str))
    independent = effective(alone)
    assert independent is not None
    assert independent["fpr"] == pytest.approx(count(p).take(slice(-1)).negative)
    assert effective(Predictions(p.label, p.score, p.group, p.classes, p.groups)) is None
    several = simulated(120, units=30, multilabel=True)
    findings = effective(several)
    assert findings is not None
    sizes = np.bincount(unit_codes(several)[(several.label[:, 2] == 0) & (several.group == 1)])
    assert findings["fpr"][1, 2] == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum())


@given(st.floats(0, 1), st.integers(0, 1000))
def test_an_interval_holds_its_value_and_stays_in_range(value: float, seed: int) -> None:
    draws = np.clip(np.random.default_rng(seed).normal(value + 0.2, 0.1, 200), 0, 1)
    low, high = interval(value, draws)
    assert 0 <= low <= value <= high <= 1


def test_an_interval_corrects_a_known_bias() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.02, 20_000)  # the value is 0.45, so the truth is about 0.40
    low, high = interval(0.45, draws)
    assert low == pytest.approx(0.40 - 1.96 * 0.02, abs=2e-3)
    assert high == 0.45
    assert np.isnan(interval(np.nan, draws)).all()
    assert np.isnan(interval(0.4, np.full(5, np.nan))).all()


def test_chunks_bound_the_memory_and_make_every_draw() -> None:
    assert sum(chunks(2000, 3_400 + 3 * 3 * 114)) == 2000
    assert max(chunks(2000, 1_000_000)) == 4
    assert list(chunks(2, 10**9)) == [1, 1]


def test_shares_of_an_empty_group_are_zero() -> None:
    assert shares(np.arange(6.0).reshape(2, 3), np.array([0, 3, 0])).tolist() == [[0, 3, 0], [0, 12, 0]]


def test_blank_ids_are_units_of_their_own() -> None:
    p = Predictions([0, 1, 0, 1], [[1, 0]] * 4, [0, 0, 1, 1], ["a", "b"], ["f", "m"], unit=["", "x", "x", ""])
    codes = unit_codes(p)
    assert codes[1] == codes[2]
    assert len(set(codes.tolist())) == 3
