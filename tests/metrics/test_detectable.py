from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from equiprune.metrics import testing
from equiprune.metrics.detectable import Shares, detectable


def test_the_detectable_gap_is_found_in_eighty_of_a_hundred() -> None:
    rng = np.random.default_rng(0)
    noise, weight = np.array([0.05, 0.1, 0.15, 0.1]), np.full(4, 0.25)
    null = np.abs(noise * rng.normal(size=(20_000, 4))) @ weight
    found = detectable(null, noise, weight, rng)
    fresh = np.abs(found + noise * rng.normal(size=(20_000, 4))) @ weight
    assert (fresh > np.quantile(null, 0.95)).mean() == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(("n", "rate", "times"), [(20, 1.0, 1.0), (40, 1.0, 1.0), (100, 0.98, 1.0), (100, 0.1, 0.5)])
def test_a_detectable_difference_of_shares_is_found_in_eighty_of_a_hundred(n: int, rate: float, times: float) -> None:
    """Power by summing over all outcomes, also where nothing was wrong and permutation shows no noise."""
    noise = times * np.sqrt(rate * (1 - rate) * 2 / n)
    shares = Shares(np.array([rate]), np.array([2 / n]), np.array([times]))
    null = np.abs(noise * np.random.default_rng(0).normal(size=20_000))
    found = detectable(null, np.array([noise]), np.ones(1), np.random.default_rng(0), shares=shares)
    other = rate + found / times * (1 if rate < 0.5 else -1)
    hits = np.arange(n + 1)
    law = stats.binom.pmf(hits, n, rate)[:, None] * stats.binom.pmf(hits, n, other)
    likely = [(x, y) for x, y in np.argwhere(law > 1e-6).tolist() if testing.fisher(x, n, y, n) < 0.05]
    assert sum(law[x, y] for x, y in likely) == pytest.approx(0.8, abs=0.06)


def test_what_no_gap_could_show_is_undefined() -> None:
    rng = np.random.default_rng(0)
    assert np.isnan(detectable(np.full(100, np.nan), np.ones(1), np.ones(1), rng))
    assert np.isnan(detectable(np.zeros(100), np.zeros(2), np.full(2, 0.5), rng))  # nothing is ever wrong
    assert np.isnan(detectable(np.full(100, 1.9), np.full(3, 0.01), np.full(3, 1 / 3), rng))
