from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from equiprune.predictions import Predictions
from equiprune.report.predicted import GRID, summary


def drawn(classes: int, rows: int = 500, *, multilabel: bool = False) -> Predictions:
    random = np.random.default_rng(classes)
    label, group = random.integers(0, classes, rows), random.integers(-1, 2, rows)
    logits = random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[label]
    names = [f"c{at}" for at in range(classes)]
    if multilabel:
        truth = np.eye(classes)[label]
        truth[:20, 0] = np.nan
        return Predictions(truth, 1 / (1 + np.exp(-logits)), group, names, ["f", "m"])
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(label, score, group, names, ["f", "m"])


def test_the_curve_is_that_of_sklearn_at_the_places_of_the_grid() -> None:
    p = drawn(3, 4000)
    rows = p.group == 1
    fpr, tpr, _ = roc_curve(p.label[rows] == 2, p.score[rows, 2], drop_intermediate=False)
    found = summary(p)["roc"]
    curve = found["classes"]["c2"]["m"]
    for at, place in enumerate(GRID):
        following = fpr[fpr >= place].min()
        assert tpr[fpr <= place].max() - 1e-3 <= curve[at] <= tpr[fpr <= following].max() + 1e-3
    area = np.trapezoid(curve, found["fpr"])
    assert area == pytest.approx(roc_auc_score(p.label[rows] == 2, p.score[rows, 2]), abs=0.005)
    every = [found["classes"][name]["m"] for name in p.classes]
    assert np.allclose(found["mean"]["m"], np.mean(every, axis=0), atol=2e-3)
    assert found["averaged"] == 3


def test_a_class_without_both_kinds_has_no_curve_and_two_classes_no_mean() -> None:
    p = drawn(3)
    rows = ~((p.group == 0) & (p.label == 1))
    found = summary(p.take(rows))["roc"]
    assert found["classes"]["c1"]["f"] is None
    assert found["classes"]["c1"]["m"] is not None
    assert found["averaged"] == 2
    assert summary(drawn(2))["roc"]["mean"] is None


def test_bins_hold_every_row_of_a_known_group_and_their_intervals_hold_the_share() -> None:
    p = drawn(4)
    bins = summary(p)["calibration"]
    for code, group in enumerate(p.groups):
        assert sum(one["n"] for one in bins[group]) == int((p.group == code).sum())
        assert all(one["low"] <= one["observed"] <= one["high"] for one in bins[group])


def test_findings_have_curves_and_bins_but_no_confusion() -> None:
    p = drawn(3, multilabel=True)
    found = summary(p)
    assert found["confusion"] is None
    assert sum(one["n"] for one in found["calibration"]["m"]) == int(np.isfinite(p.label[p.group == 1]).sum())
    json.dumps(found, allow_nan=False)


def test_many_classes_have_pairs_instead_of_matrices() -> None:
    few, many = summary(drawn(12))["confusion"], summary(drawn(13))["confusion"]
    assert few["pairs"] is None
    assert sum(map(sum, few["counts"]["f"])) == int((drawn(12).group == 0).sum())
    assert many["counts"] is None
    assert len(many["pairs"]) == 20
    wrong = [sum(cell["n"] for cell in pair["groups"].values()) for pair in many["pairs"]]
    assert wrong == sorted(wrong, reverse=True)
    assert all(pair["truth"] != pair["called"] for pair in many["pairs"])
