from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from equiprune.metrics import intervals
from equiprune.metrics.intervals import Difference, Together, covering_interval, interval, score_interval


def wilson(hits: int, total: int) -> tuple[float, float]:
    low, high = score_interval(np.array(hits / total), np.array(float(total)))
    return float(low), float(high)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_agrees_with_scipy(hits: int, total: int) -> None:
    hits = min(hits, total)
    expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
    low, high = wilson(hits, total)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low <= hits / total <= high


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_interval_of_a_reported_rate_agrees_with_scipy(hits: int, total: int) -> None:
    hits = min(hits, total)
    expected = stats.binomtest(hits, total).proportion_ci(method="wilsoncc")
    low, high = covering_interval(np.array(hits / total), np.array(float(total)))
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low <= hits / total <= high


@pytest.mark.parametrize("n", [1, 2, 8, 15, 16, 30, 100, 300])
def test_the_interval_of_a_reported_rate_covers_at_every_true_rate(n: int) -> None:
    hits, rate = np.arange(n + 1), np.linspace(0.01, 0.99, 99)[:, None]
    low, high = covering_interval(hits / n, np.full(n + 1, float(n)))
    held = (low <= rate + 1e-12) & (rate - 1e-12 <= high)
    assert (stats.binom.pmf(hits, n, rate) * held).sum(axis=1).min() >= 0.95 - 1e-9


@pytest.mark.parametrize("interval_of", [score_interval, covering_interval])
def test_a_proportion_of_nothing_has_no_interval(interval_of: Callable[..., intervals.Ends]) -> None:
    assert np.isnan(interval_of(np.array(np.nan), np.array(0.0))).all()
    low, high = interval_of(np.array(0.5), np.array(0.3))  # fewer than one independent observation
    assert 0 <= low < 0.5 < high <= 1


@pytest.mark.parametrize(
    ("x", "n", "y", "m", "low", "high"),
    [  # Newcombe (1998), Table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_differences_are_newcombes_published_examples(x: int, n: int, y: int, m: int, low: float, high: float) -> None:
    found = intervals.difference(np.array(x / n), np.array(float(n)), np.array(y / m), np.array(float(m)))
    delta = x / n - y / m
    assert delta - float(found.down) == pytest.approx(low, abs=6e-5)
    assert delta + float(found.up) == pytest.approx(high, abs=6e-5)


def test_one_class_is_wilson_itself_and_many_are_a_mean() -> None:
    p, n, one = np.array([0.7]), np.array([20.0]), np.ones(1)
    low, high = intervals.mean_of_proportions(p, n, one, np.array(1.0))
    assert (float(low), float(high)) == pytest.approx(wilson(14, 20))
    many = 400
    low, high = intervals.mean_of_proportions(
        np.full(many, 0.7), np.full(many, 20.0), np.full(many, 1 / many), np.array(1.0)
    )
    half = 1.96 * np.sqrt(0.7 * 0.3 / 20 / many)
    assert (float(low), float(high)) == pytest.approx((0.7 - half, 0.7 + half), abs=2e-3)


def test_what_hangs_together_is_wider() -> None:
    p, n, weight = np.full(5, 0.7), np.full(5, 20.0), np.full(5, 0.2)
    apart, together = (tuple(map(float, intervals.mean_of_proportions(p, n, weight, np.array(r)))) for r in (1.0, 5.0))
    assert together == pytest.approx(wilson(14, 20))  # all alike: as one class
    assert together[0] < apart[0] < apart[1] < together[1]
    wide = [float(end) for end in intervals.mean_of_proportions(p, n, weight, np.array(1.0), np.array(0.01))]
    assert wide[1] - wide[0] == pytest.approx(2 * 1.96 * 0.1, rel=0.15)  # as wide as the bootstrap says
    assert intervals.mean_of_proportions(p, n, weight, np.array(1.0), np.array(1e-6)) == pytest.approx(apart)


def test_f1_is_a_curve_of_the_share_of_hits() -> None:
    jaccard = np.array([0.25, 0.5, 1.0])
    tp, union = 4 * jaccard, 4
    assert intervals.as_f1(jaccard) == pytest.approx(2 * tp / (tp + union))
    low, high = intervals.mean_of_proportions(
        np.array([0.5]), np.array([10.0]), np.ones(1), np.array(1.0), shape=intervals.as_f1
    )
    expected = intervals.as_f1(np.array(wilson(5, 10))).tolist()
    assert [float(low), float(high)] == pytest.approx(expected)


def test_what_noise_adds_to_an_absolute_value() -> None:
    noise = np.random.default_rng(0).normal(size=2_000_000)
    for x in (0.0, 0.5, 1.0, 2.5):
        assert float(intervals.folded(np.array(x))) == pytest.approx(np.abs(x + noise).mean() - x, abs=3e-3)


@given(st.lists(st.floats(-0.9, 0.9), min_size=1, max_size=6), st.floats(0.01, 0.3))
def test_the_interval_of_a_sum_of_sizes_holds_it(delta: list[float], reach: float) -> None:
    d = np.array([delta])
    even = np.full(d.shape, reach)
    weight = np.full(d.shape, 1 / d.size)
    low, high = intervals.sum_of_sizes(d, Difference(even, even), (even / 1.96) ** 2, weight, even * 0.4)
    assert low[0] <= np.abs(d).mean() <= high[0] + 1e-12
    if d.size == 1:
        assert low[0] == pytest.approx(abs(delta[0]) - reach)


def test_together_measures_what_hangs_together() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, 3))
    found = Together(np.zeros(3), np.array([1.0, 1.0, -1.0]))
    for chunk in np.split(common + own, 4):
        found.add(chunk)
    assert float(found.ratio()) == pytest.approx((1 + 3) / 6, rel=0.05)  # Var(c) + 3 Var(own) over 3 x 2
    assert float(found.variance()) == pytest.approx(4, rel=0.05)
    still = Together(np.array([0.5, np.nan]), np.ones(2))
    still.add(np.array([[0.5, np.nan], [0.5, 0.2]]))
    assert float(still.ratio()) == 1


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
