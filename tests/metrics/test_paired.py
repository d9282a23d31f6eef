from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from tests.repeating import repeated, unchecked

from equiprune.audit import audit
from equiprune.comparing import reach_of
from equiprune.metrics import calibration, gaps, pairedscores
from equiprune.metrics.counts import count
from equiprune.metrics.estimates import shared_classes
from equiprune.metrics.gaps import Policy
from equiprune.metrics.null import EXACT
from equiprune.metrics.paired import (
    Changes,
    Fates,
    Reaches,
    count_changes,
    drawn,
    exchanged,
    figures_of_counts,
    joint_atoms,
    resampled,
)
from equiprune.metrics.pairedscores import score_changes, sums
from equiprune.metrics.ranking import auroc
from equiprune.metrics.sampling import counts_of, sides, slots, unit_strata
from equiprune.metrics.tradeoff import CRITERIA
from equiprune.predictions import Predictions

PAIR = [(0, 1)]
pytestmark = pytest.mark.usefixtures("no_detectable_gap")
PLAIN = Policy()


def two(
    n: int = 60, *, units: int = 0, multilabel: bool = False, gain: float = 0.0, unfair: float = 0.0, seed: int = 0
) -> tuple[Predictions, Predictions]:
    """Two models on the same rows, whose errors hang together; the second's signal is stronger by `gain`."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, units, n) if units else np.arange(n)
    group = np.where(np.arange(n) < 2, -1, unit % 2)
    ids = unit.astype(str) if units else None
    names, kinds = ["a", "b", "c"], ["f", "m"]
    shared = rng.normal(size=(n, 3))
    found = []
    if multilabel:
        label = (rng.random((n, 3)) < 0.4).astype(float)
        truth, label[rng.random((n, 3)) < 0.1] = label.copy(), np.nan
    else:
        label = rng.choice(3, n, p=[0.5, 0.3, 0.2])
        truth = label[:, None] == np.arange(3)
    for more in (0.0, gain):
        signal = 1.2 + more - unfair * (group == 1)
        logit = (shared + rng.normal(size=(n, 3))) * 0.7 + signal[:, None] * truth
        score = 1 / (1 + np.exp(0.6 - logit)) if multilabel else np.exp(logit)
        score = score if multilabel else score / score.sum(axis=1, keepdims=True)
        found.append(Predictions(label, score, group, names, kinds, "sex", unit=ids))
    return found[0], found[1]


def reached(pair: tuple[Predictions, Predictions], policy: Policy = PLAIN) -> Reaches:
    """How far the intervals of the models' own audits reach."""
    first, second = (
        reach_of(audit(p, replicates=20, eodd=policy.eodd, zero_support=policy.zero_support)) for p in pair
    )
    return first, second


def changed(
    pair: tuple[Predictions, Predictions],
    draws: int = 200,
    seed: int = 0,
    policy: Policy = PLAIN,
    reaches: Reaches | None = None,
) -> tuple[Changes, Fates]:
    shared = shared_classes(count(pair[0]).take(slice(-1)))
    rng = np.random.default_rng(seed)
    reaches = reaches or reached(pair, policy)
    found, fates = count_changes(*pair, reaches, PAIR, policy, draws, rng)
    models = sums(pair[0], shared), sums(pair[1], shared)
    return found.joined(score_changes(pair[0], models, reaches, PAIR, policy, draws, rng)), fates


def slow_rows(p: Predictions, rng: np.random.Generator) -> np.ndarray:
    """One resample of the rows, unit by unit within groups."""
    unit = p.unit_code
    stratum = unit_strata(slots(p), unit, len(p.groups) + 1)
    rows = []
    for s in np.unique(stratum):
        members = np.flatnonzero(stratum == s)
        rows += [np.flatnonzero(unit == one) for one in rng.choice(members, len(members))]
    return np.concatenate(rows)


def slow_exchange(pair: tuple[Predictions, Predictions], rng: np.random.Generator) -> tuple[Predictions, Predictions]:
    """The two models' scores, exchanged unit by unit."""
    unit = pair[0].unit_code
    coin = (rng.random(unit.max() + 1) < 0.5)[unit][:, None]
    scores = np.where(coin, pair[1].score, pair[0].score), np.where(coin, pair[0].score, pair[1].score)
    p = pair[0]
    made = [Predictions(p.label, score, p.group, p.classes, p.groups, p.attribute, p.unit) for score in scores]
    return made[0], made[1]


def plain(p: Predictions) -> dict[str, float]:
    """Figures of one model, computed on its rows."""
    found = figures_of_counts(sides(count(p)), PAIR, PLAIN, multilabel=p.task == "multilabel")
    named = {"f1": found.sided["f1"][-1], "accuracy of m": found.sided["accuracy"][1]}
    named |= {"gap eopp1": gaps.worst(found.gaps["eopp1"]), "gap f1": gaps.worst(found.gaps["f1"])}
    return {name: float(value) for name, value in named.items()}


KINDS = pytest.mark.parametrize(
    ("units", "multilabel"), [(0, False), (25, False), (0, True), (25, True)], ids=["rows", "units", "findings", "both"]
)


def _alike(fast: dict[str, np.ndarray], slow: list[dict[str, float]]) -> None:
    for name, draws in fast.items():
        twin = np.array([one[name] for one in slow])
        found = ks_2samp(np.round(draws, 9), np.round(twin, 9))
        assert found.pvalue > 0.001, (name, found)
        assert np.std(draws) == pytest.approx(np.std(twin), rel=0.25), name


def _named(fast: Callable[..., object], pair: tuple[Predictions, Predictions]) -> dict[str, np.ndarray]:
    atoms, many, classes = joint_atoms(*pair), len(pair[0].groups) + 1, len(pair[0].classes)

    def read(totals: np.ndarray) -> object:
        counts = sides(counts_of(totals, many, classes))
        return figures_of_counts(counts, PAIR, PLAIN, multilabel=pair[0].task == "multilabel")

    found = drawn((read(a), read(b)) for a, b in fast(atoms, 2000, np.random.default_rng(1)))  # type: ignore[attr-defined,misc]
    return {
        "f1": step(found.sided["f1"][:, -1]),
        "accuracy of m": step(found.sided["accuracy"][:, 1]),
        "gap eopp1": step(found.gaps["eopp1"]),
        "gap f1": step(found.gaps["f1"]),
    }


def step(draws: np.ndarray) -> np.ndarray:
    return np.asarray(draws[:, 1] - draws[:, 0])


def _difference(first: Predictions, second: Predictions) -> dict[str, float]:
    one, two_ = plain(first), plain(second)
    return {name: two_[name] - one[name] for name in one}


@KINDS
def test_the_bootstrap_has_the_law_of_a_loop_over_rows(units: int, multilabel: bool) -> None:
    pair = two(units=units, multilabel=multilabel, gain=0.5)
    rng = np.random.default_rng(2)

    def once(_: int) -> dict[str, float]:
        rows = slow_rows(pair[0], rng)
        return _difference(pair[0].take(rows), pair[1].take(rows))

    _alike(_named(resampled, pair), repeated(once, 300))


@KINDS
def test_the_exchange_has_the_law_of_a_loop_over_rows(units: int, multilabel: bool) -> None:
    pair = two(units=units, multilabel=multilabel, gain=0.5)
    rng = np.random.default_rng(3)
    _alike(_named(exchanged, pair), repeated(lambda _: _difference(*slow_exchange(pair, rng)), 300))


def _errors(pair: tuple[Predictions, Predictions]) -> dict[str, float]:
    """Change of Brier score and ECE, computed on rows."""
    found: dict[str, list[float]] = {"brier": [], "ece": []}
    for p in pair:
        cells = calibration.cells(p)
        found["brier"].append(float(cells.brier.sum() / cells.weight.sum()))
        found["ece"].append(float(np.abs(calibration.excess(cells).sum(axis=0)).sum() / cells.weight.sum()))
    return {name: after - before for name, (before, after) in found.items()}


@KINDS
def test_sums_of_scores_have_the_law_of_a_loop_over_rows(
    units: int, multilabel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = two(300, units=units * 4, multilabel=multilabel, gain=0.3)
    rng = np.random.default_rng(4)

    def resample(_: int) -> dict[str, float]:
        rows = slow_rows(pair[0], rng)
        return _errors((pair[0].take(rows), pair[1].take(rows)))

    swaps = repeated(lambda _: _errors(slow_exchange(pair, rng)), 300)
    resamples, reaches = repeated(resample, 300), reached(pair)
    for exact in (EXACT, 0):  # really drawn, and from the normal law
        monkeypatch.setattr(pairedscores, "EXACT", exact)
        found, _ = changed(pair, 2000, reaches=reaches)
        for name in ("brier", "ece"):
            one = found.sided[name]
            slow = np.mean([abs(draw[name]) >= abs(float(one.value[-1])) for draw in swaps])
            low, high = np.quantile([draw[name] for draw in resamples], [0.025, 0.975])
            if name == "brier":
                assert float(one.p[-1]) == pytest.approx(slow, abs=0.07)
                assert float(one.high[-1] - one.low[-1]) == pytest.approx(high - low, rel=0.17)
            else:  # noise may have lifted an ECE: its interval allows for that, and a second test has to agree
                assert float(one.p[-1]) >= slow - 0.07
                assert float(one.high[-1] - one.low[-1]) > 0.9 * (high - low)


def test_the_interval_of_auroc_is_that_of_delong() -> None:
    first, second = two(400, gain=0.5)
    known = first.group >= 0
    first, second = first.take(known), second.take(known)
    binary = [
        Predictions(
            (p.label == 0).astype(np.int64),
            np.column_stack([1 - p.score[:, 0], p.score[:, 0]]),
            p.group,
            ["no", "yes"],
            p.groups,
        )
        for p in (first, second)
    ]
    positive = binary[0].label == 1
    influence = []
    for p in binary:  # placement values, pair by pair: DeLong, DeLong and Clarke-Pearson 1988
        score = p.score[:, 1]
        wins = (score[positive][:, None] > score[~positive]) + 0.5 * (score[positive][:, None] == score[~positive])
        influence.append((wins.mean(axis=1), wins.mean(axis=0)))
        assert wins.mean() == pytest.approx(auroc(score, positive))
    spread = sum((influence[1][i] - influence[0][i]).var(ddof=1) / len(influence[0][i]) for i in (0, 1))
    found, _ = changed((binary[0], binary[1]), 4000)
    one = found.sided["auroc"]
    assert float(one.high[-1] - one.low[-1]) == pytest.approx(2 * 1.96 * np.sqrt(spread), rel=0.06)


@KINDS
@pytest.mark.parametrize("exact", [True, False], ids=["drawn", "normal"])
def test_a_model_against_itself_changes_nothing(
    units: int, multilabel: bool, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr(pairedscores, "EXACT", 0)
    p, _ = two(120, units=units, multilabel=multilabel)
    found, fates = changed((p, p))
    for name, one in (found.sided | found.gaps).items():
        assert not np.isnan(one.before).any(), name
        for part in (one.value, one.low, one.high):
            assert (part == 0).all(), name
        assert (one.p == 1).all(), name
    assert all(fate == (0, 0, 0) for fate in fates.values())


def test_figures_are_those_of_the_audit() -> None:
    pair = two(200, units=80, unfair=0.5)
    found, _ = changed(pair, 50)
    told = audit(pair[0], replicates=20)
    for name, one in found.sided.items():
        assert float(one.before[-1]) == pytest.approx(told.overall[name].value), name
        assert float(one.before[1]) == pytest.approx(getattr(told.by_group["m"], name).value), name
    for name, one in found.gaps.items():
        assert float(one.before) == pytest.approx(told.gaps[name].value), name


@pytest.mark.parametrize("units", [0, 300])
def test_a_better_model_is_found(units: int) -> None:
    found, _ = changed(two(600, units=units, gain=0.8), 400)
    for name in ("f1", "accuracy", "auroc", "average_precision", "brier"):
        one = found.sided[name]
        assert (one.p < 0.02).all(), name
        assert (np.sign(one.low) == np.sign(one.high)).all(), name


def test_equal_models_are_told_apart_in_one_of_twenty() -> None:
    """160 pairs of equally good models: 5 % of them is 8, and 1 to 17 are within three standard errors or so."""
    found = repeated(lambda seed: changed(two(150, unfair=0.6, seed=seed), 150, seed)[0], 160)
    for name in ("f1", "accuracy", "auroc", "brier", "ece"):
        assert 1 <= sum(float(one.sided[name].p[-1]) < 0.05 for one in found) <= 17, name
    for name in ("eopp0", "eopp1", "f1", "auroc"):
        assert 1 <= sum(float(one.gaps[name].p) < 0.05 for one in found) <= 17, name
    for name in ("f1", "brier", "auroc"):
        held = sum(float(one.sided[name].low[-1]) <= 0 <= float(one.sided[name].high[-1]) for one in found)
        assert held >= 0.88 * len(found), name


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    units=st.sampled_from([0, 15]),
    multilabel=st.booleans(),
    eodd=st.sampled_from(["half_mean", "sum", "separate"]),
    zero_support=st.sampled_from(["skip", "as_zero"]),
)
def test_swapping_the_models_turns_every_sign(
    seed: int, units: int, multilabel: bool, eodd: gaps.Eodd, zero_support: gaps.ZeroSupport
) -> None:
    first, second = two(40, units=units, multilabel=multilabel, unfair=0.5, seed=seed)
    policy = Policy(eodd, zero_support)
    reaches = reached((first, second), policy)
    there, fates = changed((first, second), 40, policy=policy, reaches=reaches)
    with unchecked():
        back, _ = changed((second, first), 40, policy=policy, reaches=reaches[::-1])
    for one, other in ((there.sided, back.sided), (there.gaps, back.gaps)):
        for name in one:
            np.testing.assert_allclose(one[name].value, -other[name].value, atol=1e-12, err_msg=name)
            np.testing.assert_array_equal(one[name].before, other[name].after, err_msg=name)
            known = ~np.isnan(one[name].value)
            assert (np.isnan(one[name].low) == ~known).all(), name
            assert (one[name].low <= one[name].value)[known].all(), name
            assert (one[name].value <= one[name].high)[known].all(), name
            assert ((one[name].p > 0) & (one[name].p <= 1))[known].all(), name
    for name in CRITERIA:
        value, low, high = fates[name]
        assert np.isnan(value) or low <= value <= high


def test_fate_without_a_gap_to_mend_is_undefined() -> None:
    score = [[0.9, 0.1], [0.1, 0.9]] * 6
    p = Predictions([0, 1] * 6, score, [0] * 6 + [1] * 6, ["a", "b"], ["f", "m"])
    worse = Predictions([0, 1] * 6, [[0.1, 0.9], *score[1:]], [0] * 6 + [1] * 6, ["a", "b"], ["f", "m"])
    _, fates = changed((p, worse))
    assert all(np.isnan(fate).all() for fate in fates.values())
    _, fates = changed((worse, p))
    value, low, high = fates["eopp1"]
    assert value > 1
    assert low <= value <= high
