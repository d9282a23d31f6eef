from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from equiprune.errors import DataError, UsageError
from equiprune.metrics.operating import operating_point, roc
from equiprune.predictions import Predictions


def findings(n: int = 300, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    label = (rng.random((n, 3)) < 0.3).astype(float)
    score = np.clip(0.3 * label + 0.7 * rng.random((n, 3)), 0, 1).round(2)
    label[rng.random((n, 3)) < 0.1] = np.nan
    return Predictions(label, score, rng.integers(0, 2, n), ["effusion", "edema", "nodule"], ["f", "m"], "sex")


@given(st.integers(3, 60), st.integers(0, 1000))
@settings(deadline=None)
def test_the_curve_agrees_with_scikit_learn(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.5
    if positive.all() or not positive.any():
        return
    score = rng.random(n).round(1)
    steps, tpr, fpr = roc(score, positive)
    false, true, threshold = sk.roc_curve(positive, score, drop_intermediate=False)
    assert steps == pytest.approx(threshold[1:])
    assert tpr == pytest.approx(true[1:])
    assert fpr == pytest.approx(false[1:])


@pytest.mark.parametrize("least", [0.5, 0.8, 0.95, 1.0])
def test_a_sensitivity_is_reached_and_no_higher_threshold_reaches_it(least: float) -> None:
    p = findings()
    found = operating_point(f"sensitivity={least}", p, p.classes, p.task)
    assert found.chosen_on == 300
    called = found.applied(p).predicted
    for k in range(3):
        positive = p.label[:, k] == 1
        assert called[positive, k].mean() >= least
        scores = np.unique(p.score[positive & called[:, k], k])
        assert (p.score[positive, k] > scores[0]).mean() < least


def test_youden_is_the_best_of_all_thresholds() -> None:
    p = findings(seed=1)
    found = operating_point("youden", p, p.classes, p.task)
    called = found.applied(p).predicted
    for k in range(3):
        known = ~np.isnan(p.label[:, k])
        positive, score = p.label[known, k] == 1, p.score[known, k]
        best = max((score[positive] >= t).mean() - (score[~positive] >= t).mean() for t in np.unique(score))
        mine = called[known, k]
        assert mine[positive].mean() - mine[~positive].mean() == pytest.approx(best)


def test_two_classes_and_a_number() -> None:
    p = Predictions([0, 0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]], [0, 1] * 2, ["no", "yes"])
    found = operating_point("0.25", None, p.classes, p.task)
    assert (found.chosen_on, found.threshold.tolist()) == (None, [0.75, 0.25])
    assert found.applied(p).predicted.tolist() == [0, 1, 1, 1]
    assert operating_point("youden", p, p.classes, p.task).threshold[1] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("yuoden", "Did you mean 'youden'"),
        ("sensitivity=2", "at most 1, not 2"),
        ("1.5", "from 0 to 1"),
        ("sensitivity=0", "above 0 and at most 1"),
    ],
)
def test_a_wrong_rule_is_told(rule: str, told: str) -> None:
    p = findings()
    with pytest.raises(UsageError, match=told):
        operating_point(rule, p, p.classes, p.task)


def test_what_cannot_be_chosen_is_told_for_every_finding() -> None:
    p = findings()
    with pytest.raises(UsageError, match="there are none"):
        operating_point("youden", None, p.classes, p.task)
    label = p.label.copy()
    label[:, 0], label[:, 2] = 0, 1
    empty = Predictions(label, p.score, p.group, p.classes, p.groups)
    with pytest.raises(DataError) as caught:
        operating_point("youden", empty, p.classes, p.task)
    assert "column 'effusion': no validation row is positive" in str(caught.value)
    assert "column 'nodule': no validation row is negative" in str(caught.value)
    other = Predictions(p.label, p.score, p.group, ["x", "y", "z"], p.groups)
    with pytest.raises(UsageError, match="other classes"):
        operating_point("youden", other, p.classes, p.task)
    with pytest.raises(UsageError, match="other classes"):
        operating_point("0.5", None, p.classes, p.task).applied(other)
    with pytest.raises(UsageError, match="the most probable one is called"):
        operating_point("0.5", None, ("a", "b", "c"), "multiclass")
