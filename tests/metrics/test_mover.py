from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiprune.metrics import mover
from equiprune.metrics.mover import Lifted

SIZE = st.floats(0.01, 1.0)
ERROR = st.floats(0.0, 0.5)


def test_without_lift_a_change_has_the_error_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.multivariate_normal([5.0, 6.0], [[1.0, 1.2], [1.2, 4.0]], 200_000).T
    low, high = mover.change(Lifted(5.0, 1.96, 0.0), Lifted(6.0, 2 * 1.96, 0.0), mover.correlation(first, second))
    assert [low, high] == pytest.approx(np.quantile(second - first, [0.025, 0.975]).tolist(), abs=0.03)


def test_a_ratio_is_fiellers() -> None:
    """Its ends are where part - r x whole, a normal variable, is 1.96 of its standard errors from 0 (Fieller 1954)."""
    low, high = mover.quotient(Lifted(3.0, 0.5, 0.0), Lifted(4.0, 0.6, 0.0), 0.3)
    for r in (low, high):
        error = np.sqrt(0.5**2 + (r * 0.6) ** 2 - 2 * 0.3 * 0.5 * r * 0.6)
        assert abs(3.0 - 4.0 * r) == pytest.approx(error)
    assert low < 0.75 < high


@given(SIZE, ERROR, SIZE, ERROR, st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_intervals_hold_their_value_and_stay_possible(
    a: float, error: float, b: float, other: float, together: float, lift: float, of_whole: float
) -> None:
    before, after = Lifted(a, error, lift * a), Lifted(b, other, of_whole * b)
    low, high = mover.change(before, after, together)
    assert low <= b - a <= high
    assert low >= -(a + error)
    assert high <= b + other
    least, most = mover.quotient(after, before, together)
    assert 0 <= least <= b / a <= most


def test_a_lift_is_taken_off_as_a_whole() -> None:
    fair, unfair = Lifted.of(0.08, 0.0, 0.12), Lifted.of(0.3, 0.25, 0.35)
    low, high = mover.change(unfair, fair, 0.0)  # the fair model's gap may be nothing but noise
    assert low == pytest.approx(-0.35)  # and then the other's may be all that its own interval allows
    assert high == pytest.approx(-0.22 + np.hypot(0.04, 0.05))
    assert mover.quotient(fair, unfair, 0.0)[0] == 0
    assert mover.quotient(unfair, fair, 0.0)[1] == inf


def test_a_model_and_itself() -> None:
    one = Lifted.of(0.08, 0.0, 0.12)
    assert mover.change(one, one, 1.0) == (0, 0)
    assert mover.quotient(one, one, 1.0) == (1, 1)
    assert mover.gain_less_ratio((0.0, 0.0, 0.0), (one, one), 1.0, 1.0) == (-1, -1)
