from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from equiprune.metrics import performance
from equiprune.metrics.counts import Counts, count
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it tells of predicted classes without rows
            balanced = sk.balanced_accuracy_score(truth, called)
        assert performance.balanced_accuracy(part)[0] == pytest.approx(balanced, abs=1e-12)


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
        both = [sk.balanced_accuracy_score(p.label[rows[:, k], k], p.predicted[rows[:, k], k]) for k in range(3)]
        assert performance.balanced_accuracy(counts, multilabel=True)[g] == pytest.approx(np.mean(both))


def test_from_labels_and_from_confusion_are_one_thing() -> None:
    p = simulated(90, 4, 3, 8)
    onehot, called = np.eye(4)[p.label], np.eye(4)[p.predicted]
    first = count(p).take(slice(-1))
    second = Counts.from_labels(onehot, called, p.group, 3)
    for part in ("tp", "fp", "fn", "tn"):
        assert getattr(first, part).tolist() == getattr(second, part).tolist()
