"""Every gap when the attribute is permuted within each true class: what chance alone would show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from equiprune.metrics import calibration, gaps, performance
from equiprune.metrics.counts import Counts, confusion, count
from equiprune.metrics.gaps import COUNT_GAPS, Pairs, Policy
from equiprune.metrics.permutation import permuted_cells, permuted_findings, permuted_groups, permuted_units
from equiprune.metrics.rates import ratio
from equiprune.metrics.sampling import affordable, by_unit, contributions
from equiprune.metrics.scored import SCORED, Scored
from equiprune.predictions import Predictions

NEGLIGIBLE = 0.25
FEWEST = 10
"""Permutations below which nothing is said of the case mix."""
DEALT = 100_000
"""Rows x findings up to which the rows of every finding are really dealt to groups."""
EXACT = 10_000_000
"""Permutations x units up to which the attribute is really permuted for figures of scores."""
REFITTED = 500_000
"""Permutations x rows up to which calibration is fitted anew in each."""


@dataclass(eq=False)
class Null:
    """Gaps under "same error rates in every group".

    Args:
        worst: draws of every gap, of the worst pair.
        noise: standard deviation of every component, or of the gaps of single figures, (pair,).
        shift: their mean, with its sign: what the case mix makes of them, where error rates are equal.
        seen: gaps as the draws compute them, to first order, in the groups as they are: what the draws of `worst` are
            compared with. Others are compared with the gap itself.
    """

    worst: dict[str, Float[np.ndarray, " draw"]] = field(default_factory=dict)
    noise: dict[str, Float[np.ndarray, "pair ..."]] = field(default_factory=dict)
    shift: dict[str, Float[np.ndarray, "pair ..."]] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def joined(self, other: Null) -> Null:
        """The gaps of both."""
        parts = ((getattr(self, name), getattr(other, name)) for name in ("worst", "noise", "shift", "seen"))
        return Null(*(mine | theirs for mine, theirs in parts))

    def is_none(self, name: str, pair: int) -> bool:
        """Whether equal error rates make the true gap 0, the case mix of a pair being alike or of no matter.

        They do where no component is shifted by more than a quarter of its noise, on average, or by more than few
        permutations shift it by chance.
        """
        shift, noise = (part[name][pair] for part in (self.shift, self.noise))
        draws = len(self.worst[name])
        return draws < FEWEST or bool(np.nansum(shift**2) <= np.nansum(noise**2) * (NEGLIGIBLE**2 + 4 / draws))


def null_of_counts(known: Predictions, among: Pairs, policy: Policy, draws: int, rng: np.random.Generator) -> Null:
    """Draws every gap that depends on counts alone.

    Where units exist, a unit's rows in one group stay together: the group is permuted among such blocks of the same
    majority class. In multi-label, counts are permuted within the true value of each finding.

    Args:
        known: the rows of known group.
        among: the pairs of groups that "worst" is taken over.
        policy: the conventions of the gaps.
        draws: how many permutations; fewer are made where each costs much.
        rng: where randomness comes from.
    """
    result = Null()
    names = [name for name in COUNT_GAPS if same_as(name, policy) is None]
    moments = {name: _Moments() for name in names}
    drawn: dict[str, list[Float[np.ndarray, "draw ..."]]] = {name: [] for name in (*names, *performance.FROM_COUNTS)}
    multilabel = known.task == "multilabel"
    for counts in _counts(known, draws, rng):
        rates = gaps.all_rates(counts)
        for name in names:
            delta = gaps.components(name, rates, policy, among)
            moments[name].add(delta)
            drawn[name].append(gaps.worst(gaps.total(name, delta, policy)))
        for name, metric in performance.FROM_COUNTS.items():
            value = metric(counts, multilabel=multilabel)
            drawn[name].append(gaps.differences(value[..., None], among)[..., 0])
    for name in names:
        result.worst[name] = np.concatenate(drawn[name])
        result.shift[name], result.noise[name] = moments[name].both()
    for name in performance.FROM_COUNTS:
        _keep(result, name, np.concatenate(drawn[name]))
    for name in COUNT_GAPS:
        if twin := same_as(name, policy):
            result.worst[name] = result.worst[twin]
            result.shift[name], result.noise[name] = result.shift[twin], result.noise[twin]
    return result


def same_as(name: str, policy: Policy) -> str | None:
    """The gap that this one is equal to, whatever the counts: it need not be computed twice."""
    if name == "fnr" or (name == "eopp1" and policy.zero_support == "skip"):
        return "tpr"
    return "fpr" if name == "eopp0" and policy.zero_support == "skip" else None


def _keep(result: Null, name: str, signed: Float[np.ndarray, "draw pair"]) -> None:
    result.worst[name] = gaps.worst(np.abs(signed))
    result.shift[name] = _mean(signed)
    result.noise[name] = np.sqrt(np.maximum(_mean(signed**2) - _mean(signed) ** 2, 0))


def _mean(values: Float[np.ndarray, "draw ..."]) -> Float[np.ndarray, ...]:
    return ratio(np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0))


class _Moments:
    """Running moments of components, of the draws that have them."""

    def __init__(self) -> None:
        self.parts: list[Float[np.ndarray, "3 pair part class"]] = []

    def add(self, delta: Float[np.ndarray, "draw pair part class"]) -> None:
        seen = ~np.isnan(delta)
        held = np.where(seen, delta, 0.0)
        self.parts.append(np.stack([seen.sum(0), held.sum(0), (held**2).sum(0)]))

    def both(self) -> tuple[Float[np.ndarray, "pair part class"], Float[np.ndarray, "pair part class"]]:
        """Mean and standard deviation."""
        many, total, squares = np.sum(self.parts, axis=0)
        mean = ratio(total, many)
        return mean, np.asarray(np.sqrt(np.maximum(ratio(squares, many) - mean**2, 0)))


def _counts(known: Predictions, draws: int, rng: np.random.Generator) -> Iterator[Counts]:
    groups, classes = len(known.groups), len(known.classes)
    if known.task == "multilabel":
        if known.score.size > DEALT:
            yield _many_findings(known, draws, rng)
        else:
            yield from _findings(known, affordable(draws, known.score.size), rng)
        return
    if known.unit is None:
        cells = confusion(known.label, known.predicted, known.group, groups, classes)
        cost = 20 * int(np.count_nonzero(cells.sum(axis=0))) * (groups - 1)
        yield from permuted_cells(cells, affordable(draws, cost), rng)
        return
    unit, one = blocks(known), np.zeros(len(known), dtype=np.int64)
    totals = by_unit(contributions(known.label, known.predicted, one, 1, classes), unit)
    group, stratum = majority(known.group, unit), majority(known.label, unit)
    yield from permuted_units(totals, group, stratum, groups, classes, affordable(draws, len(group)), rng)


def _findings(known: Predictions, draws: int, rng: np.random.Generator) -> Iterator[Counts]:
    support, groups = count(known).take(slice(-1)), len(known.groups)
    called = known.predicted.astype(np.float64)[None]
    for sums in permuted_findings(known.label, called, known.group, groups, blocks(known), draws, rng):
        fp, tp = sums[0]
        yield Counts(tp, fp, support.positive - tp, support.negative - fp)


def _many_findings(known: Predictions, draws: int, rng: np.random.Generator) -> Counts:
    """The same from a normal law, where dealing every finding's rows would take minutes.

    A row's calls, less their mean among the rows with the same true value of the finding, keep to their row, and
    rows to their unit; what the true values explain stays in its group.
    """
    support, groups = count(known).take(slice(-1)), len(known.groups)
    called = known.predicted.astype(np.float64)
    parts, base = [], []
    for truth, many in ((0, support.negative), (1, support.positive)):
        of = known.label == truth
        share = ratio((called * of).sum(axis=0), np.maximum(of.sum(axis=0), 1))
        parts.append(np.where(of, called - share, 0.0))
        base.append(share * many)
    unit = blocks(known)
    group = known.group if known.unit is None else majority(known.group, unit)
    rows = sparse.csr_array((np.ones(len(unit)), (unit, np.arange(len(unit)))))
    values = rows @ np.concatenate(parts, axis=1)
    columns = np.tile(np.arange(values.shape[1]), (groups, 1))
    sums = _normal(values, columns, group, np.zeros(len(group), dtype=np.int64), draws, rng)
    fp, tp = (
        np.clip(part + rest, 0, many)
        for part, rest, many in zip(np.split(sums, 2, axis=-1), base, (support.negative, support.positive), strict=True)
    )
    return Counts(tp, fp, support.positive - tp, support.negative - fp)


def blocks(known: Predictions) -> Int[np.ndarray, " sample"]:
    """What is permuted as one: the rows of a unit in one group. A unit with rows in two groups is two blocks."""
    if known.unit is None:
        return known.unit_code
    return np.unique(known.unit_code * len(known.groups) + known.group, return_inverse=True)[1].ravel()


def majority(code: Int[np.ndarray, " sample"], unit: Int[np.ndarray, " sample"]) -> Int[np.ndarray, " unit"]:
    """The code that most rows of each unit have (the least of equals).

    Example:
        >>> majority(np.array([2, 1, 1, 0]), np.array([0, 0, 0, 1])).tolist()
        [1, 0]
    """
    codes = int(code.max()) + 1
    pair, many = np.unique(unit * codes + code, return_counts=True)
    order = np.lexsort((pair, -many, pair // codes))
    first = np.unique(pair[order] // codes, return_index=True)[1]
    return np.asarray(pair[order[first]] % codes)


def null_of_scores(
    known: Predictions,
    found: Scored,
    inside: Int[np.ndarray, " row"],
    among: Pairs,
    draws: int,
    rng: np.random.Generator,
) -> Null:
    """Draws the gaps of figures of scores: functions of sums over rows, some of which depend on the row's group.

    Permuted as in `null_of_counts`; in multi-label, values are first freed of what the findings of a row explain.

    Args:
        known: the rows of known group.
        found: figures of scores of all rows.
        inside: which of all rows those of known group are.
        among: the pairs of groups that "worst" is taken over.
        draws: how many permutations.
        rng: where randomness comes from.
    """
    result = Null()
    groups = len(known.groups)
    rows = slice(None) if len(inside) == len(found.sums) else inside
    values = np.column_stack([found.sums[rows], *(part[rows] for part in found.ranks.null)])
    base = np.zeros((groups, values.shape[1]))
    if known.task == "multilabel":
        values, base = _freed(known, values)
    unit = blocks(known)
    group = known.group if known.unit is None else majority(known.group, unit)
    stratum = np.zeros(len(group), dtype=np.int64)
    if known.task == "multiclass":
        stratum = known.label if known.unit is None else majority(known.label, unit)
    if known.unit is not None:
        values = np.stack([np.bincount(unit, column, len(group)) for column in values.T], axis=1)
    shared = found.sums.shape[1]
    columns = np.array([[*range(shared), shared + g, shared + groups + g] for g in range(groups)])
    law = _permuted if draws * len(group) <= EXACT else _normal
    own = np.arange(groups)
    base = np.concatenate([base[:, :shared], *(base[own, shared + m * groups + own][:, None] for m in (0, 1))], axis=1)
    seen = np.stack([values[group == g][:, part].sum(axis=0) for g, part in enumerate(columns)])[None]
    drawn = _figures(law(values, columns, group, stratum, draws, rng) + base, found)
    observed = _figures(seen + base, found)
    refitted = known.task == "multiclass" and draws * len(known) <= REFITTED
    if refitted:
        drawn |= _refitted(known, unit, group, stratum, draws, rng)
    nothing = not found.ranks.shared.any()
    for name in SCORED:
        value = drawn[name] if not (nothing and name in found.compared) else np.full_like(drawn["ece"], np.nan)
        _keep(result, name, gaps.differences(value[..., None], among)[..., 0])
        if not (refitted and name in SCORED[4:]):
            result.seen[name] = float(gaps.worst(gaps.scalar_by_pair(observed[name], among))[0])
    return result


def _figures(sums: Float[np.ndarray, "draw group own"], found: Scored) -> dict[str, Float[np.ndarray, "draw group"]]:
    """Figures of scores from the sums of each group's own columns."""
    shared = found.sums.shape[1]
    share = ratio(found.sums[:, 0].sum(), np.where(sums[..., 0] > 0, sums[..., 0], np.nan))
    return {
        "ece": calibration.ece(sums[..., 0], sums[..., 2 : shared - 2]),
        "brier": calibration.brier(sums[..., 0], sums[..., 1]),
        "calibration_intercept": found.pooled[0] + share * sums[..., shared - 2],
        "calibration_slope": found.pooled[1] + share * sums[..., shared - 1],
        "auroc": found.ranks.base[0] + sums[..., shared],
        "average_precision": found.ranks.base[1] + sums[..., shared + 1],
    }


def _refitted(
    known: Predictions,
    unit: Int[np.ndarray, " row"],
    group: Int[np.ndarray, " unit"],
    stratum: Int[np.ndarray, " unit"],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Float[np.ndarray, "draw group"]]:
    """Calibration intercept and slope fitted anew in every permuted group: few rows are too few for a first order."""
    cells = calibration.cells(known)
    fits = [
        [
            calibration.recalibrations(cells.confidence, cells.right, drawn[:, unit] == g)
            for g in range(len(known.groups))
        ]
        for drawn in permuted_groups(group, stratum, draws, rng)
    ]
    both = np.concatenate([np.stack(part, axis=-1) for part in fits], axis=1)
    return {"calibration_intercept": both[0], "calibration_slope": both[1]}


def _freed(
    known: Predictions, values: Float[np.ndarray, "row column"]
) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "group column"]]:
    """Values less what the findings of a row explain, and what is then fixed in every group.

    A row has several findings, so there is no single true class to permute within. Instead the part of each value
    that a linear model of the findings explains stays where it is, and only the rest is permuted.
    """
    present = np.column_stack([np.ones(len(known)), known.label == 1, np.isnan(known.label)])
    explained = present @ np.linalg.lstsq(present, values, rcond=None)[0]
    base = np.stack([explained[known.group == g].sum(axis=0) for g in range(len(known.groups))])
    return values - explained, base


def _permuted(
    values: Float[np.ndarray, "unit column"],
    columns: Int[np.ndarray, "group own"],
    group: Int[np.ndarray, " unit"],
    stratum: Int[np.ndarray, " unit"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw group own"]:
    """Sums of each group's own columns of the values when the groups are permuted."""
    found = [
        np.stack([(drawn == g).astype(np.float64) @ values[:, own] for g, own in enumerate(columns)], axis=1)
        for drawn in permuted_groups(group, stratum, draws, rng)
    ]
    return np.concatenate(found)


def _normal(
    values: Float[np.ndarray, "unit column"],
    columns: Int[np.ndarray, "group own"],
    group: Int[np.ndarray, " unit"],
    stratum: Int[np.ndarray, " unit"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw group own"]:
    """The same from a normal law with the mean and covariance that permutation has: many rows make it so."""
    flat, (groups, width) = columns.ravel(), columns.shape
    mean, spread = np.zeros(len(flat)), np.zeros((len(flat), len(flat)))
    order = np.argsort(stratum, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(stratum[order])) + 1):
        n, sizes = len(rows), np.bincount(group[rows], minlength=groups).astype(np.float64)
        part = values[rows]
        centre = part.mean(axis=0)
        mean += np.repeat(sizes, width) * centre[flat]
        if n > 1:
            part = part - centre
            cross = (part.T @ part)[np.ix_(flat, flat)] / (n - 1)
            share = np.diag(sizes) - np.outer(sizes, sizes) / n
            spread += np.kron(share, np.ones((width, width))) * cross
    drawn = rng.multivariate_normal(mean, spread, draws, check_valid="ignore", method="eigh")
    return drawn.reshape(draws, groups, width)
