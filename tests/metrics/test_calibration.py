from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.repeating import repeated

from equiprune.metrics import calibration
from equiprune.metrics.scored import scored
from equiprune.predictions import Predictions


def simulated(n: int, *, sharp: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether they came true with probability σ(shift + sharp x logit)."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.5, 1.5, n)
    right = (rng.random(n) < 1 / (1 + np.exp(-shift - sharp * logit))).astype(float)
    return 1 / (1 + np.exp(-logit)), right


def multiclass(n: int = 200, classes: int = 4, seed: int = 1) -> Predictions:
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=n)
    score = np.exp(rng.normal(size=(n, classes)) + (label[:, None] == np.arange(classes)))
    names = [f"c{k}" for k in range(classes)]
    return Predictions(label, score / score.sum(axis=1, keepdims=True), rng.integers(0, 2, n), names, ["f", "m"])


def test_brier_and_ece_against_their_definitions() -> None:
    p = multiclass()
    cells = calibration.cells(p)
    brier = ((p.score - np.eye(4)[p.label]) ** 2).sum(axis=1).mean()
    assert calibration.brier(cells.weight.sum(), cells.brier.sum()) == pytest.approx(brier, abs=1e-12)
    top, right = p.score.max(axis=1), p.predicted == p.label
    expected = 0.0
    for b in range(15):
        inside = (top > b / 15) & (top <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(top[inside].mean() - right[inside].mean())
    found = calibration.ece(cells.weight.sum(), calibration.excess(cells).sum(axis=0))
    assert found == pytest.approx(expected, abs=1e-12)


def test_findings_that_are_not_known_are_no_cells() -> None:
    label = np.array([[1.0, np.nan], [0.0, 1.0]])
    cells = calibration.cells(Predictions(label, [[0.8, 0.5], [0.3, 0.6]], [0, 1], ["x", "y"], ["f", "m"]))
    assert cells.row.tolist() == [0, 1, 1]
    assert cells.weight.tolist() == [1, 2]
    assert cells.brier == pytest.approx([0.04, 0.09 + 0.16])


def test_slope_agrees_with_scikit_learn() -> None:
    confidence, right = simulated(3000, sharp=0.6, shift=0.3)
    logit = np.log(confidence / (1 - confidence))
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], right)
    found = calibration.recalibration(confidence, right)
    assert found.value[1] == pytest.approx(theirs.coef_[0, 0], abs=1e-5)
    assert found.value[1] == pytest.approx(0.6, abs=0.1)


def test_the_intercept_makes_the_mean_right() -> None:
    confidence, right = simulated(2000, shift=-0.7)
    found = calibration.recalibration(confidence, right)
    logit = np.log(confidence / (1 - confidence))
    assert (1 / (1 + np.exp(-found.value[0] - logit))).mean() == pytest.approx(right.mean(), abs=1e-9)
    assert found.value[0] == pytest.approx(-0.7, abs=0.15)


def test_influence_is_the_effect_of_leaving_a_cell_out() -> None:
    confidence, right = simulated(400, sharp=0.8)
    found = calibration.recalibration(confidence, right)
    for i in range(0, 400, 41):
        kept = np.arange(400) != i
        rest = calibration.recalibration(confidence[kept], right[kept])
        assert found.value - rest.value == pytest.approx(found.influence[:, i], rel=0.1, abs=2e-4)


@pytest.mark.parametrize(
    ("confidence", "right"),
    [
        ([0.6, 0.7, 0.8], [1.0, 1.0, 1.0]),
        ([0.6, 0.7, 0.8], [0.0, 0.0, 0.0]),
        ([0.6, 0.7, 0.8, 0.9], [0.0, 0.0, 1.0, 1.0]),
        ([0.6, 0.6, 0.6], [0.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_what_cannot_be_fitted_is_undefined(confidence: list[float], right: list[float]) -> None:
    assert np.isnan(calibration.recalibration(np.array(confidence), np.array(right)).value).all()


def test_many_sets_are_fitted_as_each_alone() -> None:
    confidence, right = simulated(60, sharp=0.7, shift=0.2)
    inside = np.random.default_rng(3).random((40, 60)) < 0.3
    inside[0], inside[1] = False, right == 1
    found = calibration.recalibrations(confidence, right, inside)
    assert np.isnan(found[:, :2]).all()
    assert not np.isnan(found[:, 2:]).all()
    for i, rows in enumerate(inside):
        alone = calibration.recalibration(confidence[rows], right[rows]).value
        if not np.isnan(alone).any():
            assert found[:, i] == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize(("n", "confidence", "rate"), [(100, 0.977, 0.977), (100, 0.99, 0.97), (15, 0.8, 0.8)])
def test_intervals_hold_where_hardly_anything_is_wrong(n: int, confidence: float, rate: float) -> None:
    """One confidence: the true ECE is its distance from the true rate. Sample variances alone held it in 64 to 77 %."""
    rng = np.random.default_rng(2)
    brier = 2 * (rate * (1 - confidence) ** 2 + (1 - rate) * confidence**2)

    def once(_: int) -> list[bool]:
        label, right = rng.integers(0, 2, 2 * n), rng.random(2 * n) < rate
        called = np.where(right, label, 1 - label)
        score = np.where(called[:, None] == np.arange(2), confidence, 1 - confidence)
        found = scored(Predictions(label, score, np.arange(2 * n) // n, ["a", "b"], ["f", "m"]), np.ones(2, dtype=bool))
        ends = [(found.low[name][0], found.high[name][0]) for name in ("ece", "brier")]
        return [
            bool(low - 1e-9 <= true <= high)
            for (low, high), true in zip(ends, (abs(confidence - rate), brier), strict=True)
        ]

    assert (np.mean(repeated(once, 100), axis=0) >= 0.9).all()


@pytest.mark.parametrize(("bend", "n"), [(0.0, 50), (0.0, 1000), (0.1, 200)])
def test_the_interval_of_ece_allows_for_what_noise_adds(bend: float, n: int) -> None:
    """Confidences all over: a calibrated model shows an ECE, and its interval reaches 0."""
    rng = np.random.default_rng(3)

    def once(_: int) -> bool:
        label, confidence = rng.integers(0, 2, 2 * n), rng.uniform(0.5, 1, 2 * n)
        called = np.where(rng.random(2 * n) < confidence - bend, label, 1 - label)
        score = np.where(called[:, None] == np.arange(2), confidence[:, None], 1 - confidence[:, None])
        found = scored(Predictions(label, score, np.arange(2 * n) // n, ["a", "b"], ["f", "m"]), np.ones(2, dtype=bool))
        return bool(found.low["ece"][0] <= bend + 0.003 and bend <= found.high["ece"][0])

    assert np.mean(repeated(once, 100)) >= 0.9


def test_rows_of_a_unit_turn_out_otherwise_together() -> None:
    label = np.tile([0, 1], 30)
    score, group = np.eye(2)[label] * 0.9 + 0.05, np.repeat([0, 1], 30)
    apart = scored(Predictions(label, score, group, ["a", "b"], ["f", "m"]), np.ones(2, dtype=bool))
    unit = (np.arange(60) // 5).astype(str)
    together = scored(Predictions(label, score, group, ["a", "b"], ["f", "m"], unit=unit), np.ones(2, dtype=bool))
    for name in ("ece", "brier"):
        widths = [float(found.high[name][0] - found.value[name][0]) for found in (apart, together)]
        assert widths[1] == pytest.approx(np.sqrt(5) * widths[0])
