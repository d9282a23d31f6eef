"""Optuna's search among the settings of a sweep."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equiprune.grid import Grid
from equiprune.search import Tried, proposed, size


def grid(**fairprune: list[Any]) -> Grid:
    raw = {
        "seed": [0, 1],
        "data": {"manifest": "m.csv", "label": "dx", "attribute": "sex"},
        "step": [{"method": "vanilla"}, {"method": "fairprune", **fairprune}],
    }
    return Grid.of(raw, "r.toml", Path())


SMALL = grid(beta=[0.33, 0.2], scope=["global", "layer"], keep=["last", "best"])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.data())
def test_every_setting_is_proposed_once_whatever_comes_out(seed: int, data: st.DataObject) -> None:
    tried: list[Tried] = []
    while (choice := proposed(SMALL, tried, seed)) is not None:
        assert choice not in [one.choice for one in tried]
        assert set(choice) == {"2.beta", "2.scope", "2.keep"}  # never the seed
        f1, gap = data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1) | st.just(float("nan"))))
        tried.append(Tried(choice, f1, gap, running=data.draw(st.booleans()), constant=data.draw(st.booleans())))
    assert len(tried) == size(SMALL) == 8


def test_a_proposal_depends_on_what_came_out_alone() -> None:
    tried = [Tried({"2.beta": 0.2, "2.scope": "layer", "2.keep": "last"}, 0.8, 0.1)]
    assert proposed(SMALL, tried, 3) == proposed(SMALL, tried, 3)
    assert len({json.dumps(proposed(SMALL, tried, seed)) for seed in range(20)}) > 1


WIDE = grid(beta=[round(0.05 * k, 2) for k in range(1, 21)], ratio=[round(0.04 * k, 2) for k in range(1, 21)])


def outcome(choice: dict[str, Any]) -> tuple[float, float]:
    """F1 falls with the ratio, the gap has its smallest value near β = 0.3 and grows away from it."""
    beta, ratio = choice["2.beta"], choice["2.ratio"]
    return 0.8 - 0.3 * ratio**2, min(1.0, 0.02 + 0.4 * abs(beta - 0.3) + 0.2 * (0.6 - ratio) ** 2)


def least(found: list[tuple[float, float]]) -> float:
    """The smallest gap that costs at most a tenth of F1."""
    return min((gap for f1, gap in found if f1 > 0.7), default=1.0)


def test_a_search_finds_more_than_chance_does() -> None:
    searched, drawn = [], []
    for seed in range(5):
        tried: list[Tried] = []
        for _ in range(40):
            choice = proposed(WIDE, tried, seed)
            assert choice is not None
            tried.append(Tried(choice, *outcome(choice)))
        searched.append(least([(one.f1, one.gap) for one in tried]))
        some = random.Random(seed).sample(list(WIDE.points()), 40)
        drawn.append(least([outcome(choice) for choice in some]))
    assert np.mean(searched) < np.mean(drawn)


def test_models_that_say_the_same_of_every_image_do_not_draw_the_search() -> None:
    """A gap of 0 at a large ratio, by models that are constant: it turns to others."""

    def share(constant: bool) -> float:
        found = []
        for seed in range(3):
            tried: list[Tried] = []
            for _ in range(40):
                choice = proposed(WIDE, tried, seed)
                assert choice is not None
                broken = choice["2.ratio"] > 0.6
                f1, gap = (0.3, 0.0) if broken else outcome(choice)
                tried.append(Tried(choice, f1, gap, constant=constant and broken))
            found.append(sum(one.choice["2.ratio"] > 0.6 for one in tried[15:]))
        return float(np.mean(found))

    assert share(constant=True) < share(constant=False)


@pytest.mark.parametrize("values", [[True, False], [0.2, "auto"], [None, 3]])
def test_what_are_no_numbers_is_searched_by_name(values: list[Any]) -> None:
    from equiprune.grid import Axis
    from equiprune.search import _ordered

    assert not _ordered(Axis("2.beta", (), tuple(values)))
