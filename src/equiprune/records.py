"""The arrays of an audit, written out as the records of `audit.json`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from equiprune.auditfile import (
    SCHEMA,
    Attribute,
    Audit,
    ClassGap,
    ClassRates,
    Conventions,
    Estimate,
    Gap,
    GroupFigures,
    PairGap,
    Thresholds,
    Worst,
)
from equiprune.metrics import estimates, gaps, intervals, testing
from equiprune.metrics.counts import Counts
from equiprune.metrics.detectable import Shares, detectable
from equiprune.metrics.estimates import BY_CLASS, FIGURES, GAPS, OF, Counted, Figure, Gaps
from equiprune.metrics.gaps import COUNT_GAPS, Pairs, Policy
from equiprune.metrics.notices import notices
from equiprune.metrics.null import Null
from equiprune.metrics.performance import FROM_COUNTS, present
from equiprune.metrics.ranking import NAMES as RANKED
from equiprune.metrics.scored import Scored
from equiprune.predictions import Predictions

CLASS_RATES = ("tpr", "fpr", "ppv", "fnr", "selection_rate")
LOWER_IS_BETTER = ("ece", "brier")
NOT_RANKED = ("calibration_intercept", "calibration_slope")
FEW_GROUPS = 10
FEW_REPLICATES = 200
_ROUGH = (
    "with only {} replicates floors and p-values are coarse, and intervals unsteady: take 2,000 for a result to show"
)


def supported(counts: Counts, least: int) -> Bool[np.ndarray, " group"]:
    """Groups with at least so many positives."""
    return np.asarray(counts.positive.sum(axis=-1) >= least)


def compared_pairs(counts: Counts, supported: Bool[np.ndarray, " group"]) -> list[tuple[int, int]]:
    """The pairs that "worst" is taken over: of supported groups, or, with fewer than two of them, of all with rows."""
    rows = (counts.positive + counts.negative).any(axis=-1)
    chosen = np.flatnonzero(supported if supported.sum() > 1 else rows).tolist()
    return [(chosen[i], chosen[j]) for i, j in gaps.pairs(len(chosen))]


def known(value: float) -> float | None:
    """None (null) for what is undefined."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class Sheet:
    """Everything an audit has computed."""

    predictions: Predictions
    policy: Policy
    privileged: str
    supported: Bool[np.ndarray, " group"]
    among: Pairs
    counted: Counted
    scores: Scored
    figures: dict[str, Figure]
    gaps: dict[str, Gaps]
    null: Null

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""
        return self.predictions.groups

    def audit(self, *, replicates: int, seed: int, min_support: int) -> Audit:
        """The records."""
        p = self.predictions
        every = np.ones(len(p), dtype=bool)
        return Audit(
            schema=SCHEMA,
            task=p.task,
            n=len(p),
            n_units=_units(p, every),
            classes=p.classes,
            attribute=Attribute(
                name=p.attribute, groups=p.groups, privileged=self.privileged, unknown=int((p.group < 0).sum())
            ),
            overall={name: self._estimate(self.figures[name], -1) for name in FIGURES},
            by_group={name: self._group(g) for g, name in enumerate(p.groups)},
            gaps={name: self._gap(name, seed) for name in GAPS},
            by_class=tuple(self._by_class()),
            conventions=self._conventions(replicates, seed, min_support),
            worst_group=self._worst_groups(),
            pairs=tuple(self._pairs()) if 2 < len(p.groups) <= FEW_GROUPS else (),
            gaps_by_class=tuple(one for rate in CLASS_RATES for one in self._class_gaps(rate, min_support)),
            thresholds=None
            if p.threshold is None
            else Thresholds(
                rule="as given", chosen_on=None, values=dict(zip(p.classes, p.threshold.tolist(), strict=True))
            ),
            notices=(
                *notices(p, self.counted.counts.take(slice(-1)), self.supported, min_support),
                *self._backwards(),
                *self._coarse(replicates),
            ),
        )

    def _coarse(self, replicates: int) -> Iterator[str]:
        """Permutations that are too few to say much."""
        made = len(self.null.worst["eopp1"])
        if replicates < FEW_REPLICATES:
            yield _ROUGH.format(replicates)
        elif made < replicates:
            yield f"each costs much, so {made:,} permutations were made: no p-value is below {0.5 / (1 + made):.4f}"

    def _backwards(self) -> Iterator[str]:
        """Classes whose score ranks rows the wrong way round."""
        found = estimates.by_class(self.counted, self.scores)["auroc"]
        wrong = np.flatnonzero(found.high[-1] < 0.5)
        if len(wrong):
            names = ", ".join(repr(self.predictions.classes[k]) for k in wrong[:FEW_GROUPS])
            yield f"the scores of {names} are lower where the class is there (AUROC below 0.5): are columns swapped?"

    def _estimate(self, figure: Figure, *place: int) -> Estimate:
        value, low, high = (known(float(part[place])) for part in (figure.value, figure.low, figure.high))
        return Estimate(value=value, low=None if value is None else low, high=None if value is None else high)

    def _group(self, g: int) -> GroupFigures:
        rows = self.predictions.group == g
        figures = {name: self._estimate(self.figures[name], g) for name in FIGURES}
        facts = {"n": int(rows.sum()), "n_units": _units(self.predictions, rows), "supported": bool(self.supported[g])}
        return GroupFigures.model_validate({**facts, **figures})

    def _worst_groups(self) -> dict[str, Worst]:
        found = {}
        eligible = self.supported if self.supported.any() else np.ones(len(self.groups), dtype=bool)
        for name in FIGURES:
            value = np.where(eligible, self.figures[name].value[:-1], np.nan)
            if name in NOT_RANKED or np.isnan(value).all() or np.nanmin(value) == np.nanmax(value):
                continue  # where all are equal none is worst
            g = int(np.nanargmax(value) if name in LOWER_IS_BETTER else np.nanargmin(value))
            found[name] = Worst(group=self.groups[g], value=float(value[g]))
        return found

    def _gap(self, name: str, seed: int) -> Gap:
        found = self.gaps[name]
        j = None if np.isnan(found.value).all() else int(np.nanargmax(found.value))
        value = np.nan if j is None else float(found.value[j])
        floor, floor_high, p_value = self._chance(name, value)
        low, high = (np.nan, np.nan) if j is None else (np.nanmax(found.least), np.nanmax(found.high))
        used = 0 if j is None else int(self._used(name, j).sum())
        return Gap(
            value=known(value),
            # Equal error rates are not rejected, so the interval of a gap that they would make 0 holds 0.
            low=0.0
            if j is not None and p_value >= testing.LEVEL and self.null.is_none(name, j)
            else known(min(low, value)),
            high=known(high),
            floor=known(floor),
            p_value=known(p_value),
            classes_used=used,
            classes_skipped=len(self.predictions.classes) - used,
            pair=None if j is None else self._names(self.among[j]),
            signed=None if j is None else self._signed(name, self.among[j]),
            floor_high=known(floor_high),
            detectable=None if j is None else known(self._detectable(name, j, seed)),
            ratio=None if j is None else self._ratio(name, self.among[j]),
            deviation=None if j is None else self._deviation(name),
        )

    def _chance(self, name: str, value: float) -> tuple[float, float, float]:
        """Floor, its 95th percentile and p-value; what draws know to first order only is compared to first order."""
        floor, high, p = testing.chance(value, self.null.worst[name])
        seen = self.null.seen.get(name, value)
        if np.isnan(value) or np.isnan(seen):
            return floor, high, p
        return floor, high, testing.chance(seen, self.null.worst[name])[2]

    def _names(self, pair: tuple[int, int]) -> tuple[str, str]:
        return self.groups[pair[0]], self.groups[pair[1]]

    def _delta(self, name: str, pair: tuple[int, int]) -> Float[np.ndarray, "1 part class"]:
        return gaps.components(name, self.counted.rates, self.policy, [pair])

    def _used(self, name: str, j: int) -> Bool[np.ndarray, " class"]:
        """The classes that a gap rests on."""
        if name in COUNT_GAPS:
            return gaps.compared(self._delta(name, self.among[j])[0])
        if name in self.scores.compared:
            return self.scores.ranks.shared
        return np.asarray(present(self.counted.counts)[list(self.among[j])].any(axis=0))

    def _signed(self, name: str, pair: tuple[int, int]) -> float | None:
        first = self.groups.index(self.privileged)
        if name not in CLASS_RATES or first not in pair:
            return None
        other = pair[0] if pair[1] == first else pair[1]
        return known(gaps.signed(self.counted.rates[name], first, other))

    def _detectable(self, name: str, j: int, seed: int) -> float:
        rng = np.random.default_rng([seed, 5])  # the same for every gap, so that equal gaps have equal answers
        noise = self.null.noise[name][j].ravel()
        weight, shares = np.ones(1), None
        if name in COUNT_GAPS:
            weight = estimates.gap_weights(name, self._delta(name, self.among[j]), self.policy)[0].ravel()
            shares = self._shares(name, j)
        elif name in FROM_COUNTS:
            value = np.array([self._overall(name)])
            shares = self._like_a_share(value, noise) or self._without_error(name, j, value)
        top = np.inf if name in NOT_RANKED else 1.0 + (name == "brier")
        return detectable(self.null.worst[name], noise, weight, rng, top, shares)

    def _shares(self, name: str, j: int) -> Shares | None:
        """How the noise of a gap's components grows with it."""
        leading = [part[0] for part in gaps.parts(name, self.policy)]  # of TPR and FPR the one that moves more
        rate = np.concatenate([np.nan_to_num(self.counted.rates[one][-1]) for one, _ in leading])
        if name == "selection_rate":  # permutations leave out most of the noise that its shares have
            return self._like_a_share(rate, self.null.noise[name][j].ravel())
        pair = list(self.among[j])
        rows = np.concatenate([self.counted.size[OF[one]][pair] for one, _ in leading], axis=-1)
        inverse = np.where(rows > 0, 1 / np.maximum(rows, 1), 0.0).sum(axis=0)
        return Shares(rate, inverse, np.repeat([times for _, times in leading], len(self.predictions.classes)))

    def _like_a_share(self, value: Float[np.ndarray, " item"], noise: Float[np.ndarray, " item"]) -> Shares | None:
        """Of as many observations as their noise under permutation tells; None where it has none."""
        near = np.maximum(value * (1 - value), 1e-3)
        return Shares(value, noise**2 / near, np.ones(len(value))) if np.nanmax(noise) > 0 else None

    def _without_error(self, name: str, j: int, value: Float[np.ndarray, " item"]) -> Shares | None:
        """A mean of rates where nothing is ever wrong, of the rows that it rests on; None for what is no such mean."""
        denominator = {"accuracy": "known", "precision": "called"}.get(name, "positive")
        rows = self.counted.size[denominator][list(self.among[j])]
        if name == "f1":
            return None
        rows = rows.max(axis=1, keepdims=True) if name == "accuracy" else rows[:, (rows > 0).all(axis=0)]
        inverse = (1 / rows).sum() / rows.shape[1] ** 2 if rows.size and (rows > 0).all() else np.nan
        return None if np.isnan(inverse) else Shares(value, np.array([inverse]), np.ones(1))

    def _rate_of(self, name: str) -> Float[np.ndarray, "side class"] | None:
        single = {"eopp0": "tnr", "eopp1": "tpr"}.get(name, name)
        return self.counted.rates.get(single)

    def _ratio(self, name: str, pair: tuple[int, int]) -> float | None:
        rate = self._rate_of(name)
        if rate is None:
            if name == "eodd" or name in NOT_RANKED:
                return None
            rate = self._compared(name)[:, None]
        return known(float(gaps.smaller_over_larger(rate, [pair])[0]))

    def _deviation(self, name: str) -> float | None:
        rate = self._rate_of(name)
        if rate is None:
            if name == "eodd":
                return None
            rate = np.append(self._compared(name)[: len(self.groups)], self._overall(name))[:, None]
        among = np.zeros(len(self.groups), dtype=bool)
        among[[g for pair in self.among for g in pair]] = True
        return known(gaps.deviation(rate[:-1], rate[-1], among))

    def _compared(self, name: str) -> Float[np.ndarray, " side"]:
        return self.scores.compared.get(name, self.figures[name].value)

    def _overall(self, name: str) -> float:
        """Of all rows, over the same classes as the groups' figures."""
        if name in RANKED and self.scores.ranks.shared.any():
            ranks = self.scores.ranks
            return float(ranks.value[RANKED.index(name), -1, ranks.shared].mean())
        return float(self.figures[name].value[-1])

    def _pairs(self) -> Iterator[PairGap]:
        for name in GAPS:
            found = self.gaps[name]
            for j, pair in enumerate(self.among):
                ends = {
                    key: known(float(part[j]))
                    for key, part in (("value", found.value), ("low", found.low), ("high", found.high))
                }
                yield PairGap(gap=name, pair=self._names(pair), **ends)

    def _by_class(self) -> Iterator[ClassRates]:
        found = estimates.by_class(self.counted, self.scores)
        for k, klass in enumerate(self.predictions.classes):
            for g, group in enumerate(self.groups):
                figures = {name: self._estimate(found[name], g, k) for name in BY_CLASS}
                n = int(self.counted.counts.positive[g, k])
                yield ClassRates.model_validate({"class": klass, "group": group, "n": n, **figures})

    def _class_gaps(self, rate: str, least: int) -> list[ClassGap]:
        """The gap of one rate in every class, with p-values adjusted over the classes."""
        found = [self._class_gap(rate, k, least) for k in range(len(self.predictions.classes))]
        p = np.array([np.nan if one.p_value is None else one.p_value for one in found])
        adjusted = zip(testing.holm(p).tolist(), testing.benjamini_hochberg(p).tolist(), strict=True)
        return [
            one.model_copy(update={"p_holm": known(by_holm), "p_bh": known(by_bh)})
            for one, (by_holm, by_bh) in zip(found, adjusted, strict=True)
        ]

    def _class_gap(self, rate: str, k: int, least: int) -> ClassGap:
        value, size = self.counted.rates[rate][:, k], self.counted.size[OF[rate]][:, k]
        enough = self.counted.counts.positive[:, k] >= least
        estimable = [pair for pair in self.among if not np.isnan(value[list(pair)]).any()]
        among = [pair for pair in estimable if enough[list(pair)].all()] or estimable
        klass = {"class": self.predictions.classes[k], "rate": rate, "p_holm": None, "p_bh": None}
        if not among:
            empty = dict.fromkeys(("pair", "value", "low", "high", "signed", "p_value"))
            return ClassGap.model_validate({**klass, **empty, "supported": False})
        first, second = np.array(among).T
        ends = []
        for z in (intervals.Z, estimates.strict_z(len(among))):
            reach = intervals.difference(value[first], size[first], value[second], size[second], z)
            delta = value[first] - value[second]
            ends.append(reach.of_size(delta))
        j = int(np.argmax(np.abs(delta)))
        pair = among[j]
        gap = float(abs(delta[j]))
        counts = self._counts_of(value, size, pair)
        p = testing.fisher(*counts) * len(among)
        low = 0.0 if p >= testing.LEVEL else min(max(float(ends[1][0].max()), 0.0), gap)
        privileged = self.groups.index(self.privileged)
        other = pair[0] if pair[1] == privileged else pair[1]
        return ClassGap.model_validate(
            {
                **klass,
                "pair": self._names(pair),
                "value": gap,
                "low": low,
                "high": max(min(float(ends[0][1].max()), 1.0), gap),
                "signed": float(value[privileged] - value[other]) if privileged in pair else None,
                "floor": testing.exact_floor(*counts),
                "p_value": min(p, 1.0),
                "supported": bool(enough[list(pair)].all()),
            }
        )

    def _counts_of(
        self, value: Float[np.ndarray, " side"], size: Float[np.ndarray, " side"], pair: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """Hits and rows of both groups; with units, of as many rows as are independent."""
        counts: list[int] = []
        for g in pair:
            total = max(1, round(float(size[g])))
            counts += [round(float(value[g]) * total), total]
        return counts[0], counts[1], counts[2], counts[3]

    def _conventions(self, replicates: int, seed: int, min_support: int) -> Conventions:
        drawn = "rows" if self.predictions.unit is None else "units"
        multilabel = self.predictions.task == "multilabel"
        return Conventions(
            eodd=self.policy.eodd,
            zero_support=self.policy.zero_support,
            interval="95 %, score intervals: rates and accuracy Wilson with continuity correction, differences "
            f"Newcombe, means over classes Yan and Su, with what hangs together from a bootstrap of {drawn} within "
            "groups; AUROC and average precision from DeLong's variance; a gap's lower end takes off "
            "what noise adds at most, and is 0 where p >= 0.05, unless the case mix alone makes a gap",
            replicates=replicates,
            seed=seed,
            min_support=min_support,
            count_replicates=self.counted.replicates,
            floor_replicates=len(self.null.worst["eopp1"]),
            auroc_floor_replicates=len(self.null.worst["auroc"]),
            accuracy="right (row, finding) cells among those known" if multilabel else "rows with the right class",
            ece="15 bins of equal width on "
            + ("each finding's probability, cells pooled" if multilabel else "the largest probability"),
            brier="mean squared error over known cells (0 to 1)"
            if multilabel
            else "squared error summed over classes, mean over rows (0 to 2)",
        )


def _units(predictions: Predictions, rows: Bool[np.ndarray, " sample"]) -> int | None:
    return None if predictions.unit is None else int(np.count_nonzero(np.bincount(predictions.unit_code[rows])))
