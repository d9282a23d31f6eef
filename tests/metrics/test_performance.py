from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from equiprune.metrics import performance
from equiprune.metrics.counts import Counts, count
from equiprune.metrics.estimates import score_sums
from equiprune.predictions import Predictions


def simulated(n: int, classes: int, groups: int, seed: int, *, rounded: bool = False) -> Predictions:
    """Rows whose label, group and prediction may all be absent from some part of the table."""
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, n, p=rng.dirichlet(np.ones(classes)))
    logits = rng.normal(size=(n, classes)) + 1.2 * (label[:, None] == np.arange(classes))
    score = np.exp(logits.round() if rounded else logits)
    group = rng.integers(-1, groups, n)
    names = [f"c{k}" for k in range(classes)]
    return Predictions(label, score / score.sum(axis=1, keepdims=True), group, names, [f"g{g}" for g in range(groups)])


def multilabel(n: int, findings: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    label = (rng.random((n, findings)) < 0.3).astype(float)
    score = np.clip(0.3 * label + 0.7 * rng.random((n, findings)), 0, 1)
    label[rng.random((n, findings)) < 0.1] = np.nan
    return Predictions(label, score, rng.integers(0, 2, n), [f"f{k}" for k in range(findings)], ["a", "b"])


@given(st.integers(1, 60), st.integers(2, 6), st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_macro_figures_agree_with_scikit_learn_on_each_group(n: int, classes: int, groups: int, seed: int) -> None:
    p = simulated(n, classes, groups, seed)
    counts = count(p)
    subsets = [(counts.take(slice(g, g + 1)), p.group == g) for g in range(groups)]
    for part, rows in [*subsets, (counts.pooled(), np.ones(n, dtype=bool))]:
        if not rows.any():
            assert np.isnan([performance.f1(part)[0], performance.accuracy(part)[0]]).all()
            continue
        truth, called = p.label[rows], p.predicted[rows]
        assert performance.accuracy(part)[0] == pytest.approx(sk.accuracy_score(truth, called), abs=1e-12)
        for ours, theirs in (
            (performance.precision, sk.precision_score),
            (performance.recall, sk.recall_score),
            (performance.f1, sk.f1_score),
        ):
            expected = theirs(truth, called, average="macro", zero_division=0)
            assert ours(part)[0] == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 80), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_auroc_agrees_with_scikit_learn_with_ties(n: int, rounded: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n).round(0 if rounded else 9)
    positive = rng.random(n) < 0.4
    found = performance.auroc(score, positive)
    if positive.all() or not positive.any():
        assert np.isnan(found.value)
        return
    assert found.value == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    assert found.placement[positive].mean() == pytest.approx(found.placement[~positive].mean(), abs=1e-12)


def test_macro_auroc_averages_the_classes_that_have_both_kinds() -> None:
    p = simulated(80, 5, 2, 3, rounded=True)
    rows = p.group == 0
    each = [
        sk.roc_auc_score(p.label[rows] == k, p.score[rows, k])
        for k in range(5)
        if 0 < (p.label[rows] == k).sum() < rows.sum()
    ]
    assert performance.macro_auroc(p, rows)[0] == pytest.approx(np.mean(each), abs=1e-12)


def test_auroc_influence_is_the_effect_of_leaving_a_row_out() -> None:
    p = simulated(300, 3, 1, 5)
    rows = np.ones(300, dtype=bool)
    value, influence = performance.macro_auroc(p, rows)
    for i in range(0, 300, 37):
        without = performance.macro_auroc(p, np.arange(300) != i)[0]
        assert without - value == pytest.approx(-influence[i], abs=3e-4)
    assert influence.sum() == pytest.approx(0, abs=1e-12)


def test_brier_and_ece_against_their_definitions() -> None:
    p = simulated(200, 4, 2, 1)
    found = score_sums(p)
    figures = found.figures(np.asarray(found.rows.sum(axis=0)))
    for name, rows in (("overall", np.ones(200, dtype=bool)), ("by_group", p.group == 1)):
        onehot = np.eye(4)[p.label[rows]]
        brier = ((p.score[rows] - onehot) ** 2).sum(axis=1).mean()
        top, right = p.score[rows].max(axis=1), p.predicted[rows] == p.label[rows]
        ece = 0.0
        for b in range(15):
            inside = (top > b / 15) & (top <= (b + 1) / 15)
            if inside.any():
                ece += inside.mean() * abs(top[inside].mean() - right[inside].mean())
        assert np.atleast_1d(figures[f"{name}.brier"])[-1] == pytest.approx(brier, abs=1e-12)
        assert np.atleast_1d(figures[f"{name}.ece"])[-1] == pytest.approx(ece, abs=1e-12)


def test_multilabel_figures_leave_out_what_is_not_known() -> None:
    p = multilabel(400, 3, 0)
    counts = count(p).take(slice(-1))
    known = ~np.isnan(p.label)
    for g in range(2):
        rows = (p.group == g)[:, None] & known
        right = (p.predicted == (p.label == 1))[rows].mean()
        assert performance.accuracy(counts, multilabel=True)[g] == pytest.approx(right)
        each = [sk.f1_score(p.label[rows[:, k], k], p.predicted[rows[:, k], k]) for k in range(3)]
        assert performance.f1(counts)[g] == pytest.approx(np.mean(each))
    sums = score_sums(p)
    figures = sums.figures(np.asarray(sums.rows.sum(axis=0)))
    auroc = [sk.roc_auc_score(p.label[known[:, k], k], p.score[known[:, k], k]) for k in range(3)]
    assert figures["overall.auroc"] == pytest.approx(np.mean(auroc))
    assert figures["overall.brier"] == pytest.approx(((p.score - p.label)[known] ** 2).mean())


def test_from_labels_and_from_confusion_are_one_thing() -> None:
    p = simulated(90, 4, 3, 8)
    onehot, called = np.eye(4)[p.label], np.eye(4)[p.predicted]
    first = count(p).take(slice(-1))
    second = Counts.from_labels(onehot, called, p.group, 3)
    for part in ("tp", "fp", "fn", "tn"):
        assert getattr(first, part).tolist() == getattr(second, part).tolist()
