from __future__ import annotations

import math

import numpy as np
import pytest

from equiprune.metrics.tradeoff import fate, pareto


def test_a_model_against_itself_has_no_trade() -> None:
    assert fate(0.5, 0.5, 0.2, 0.2) == 0


def test_the_weight_scales_only_the_unfairness() -> None:
    assert fate(0.6, 0.5, 0.1, 0.2, weight=0.0) == pytest.approx(0.2)
    assert fate(0.6, 0.5, 0.1, 0.2, weight=2.0) == pytest.approx(0.2 + 2 * 0.5)


@pytest.mark.parametrize("values", [(0.5, 0.5, 0.1, 0.0), (0.5, 0.0, 0.1, 0.1), (math.nan, 0.5, 0.1, 0.1)])
def test_fate_is_undefined_without_a_baseline(values: tuple[float, float, float, float]) -> None:
    assert math.isnan(fate(*values))


def test_the_front_is_what_a_slow_search_finds() -> None:
    rng = np.random.default_rng(0)
    gain, gap = rng.integers(0, 5, (2, 40)) / 4
    slow = [
        not any((g >= a and f <= b) and (g > a or f < b) for g, f in zip(gain, gap, strict=True))
        for a, b in zip(gain, gap, strict=True)
    ]
    assert pareto(gain, gap).tolist() == slow
    assert pareto(np.array([0.5, np.nan]), np.array([0.1, 0.0])).tolist() == [True, False]
