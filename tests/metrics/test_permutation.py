from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.repeating import repeated

from equiprune.metrics import calibration, gaps, null
from equiprune.metrics.counts import Counts, confusion, count
from equiprune.metrics.estimates import shared_classes
from equiprune.metrics.gaps import Policy
from equiprune.metrics.null import majority, null_of_counts, null_of_scores
from equiprune.metrics.permutation import permuted_cells, shares
from equiprune.metrics.ranking import ranking
from equiprune.metrics.sampling import chunks, count_atoms, counts_of, effective, resample, sides
from equiprune.metrics.scored import Scored, scored
from equiprune.predictions import Predictions

PAIR = [(0, 1)]


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


def regrouped(p: Predictions, group: np.ndarray) -> Predictions:
    return Predictions(p.label, p.score, group, p.classes, p.groups, unit=p.unit, threshold=p.threshold)


def scores_of(p: Predictions) -> Scored:
    shared = shared_classes(count(p).take(slice(-1)))
    return scored(p, shared)


def drawn_scores(p: Predictions, draws: int) -> null.Null:
    return null_of_scores(p, scores_of(p), np.arange(len(p)), PAIR, draws, np.random.default_rng(0))


@pytest.mark.parametrize(("units", "multilabel"), [(0, False), (60, False), (0, True), (60, True)])
def test_the_bootstrap_has_the_law_of_a_loop_over_resampled_rows(units: int, multilabel: bool) -> None:
    p = simulated(units=units, multilabel=multilabel)
    rng = np.random.default_rng(1)
    code = p.unit_code
    members = [np.flatnonzero(code == u) for u in range(code.max() + 1)]
    strata = [np.unique(code[p.group == g]) for g in range(2)]

    def once(_: int) -> tuple[float, float]:
        rows = np.concatenate([members[u] for s in strata for u in rng.choice(s, len(s))])
        groups = count(p.take(rows)).take(slice(-1))
        return float(gaps.eopp1(groups)), float(gaps.eodd(groups))

    slow = repeated(once, 250)
    totals = np.concatenate(list(resample(count_atoms(p), 2000, np.random.default_rng(2))))
    counts = counts_of(totals, 3, 3).take(slice(-1))
    for i, draws in enumerate((gaps.eopp1(counts), gaps.eodd(counts))):
        loop = np.array(slow)[:, i]
        assert draws.mean() == pytest.approx(loop.mean(), abs=5 * loop.std() / np.sqrt(250)), i
        assert draws.std() == pytest.approx(loop.std(), rel=0.25), i


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_sums_of_every_row_once_are_the_counts(multilabel: bool) -> None:
    p = simulated(units=50, multilabel=multilabel)
    direct = count(p)
    for one in (p, Predictions(p.label, p.score, p.group, p.classes, p.groups, threshold=p.threshold)):
        atoms = count_atoms(one)
        again = counts_of(atoms.copies @ atoms.totals, 3, 3)
        for part in ("tp", "fp", "fn", "tn"):
            assert np.array_equal(getattr(again, part), getattr(direct, part))


def test_group_sizes_stay_in_every_resample() -> None:
    p = simulated(100)
    for totals in resample(count_atoms(p), 50, np.random.default_rng(0)):
        sizes = counts_of(totals, 3, 3).positive.sum(axis=-1)
        assert (sizes == np.append(np.bincount(p.group), 0)).all()


def test_sides_are_the_groups_and_all_rows() -> None:
    p = simulated(100)
    some = regrouped(p, np.where(np.arange(100) % 7 == 0, -1, p.group))
    found = sides(count(some))
    assert found.tp[-1].tolist() == count(p).pooled().tp[0].tolist()
    assert found.tp[:-1].tolist() == count(some).take(slice(-1)).tp.tolist()


def test_permuted_cells_have_the_law_of_shuffled_groups_within_a_class() -> None:
    p = simulated(90)
    group = p.group.copy()
    group[::5] = 2  # three groups
    rng = np.random.default_rng(0)

    def once(_: int) -> float:
        shuffled = shuffle(group, p.label, rng)
        return float(gaps.eopp0(Counts.from_confusion(confusion(p.label, p.predicted, shuffled, 3, 3))))

    slow = repeated(once, 1500)
    cells = confusion(p.label, p.predicted, group, 3, 3)
    chunk = list(permuted_cells(cells, 3000, np.random.default_rng(1)))
    fast = np.concatenate([gaps.eopp0(counts) for counts in chunk])
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3
    for counts in chunk:
        assert (counts.positive == cells.sum(axis=2)).all()
        assert (counts.tp.sum(axis=1) == np.diagonal(cells.sum(axis=0))).all()
        assert min(part.min() for part in (counts.tp, counts.fp, counts.fn, counts.tn)) >= 0


def shuffle(group: np.ndarray, stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shuffled = group.copy()
    for k in np.unique(stratum):
        rows = np.flatnonzero(stratum == k)
        shuffled[rows] = rng.permutation(group[rows])
    return shuffled


def slow_gaps(p: Predictions) -> dict[str, float]:
    """Every gap of scores, each figure computed afresh from its rows."""
    found: dict[str, list[float]] = {}
    for g in range(2):
        part = p.take(p.group == g)
        cells = calibration.cells(part)
        fit = calibration.recalibration(cells.confidence, cells.right).value
        total = cells.weight.sum()
        slot = np.zeros(len(part), dtype=np.int64)
        alone = Predictions(part.label, part.score, slot, p.classes, ["all"], threshold=p.threshold)
        auroc, precision = ranking(alone, slot, None, np.ones(3, dtype=bool)).macro()[:, -1]
        figures = {
            "ece": calibration.ece(total, calibration.excess(cells).sum(axis=0)),
            "brier": calibration.brier(total, cells.brier.sum()),
            "calibration_intercept": fit[0],
            "calibration_slope": fit[1],
            "auroc": auroc,
            "average_precision": precision,
        }
        for name, value in figures.items():
            found.setdefault(name, []).append(float(value))
    return {name: abs(pair[0] - pair[1]) for name, pair in found.items()}


@pytest.mark.parametrize(("units", "multilabel"), [(0, False), (90, False), (0, True)])
def test_the_floor_of_scores_has_the_law_of_a_loop(units: int, multilabel: bool) -> None:
    p = simulated(300, units=units, multilabel=multilabel)
    code = p.unit_code
    # With several findings a row there is one stratum a pattern of findings: here the first that is present.
    label = p.label if not multilabel else np.nan_to_num(p.label).argmax(axis=1)
    group, stratum = majority(p.group, code), majority(label, code)
    rng = np.random.default_rng(1)
    slow = repeated(lambda _: slow_gaps(regrouped(p, shuffle(group, stratum, rng)[code])), 250)
    found = drawn_scores(p, 1500)
    for name in slow[0]:
        loop = np.array([one[name] for one in slow])
        room = 5 * loop.std() / np.sqrt(250) + 0.15 * loop.mean()
        assert found.worst[name].mean() == pytest.approx(loop.mean(), abs=room), name
        assert found.worst[name].std() == pytest.approx(loop.std(), rel=0.3), name
        if name.startswith("calibration") and not multilabel:  # fitted anew in each permutation
            assert stats.ks_2samp(loop, found.worst[name]).pvalue > 1e-3, name


def test_the_normal_law_is_that_of_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    p = simulated(600)
    exact = drawn_scores(p, 4000)
    monkeypatch.setattr(null, "EXACT", 0)
    normal = drawn_scores(p, 4000)
    for name, draws in exact.worst.items():
        assert normal.worst[name].mean() == pytest.approx(draws.mean(), rel=0.08), name
        assert normal.noise[name] == pytest.approx(exact.noise[name], rel=0.08), name


def test_the_floor_by_unit_has_the_law_of_a_loop() -> None:
    p = simulated(150, units=45)
    found = null_of_counts(p, PAIR, Policy(), 1500, np.random.default_rng(0))
    code = p.unit_code
    group, stratum = majority(p.group, code), majority(p.label, code)
    rng = np.random.default_rng(1)

    def once(_: int) -> float:
        return float(gaps.eopp1(count(regrouped(p, shuffle(group, stratum, rng)[code])).take(slice(-1))))

    loop = np.array(repeated(once, 300))
    draws = found.worst["eopp1"]
    assert draws.mean() == pytest.approx(loop.mean(), abs=5 * loop.std() / np.sqrt(300))
    assert draws.std() == pytest.approx(loop.std(), rel=0.25)


def of_findings(p: Predictions, draws: int) -> dict[str, np.ndarray]:
    return null_of_counts(p, PAIR, Policy(), draws, np.random.default_rng(0)).worst


def test_the_floor_of_findings_has_the_law_of_a_loop_for_one_finding() -> None:
    p = simulated(150, multilabel=True)
    one = Predictions(p.label[:, :1], p.score[:, :1], p.group, ["a"], p.groups, threshold=[0.4])
    found = of_findings(one, 2000)
    rng = np.random.default_rng(1)

    def once(_: int) -> tuple[float, float]:
        shuffled = shuffle(one.group, np.nan_to_num(one.label[:, 0], nan=2.0), rng)
        counts = Counts.from_labels(one.label, one.predicted, shuffled, 2)
        return float(gaps.eopp1(counts)), float(gaps.eopp0(counts))

    slow = repeated(once, 1000)
    for i, name in enumerate(("eopp1", "eopp0")):
        # equal gaps may differ in the last bit
        assert stats.ks_2samp(np.array(slow)[:, i].round(9), found[name].round(9)).pvalue > 1e-3


def test_rows_of_a_unit_stay_together_over_findings() -> None:
    p = simulated(120, multilabel=True)
    one = Predictions(p.label[:, :1], p.score[:, :1], p.group, ["a"], p.groups, threshold=[0.4])
    label, score = np.tile(p.label[:, :1], 2), np.tile(p.score[:, :1], 2)
    twice = Predictions(label, score, p.group, ["a", "again"], p.groups, threshold=[0.4, 0.4])
    assert of_findings(twice, 300)["eopp1"] == pytest.approx(of_findings(one, 300)["eopp1"])  # both are dealt alike


def test_components_under_chance_have_the_spread_of_their_draws() -> None:
    """One finding: its one component is the gap itself, but for the sign."""
    p = simulated(200, multilabel=True)
    one = Predictions(p.label[:, :1], p.score[:, :1], p.group, ["a"], p.groups, threshold=[0.4])
    found = null_of_counts(one, PAIR, Policy(), 3000, np.random.default_rng(0))
    for name in ("tpr", "fpr", "ppv"):
        spread = np.sqrt((found.worst[name] ** 2).mean())
        assert found.noise[name][0, 0, 0] == pytest.approx(spread, rel=0.05), name


def test_the_effective_number_of_rows() -> None:
    p = simulated(120, units=30)
    found = effective(p, sides(count(p)))
    code = p.unit_code
    of, called = p.label == 1, p.predicted == 1
    many = {"positive": of, "negative": ~of, "called": called, "union": of | called, "known": of | ~of}
    for name, chosen in many.items():
        for side, rows in ((0, p.group == 0), (-1, p.group >= 0)):
            sizes = np.bincount(code[chosen & rows])
            assert found[name][side, 1] == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum()), name
    alone = Predictions(p.label, p.score, p.group, p.classes, p.groups, unit=np.arange(120).astype(str))
    assert effective(alone, sides(count(alone)))["negative"] == pytest.approx(sides(count(p)).negative)
    several = simulated(120, units=30, multilabel=True)
    sizes = np.bincount(several.unit_code[(several.label[:, 2] == 0) & (several.group == 1)])
    findings = effective(several, sides(count(several)))
    assert findings["negative"][1, 2] == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum())


def test_chunks_bound_the_memory_and_make_every_draw() -> None:
    assert sum(chunks(2000, 3_400 + 3 * 3 * 114)) == 2000
    assert max(chunks(2000, 1_000_000)) == 4
    assert list(chunks(2, 10**9)) == [1, 1]


def test_shares_of_an_empty_group_are_zero() -> None:
    assert shares(np.arange(6.0).reshape(2, 3), np.array([0, 3, 0])).tolist() == [[0, 3, 0], [0, 12, 0]]


def test_blank_ids_are_units_of_their_own() -> None:
    p = Predictions([0, 1, 0, 1], [[1, 0]] * 4, [0, 0, 1, 1], ["a", "b"], ["f", "m"], unit=["", "x", "x", ""])
    codes = p.unit_code
    assert codes[1] == codes[2]
    assert len(set(codes.tolist())) == 3


@pytest.mark.parametrize("units", [0, 300])
def test_the_normal_law_of_findings_is_that_of_dealing(units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = simulated(900, units=units, multilabel=True)
    dealt = null_of_counts(p, PAIR, Policy(), 2000, np.random.default_rng(0))
    monkeypatch.setattr(null, "DEALT", 0)
    normal = null_of_counts(p, PAIR, Policy(), 2000, np.random.default_rng(0))
    # Units that hang together keep together only in part where findings are dealt, so that law is a little narrower.
    room = 0.1 if not units else 0.25
    for name in ("eopp1", "eopp0", "eodd", "f1", "accuracy"):
        assert normal.worst[name].mean() == pytest.approx(dealt.worst[name].mean(), rel=room), name
    for name in ("tpr", "fpr"):
        assert normal.noise[name] == pytest.approx(dealt.noise[name], rel=room), name
