from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from equiprune.metrics import places
from equiprune.metrics import ranking as module
from equiprune.metrics.clusters import Clusters
from equiprune.metrics.ranking import Ranking, auroc, average_precision, ranking
from equiprune.predictions import Predictions


def simulated(n: int, classes: int, seed: int, *, rounded: bool = False, dtype: type = np.float64) -> Predictions:
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, n, p=rng.dirichlet(np.ones(classes)))
    logits = rng.normal(size=(n, classes)) + 1.2 * (label[:, None] == np.arange(classes))
    score = np.exp(logits.round() if rounded else logits)
    score = (score / score.sum(axis=1, keepdims=True)).astype(dtype)
    return Predictions(label, score, rng.integers(-1, 2, n), [f"c{k}" for k in range(classes)], ["f", "m"])


def ranked(p: Predictions, shared: np.ndarray | None = None, *, unit: np.ndarray | None = None) -> Ranking:
    every = np.ones(len(p.classes), dtype=bool) if shared is None else shared
    slot = np.where(p.group < 0, len(p.groups), p.group)
    together = None if unit is None else (Clusters(unit), Clusters(unit, slot, len(p.groups) + 1))
    return ranking(p, slot, together, every)


@given(st.integers(2, 80), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_both_agree_with_scikit_learn_with_ties(n: int, rounded: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n).round(0 if rounded else 9)
    positive = rng.random(n) < 0.4
    if positive.all() or not positive.any():
        assert np.isnan(auroc(score, positive))
        assert np.isnan(average_precision(score, positive))
        return
    assert auroc(score, positive) == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    assert average_precision(score, positive) == pytest.approx(sk.average_precision_score(positive, score), abs=1e-12)


@given(st.integers(20, 120), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_every_class_and_side_agrees_with_scikit_learn(n: int, rounded: bool, seed: int) -> None:
    p = simulated(n, 3, seed, rounded=rounded)
    found = ranked(p)
    for side, rows in enumerate((p.group == 0, p.group == 1, p.group >= -1)):
        for k in range(3):
            positive = p.label[rows] == k
            if positive.all() or not positive.any():
                assert np.isnan(found.value[:, side, k]).all()
                continue
            score = p.score[rows, k]
            expected = [sk.roc_auc_score(positive, score), sk.average_precision_score(positive, score)]
            assert found.value[:, side, k] == pytest.approx(expected, abs=1e-12)
        each = found.value[:, side][:, ~np.isnan(found.value[0, side])]
        mean = each.mean(axis=-1) if each.size else np.full(2, np.nan)
        assert found.macro()[:, side] == pytest.approx(mean, nan_ok=True)


def test_influence_is_the_effect_of_leaving_a_row_out() -> None:
    p = simulated(600, 3, 5)
    found = ranked(p)
    for i in range(0, 600, 67):
        rest = ranked(p.take(np.arange(600) != i))
        assert found.macro()[:, -1] - rest.macro()[:, -1] == pytest.approx(found.influence[:, i], rel=0.15, abs=1e-4)
        g = int(p.group[i])
        change = found.macro()[:, g] - rest.macro()[:, g] if g >= 0 else np.zeros(2)
        assert change == pytest.approx(found.own[:, i], rel=0.15, abs=2e-4)


def test_auroc_variance_is_delongs() -> None:
    p = simulated(90, 2, 7)
    score, positive = p.score[:, 1], p.label == 1
    above = (score[positive][:, None] > score[~positive]) + 0.5 * (score[positive][:, None] == score[~positive])
    m, n = above.shape
    expected = above.mean(axis=1).var(ddof=1) / m + above.mean(axis=0).var(ddof=1) / n
    assert ranked(p).variance[0, -1, 1] == pytest.approx(expected, rel=1e-9)
    units = np.arange(90)
    assert ranked(p, unit=units).variance == pytest.approx(ranked(p).variance, nan_ok=True)


def test_average_precision_has_the_variance_of_a_bootstrap() -> None:
    p = simulated(500, 2, 9)
    rng = np.random.default_rng(0)
    score, positive = p.score[:, 1], p.label == 1
    drawn = [
        sk.average_precision_score(positive[rows], score[rows])
        for rows in (rng.integers(500, size=500) for _ in range(600))
    ]
    assert np.sqrt(ranked(p).variance[1, -1, 1]) == pytest.approx(np.std(drawn), rel=0.15)


def test_what_a_row_adds_in_a_group_starts_from_scores_that_all_groups_share() -> None:
    p = simulated(4000, 3, 11)
    shared = np.array([True, False, True])
    found = ranked(p, shared)
    own = np.stack([found.base[:, g] + found.null[:, p.group == g, g].sum(axis=1) for g in range(2)], axis=1)
    assert own == pytest.approx(found.shared_macro(), abs=4e-3)  # to first order
    assert found.shared_macro() == pytest.approx(found.value[:, :2, shared].mean(axis=-1))
    assert found.base[0, 0] == pytest.approx(found.base[0, 1])  # AUROC does not depend on how common a class is


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("buckets", [4, 64, 1 << 19])
def test_the_search_by_leading_bits_finds_the_places_of_a_plain_search(
    dtype: type, buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "BUCKETS", buckets)
    rng = np.random.default_rng(0)
    parts = [rng.random(4000) ** 4, rng.random(4000).round(2), np.array([0.0, 1.0, 1e-30])]
    score: np.ndarray = np.concatenate(parts).astype(dtype)
    for many in (1, 2, 200, len(score)):
        steps = np.unique(score[rng.integers(len(score), size=many)])
        left = np.searchsorted(steps, score)
        expected = 2 * left + (steps[np.minimum(left, len(steps) - 1)] == score)
        assert places.place(steps, score).tolist() == expected.tolist()


def test_zeros_of_both_signs_are_one_score() -> None:
    score = np.array([[-0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [-0.0, 1.0]])
    p = Predictions([0, 0, 1, 1], score, [0, 0, 1, 1], ["x", "y"], ["f", "m"])
    assert ranked(p).value[0, -1].tolist() == [0.5, 0.5]


def test_threads_change_nothing_but_the_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    p = simulated(300, 4, 2)
    alone = ranked(p)
    monkeypatch.setattr(module, "THREADED", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    together = ranked(p)
    assert together.value == pytest.approx(alone.value)
    assert together.own == pytest.approx(alone.own)
    assert together.null == pytest.approx(alone.null, abs=1e-6)


def test_unknown_findings_are_in_no_curve() -> None:
    rng = np.random.default_rng(4)
    label = (rng.random((200, 2)) < 0.4).astype(float)
    label[rng.random((200, 2)) < 0.2] = np.nan
    p = Predictions(label, rng.random((200, 2)), rng.integers(0, 2, 200), ["x", "y"], ["f", "m"])
    known = ~np.isnan(label[:, 1])
    expected = sk.roc_auc_score(label[known, 1], p.score[known, 1])
    found = ranked(p)
    assert found.value[0, -1, 1] == pytest.approx(expected)
    assert (found.influence[:, np.isnan(label).all(axis=1)] == 0).all()


def test_single_precision_scores_stay_single() -> None:
    p = simulated(50, 3, 1, dtype=np.float32)
    assert p.score.dtype == np.float32
    assert ranked(p).value[0, -1, 0] == pytest.approx(sk.roc_auc_score(p.label == 0, p.score[:, 0]), abs=1e-12)
