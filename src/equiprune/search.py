"""Which setting of a sweep is tried next, where not all of them are: Optuna's search for accuracy against gap.

A proposal depends on nothing but what has come out so far, which the caller has on disk; no state is kept that a crash
could take away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import optuna

from equiprune.choosing import SEED
from equiprune.grid import Axis, Grid

CONSTANT = "constant"
REPEATS = 20
"""Proposals of what was tried already, after which one of the rest is drawn."""


@dataclass(frozen=True)
class Tried:
    """A setting that was tried, or is being tried.

    Args:
        choice: the value of every axis but the seed.
        f1: on validation, the mean over seeds; nan as long as it is not known.
        gap: likewise; nan also where it is not estimable.
        running: whether it is still being tried.
        constant: whether a model came out that says the same of every image.
    """

    choice: Mapping[str, Any]
    f1: float = math.nan
    gap: float = math.nan
    running: bool = False
    constant: bool = False


def axes_of(grid: Grid) -> tuple[Axis, ...]:
    """What is searched over: every axis but the seed, which every setting is carried out with all values of."""
    return tuple(axis for axis in grid.axes if axis.name != SEED)


def size(grid: Grid) -> int:
    """How many settings there are."""
    return math.prod(len(axis.values) for axis in axes_of(grid))


def proposed(grid: Grid, tried: Sequence[Tried], seed: int) -> dict[str, Any] | None:
    """A setting that was not tried yet; None where there is none left.

    Optuna's tree-structured Parzen estimator for two aims: macro F1 is to be large, the gap small. Models that say the
    same of every image break its constraint. Numbers are searched in their order, other values as names.

    Args:
        grid: of the sweep.
        tried: all that were tried or are being tried.
        seed: of what is drawn.
    """
    known = {_key(one.choice) for one in tried}
    if len(known) >= size(grid):
        return None
    study = _study(grid, tried)
    for repeat in range(REPEATS):
        draw = int(np.random.SeedSequence([seed, len(tried), repeat]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=draw)
        found = study.ask(_distributions(grid)).params
        choice = {axis.name: axis.values[_order(axis)[found[axis.name]]] for axis in axes_of(grid)}
        if _key(choice) not in known:
            return choice
    rest = [choice for choice in _settings(grid) if _key(choice) not in known]
    return rest[int(np.random.default_rng([seed, len(tried)]).integers(len(rest)))]


def _settings(grid: Grid) -> list[dict[str, Any]]:
    axes = axes_of(grid)
    names = [axis.name for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in product(*(axis.values for axis in axes))]


def _key(choice: Mapping[str, Any]) -> str:
    return json.dumps(choice, sort_keys=True)


def _study(grid: Grid, tried: Sequence[Tried]) -> optuna.Study:
    """What was tried, as a study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"])
    states = optuna.trial.TrialState
    for one in tried:
        known = math.isfinite(one.f1) and math.isfinite(one.gap)
        study.add_trial(
            optuna.trial.create_trial(
                params={axis.name: _rank(axis, one.choice[axis.name]) for axis in axes_of(grid)},
                distributions=_distributions(grid),
                values=[one.f1, one.gap] if known else None,
                state=states.RUNNING if one.running else states.COMPLETE if known else states.FAIL,
                constraints={CONSTANT: 1.0 if one.constant else -1.0},  # broken above 0
            )
        )
    return study


def _distributions(grid: Grid) -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        axis.name: optuna.distributions.IntDistribution(0, len(axis.values) - 1)
        if _ordered(axis)
        else optuna.distributions.CategoricalDistribution(range(len(axis.values)))
        for axis in axes_of(grid)
    }


def _ordered(axis: Axis) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis.values)


def _order(axis: Axis) -> list[int]:
    """Places of the axis' values, numbers from the smallest."""
    places = range(len(axis.values))
    return sorted(places, key=lambda place: axis.values[place]) if _ordered(axis) else list(places)


def _rank(axis: Axis, value: object) -> int:
    return _order(axis).index(axis.values.index(value))
