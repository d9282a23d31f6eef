"""What an audit says of classifiers whose true fairness is known."""

from __future__ import annotations

import numpy as np
import pytest

from equiprune.audit import audit
from equiprune.predictions import Predictions
from tests.repeating import repeated


def test_a_perfect_classifier_is_perfectly_fair() -> None:
    label = np.arange(200) % 4
    p = Predictions(label, np.eye(4)[label], np.arange(200) // 100, list("abcd"), ["f", "m"])
    found = audit(p, replicates=50)
    known = [gap for name, gap in found.gaps.items() if not name.startswith("calibration")]
    assert [gap.value for gap in known] == [0] * len(known)
    assert {gap.p_value for gap in known} == {1.0}
    assert found.gaps["calibration_slope"].value is None  # all right: there is nothing to fit
    assert found.overall["auroc"].value == found.overall["accuracy"].value == 1
    assert found.overall["brier"].value == found.overall["ece"].value == 0
    assert (found.overall["accuracy"].low or 1) < 1  # Wilson: 200 of 200 is not certainty


def test_all_wrong_in_a_tiny_group_is_no_certainty() -> None:
    """0 of 7: Wilson's 95 % interval with continuity correction is [0, 0.439], also where rows have ids."""
    label, group = np.array([0, 1] * 27), np.array([0] * 47 + [1] * 7)
    called = np.where(group == 1, 1 - label, label)
    score = np.where(called[:, None] == np.arange(2), 0.9, 0.1)
    p = Predictions(label, score, group, ["a", "b"], ["many", "few"], unit=[f"p{row}" for row in range(54)])
    accuracy = audit(p, replicates=50).by_group["few"].accuracy
    assert (accuracy.value, accuracy.low) == (0, 0)
    assert accuracy.high == pytest.approx(0.4391, abs=1e-4)


def test_a_model_that_tells_nothing_apart_is_named() -> None:
    p = Predictions([0, 1] * 20, [[0.9, 0.1]] * 40, [0, 0, 1, 1] * 10, ["a", "b"], ["f", "m"])
    found = audit(p, replicates=20)
    assert found.gaps["eopp1"].value == 0
    assert any("every row" in notice for notice in found.notices)


def test_fair_data_of_the_shape_of_a_published_split_is_below_its_floor() -> None:
    """114 classes, a handful of images each: a fair classifier shows a gap of 0.2 and more, and the audit says so."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 25, size=114)
    label = np.repeat(np.arange(114), sizes)
    n = len(label)
    called = np.where(rng.random(n) < 0.5, label, rng.integers(114, size=n))
    score = np.full((n, 114), 0.5 / 113)
    score[np.arange(n), called] = 0.5
    group = (rng.random(n) < 0.3).astype(np.int64)
    found = audit(Predictions(label, score, group, [f"c{k}" for k in range(114)], ["light", "dark"]), replicates=400)
    gap = found.gaps["eopp1"]
    assert (gap.value or 0) > 0.15
    assert gap.floor == pytest.approx(gap.value, abs=0.05)
    assert (gap.p_value or 0) > 0.05
    assert gap.low == 0
    assert (gap.detectable or 0) > 0.05


def test_what_the_case_mix_explains_is_no_zero() -> None:
    """Equal error rates, but the class is common in one group and rare in the other: that gap is there."""
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1], 2000)
    label = (rng.random(4000) < np.where(group == 0, 0.2, 0.6)).astype(np.int64)
    called = np.where(rng.random(4000) < np.where(label == 1, 0.8, 0.95), label, 1 - label)
    score = np.where(called[:, None] == np.arange(2), 0.9, 0.1)
    found = audit(Predictions(label, score, group, ["no", "yes"], ["f", "m"]), replicates=400)
    parity, error_rate = found.gaps["selection_rate"], found.gaps["eopp1"]
    assert parity.floor == pytest.approx(parity.value, abs=0.02)  # equal error rates would show it too
    assert (parity.p_value or 0) > 0.05
    assert (parity.low or 0) > 0.25
    assert (parity.high or 0) < 0.4
    assert error_rate.low == 0


def test_the_gap_of_selection_rates_of_a_perfect_model_is_not_certain() -> None:
    """Both classes' differences are each other's opposite, and 0: their sum never varies, their sizes do."""
    label = np.tile([0, 1], 30)
    p = Predictions(label, np.eye(2)[label], np.repeat([0, 1], 30), ["no", "yes"], ["f", "m"])
    found = audit(p, replicates=200)
    single = next(one for one in found.gaps_by_class if one.rate == "selection_rate")
    assert found.gaps["selection_rate"].high == pytest.approx(single.high)
    assert (found.gaps["selection_rate"].high or 0) > 0.2


def test_a_perfect_model_has_noise_that_it_does_not_show() -> None:
    """30 of 30 right in both groups: what could have been missed is known for rates, and intervals have a width."""
    label = np.tile([0, 1], 30)
    p = Predictions(label, np.eye(2)[label] * 0.9 + 0.05, np.repeat([0, 1], 30), ["no", "yes"], ["f", "m"])
    found = audit(p, replicates=200)
    for name in ("eopp1", "accuracy", "recall", "precision", "balanced_accuracy"):
        assert 0.15 < (found.gaps[name].detectable or 0) < 0.35, name
    assert found.gaps["f1"].detectable is None
    for figure in (found.by_group["f"].ece, found.by_group["f"].brier):
        assert figure.value is not None
        assert (figure.low or 0) <= max(figure.value - 0.03, 0)
        assert (figure.high or 0) > figure.value + 0.03


@pytest.mark.usefixtures("no_detectable_gap")
def test_few_permutations_say_nothing_of_the_case_mix() -> None:
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    called = np.where(rng.random(300) < 0.8, label, 1 - label)
    p = Predictions(label, np.where(called[:, None] == np.arange(2), 0.9, 0.1), group, ["no", "yes"], ["f", "m"])
    found = [audit(p, replicates=n, seed=seed).gaps["eopp1"] for n in (1, 5, 20) for seed in range(5)]
    not_rejected = [gap.low for gap in found if (gap.p_value or 0) >= 0.05]
    assert len(not_rejected) >= 10
    assert set(not_rejected) == {0.0}


def test_a_tie_of_scores_is_a_tie_to_first_order() -> None:
    """One row of 80 is wrong and scores are tied: every permutation of groups has the same gap."""
    label = np.tile([0, 1], 40)
    score = np.where(label[:, None] == 0, [[0.9, 0.1]], [[0.2, 0.8]])
    score[0] = [0.2, 0.8]
    p = Predictions(label, score, np.repeat([0, 1], 40), ["no", "yes"], ["f", "m"])
    found = audit(p, replicates=300)
    assert found.gaps["average_precision"].p_value == found.gaps["auroc"].p_value == 1.0


@pytest.mark.usefixtures("no_detectable_gap")
def test_by_chance_alone_the_interval_of_a_gap_that_follows_the_case_mix_holds_0() -> None:
    """Three groups that differ in nothing; 60 test sets, and a lower end above 0 in 1 of 20 would be 3."""
    rng = np.random.default_rng(3)

    def above(_: int) -> bool:
        n = 400
        group, label = rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.integers(3, size=n)
        logit = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[label]
        score = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
        p = Predictions(label, score, group, ["a", "b", "c"], ["x", "y", "z"])
        return (audit(p, replicates=100).gaps["selection_rate"].low or 0) > 0

    assert sum(repeated(above, 60)) <= 7
