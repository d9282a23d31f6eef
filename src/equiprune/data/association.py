"""Whether two properties of rows go together: Cramer's V, and how likely chance alone gives as much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

DRAWS = 999
"""Permutations. The least p-value is 1 / (DRAWS + 1)."""

_CELLS = 5000
"""Kinds of units times kinds of units from which dealing them out one by one is quicker."""

_WEIGHTS = 0x5EED  # of the random keys that tell kinds of units apart; any number does


@dataclass(frozen=True)
class Association:
    """How far two properties of rows go together.

    Args:
        what: the label it is about, "" for all classes at once.
        rows: those that both properties are known of.
        units: patients or lesions these rows are of; where None each row stood for itself.
        cramers_v: 0 (independent) to 1 (one follows from the other). None where a property has one value.
        by_chance: the mean of Cramer's V over the permutations: what independence would show.
        p_value: share of permutations with as large a V, the observed one counted in.
        p_holm: the p-value after Holm's correction for all tests of the family; alone, the same.
    """

    what: str
    rows: int
    units: int | None
    cramers_v: float | None
    by_chance: float | None
    p_value: float | None
    p_holm: float | None


def chi_square(table: Float[np.ndarray, "*draw row column"]) -> Float[np.ndarray, "*draw"]:
    """Pearson's statistic of independence, without continuity correction.

    Args:
        table: counts or weights; empty rows and columns add nothing.

    Example:
        >>> chi_square(np.array([[10.0, 20.0], [20.0, 10.0]])).round(3)
        np.float64(6.667)
    """
    total = table.sum(axis=(-2, -1), keepdims=True)
    expected = table.sum(axis=-1, keepdims=True) * table.sum(axis=-2, keepdims=True) / np.maximum(total, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(expected > 0, (table - expected) ** 2 / expected, 0)
    return np.asarray(parts.sum(axis=(-2, -1)))


def cramers_v(table: Float[np.ndarray, "*draw row column"]) -> Float[np.ndarray, "*draw"]:
    """The root of chi-square / (n x (the lesser of used rows and used columns - 1)); nan where that is 0.

    Example:
        >>> cramers_v(np.array([[[5.0, 0], [0, 5]], [[5, 5], [5, 5]]])).tolist()
        [1.0, 0.0]
    """
    used = [(table.sum(axis=axis) > 0).sum(axis=-1) for axis in (-1, -2)]
    degrees = table.sum(axis=(-2, -1)) * (np.minimum(*used) - 1)
    share = np.divide(chi_square(table), degrees, out=np.full(degrees.shape, np.nan), where=degrees > 0)
    return np.asarray(np.sqrt(share))


def associate(
    one: Int[np.ndarray, " row"],
    other: Int[np.ndarray, " row"],
    unit: Int[np.ndarray, " row"] | None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    what: str = "",
) -> Association:
    """Whether two codes of rows go together.

    Without units the table counts rows, and a permutation deals the second code anew among all rows. With
    units, rows of one patient are not exchangeable: each unit counts once, by the share of its rows in each
    value, and the permutation deals what units have of the second code anew among the units. Where units are of
    few kinds, tables with the same margins are drawn at once from the hypergeometric distribution: the same as
    permuting, and quicker.

    Args:
        one: values from 0 of the first property.
        other: values from 0 of the second.
        unit: codes of units, or None where each row stands for itself.
        seed: of the permutations.
        draws: how many.
        what: the name to give the result.

    Example:
        >>> a = np.repeat([0, 1], 50)
        >>> found = associate(a, a, None)
        >>> found.cramers_v, found.p_value
        (1.0, 0.001)
    """
    kinds = _kinds(one, other, unit)
    observed = float(cramers_v(np.einsum("ij,ia,jb->ab", kinds.table, kinds.one, kinds.other)))
    units = None if unit is None else int(kinds.table.sum())
    if np.isnan(observed):
        return Association(what, len(one), units, None, None, None, None)
    drawn = cramers_v((_drawn if kinds.table.size <= _CELLS else _dealt)(kinds, draws, np.random.default_rng(seed)))
    p = (1 + int((drawn >= observed - 1e-9).sum())) / (draws + 1)
    return Association(what, len(one), units, observed, float(drawn.mean()), p, p)


@dataclass(frozen=True, eq=False)
class _Kinds:
    """Units sorted into kinds: how many are of each kind in both respects, and what the kinds are.

    Args:
        table: units of each kind of the first code and each kind of the second.
        one: the shares of the first code's values in a unit of each kind.
        other: those of the second's.
    """

    table: Int[np.ndarray, "kind other_kind"]
    one: Float[np.ndarray, "kind value"]
    other: Float[np.ndarray, "other_kind other_value"]


def _kinds(
    one: Int[np.ndarray, " row"], other: Int[np.ndarray, " row"], unit: Int[np.ndarray, " row"] | None
) -> _Kinds:
    alone = np.arange(len(one)) if unit is None else np.unique(unit, return_inverse=True)[1].ravel()
    first, first_shares = _sorted_out(one, alone)
    second, second_shares = _sorted_out(other, alone)
    shape = (len(first_shares), len(second_shares))
    pairs = np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1])
    return _Kinds(pairs.reshape(shape), first_shares, second_shares)


def _sorted_out(
    code: Int[np.ndarray, " row"], unit: Int[np.ndarray, " row"]
) -> tuple[Int[np.ndarray, " unit"], Float[np.ndarray, "kind value"]]:
    """The kind of each unit, and the shares of values in each kind."""
    values = int(code.max(initial=0)) + 1
    # Units with the same counts have the same sum of random numbers, and others all but never: no wide
    # table of units by classes is needed.
    weight = np.random.default_rng(_WEIGHTS).integers(1 << 62, size=values, dtype=np.uint64)
    key = np.zeros(int(unit.max(initial=-1)) + 1, np.uint64)
    np.add.at(key, unit, weight[code])
    _, example, kind = np.unique(key, return_index=True, return_inverse=True)
    shares = np.zeros((len(example), values))
    place = np.full(len(key), -1)
    place[example] = np.arange(len(example))
    shown = place[unit] >= 0
    np.add.at(shares, (place[unit[shown]], code[shown]), 1)
    return kind.ravel(), shares / shares.sum(axis=1, keepdims=True)


def _drawn(kinds: _Kinds, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw value other_value"]:
    """The table of values after each permutation: kinds drawn with fixed margins, one cell after the other."""
    left: NDArray[np.int64] = np.tile(kinds.table.sum(axis=0), (draws, 1))
    tables = np.zeros((draws, kinds.one.shape[1], kinds.other.shape[1]))
    for kind, many in enumerate(kinds.table.sum(axis=1)):
        taken = np.empty_like(left)
        wanted = np.full(draws, many)
        rest = left.sum(axis=1)
        for column in range(left.shape[1]):
            rest = rest - left[:, column]
            taken[:, column] = rng.hypergeometric(left[:, column], rest, wanted)
            wanted = wanted - taken[:, column]
        left = left - taken
        shares = kinds.one[kind]
        held = np.flatnonzero(shares)
        tables[:, held] += shares[held, None] * (taken @ kinds.other)[:, None, :]
    return tables


def _dealt(kinds: _Kinds, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw value other_value"]:
    """The same, one permutation of the units after the other."""
    first, second = np.nonzero(kinds.table)
    many = kinds.table[first, second]
    one = np.ascontiguousarray(kinds.one[np.repeat(first, many)].T)
    other = np.repeat(second, many)
    return np.stack([one @ kinds.other[rng.permutation(other)] for _ in range(draws)])
