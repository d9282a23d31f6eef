"""Is one model better or fairer than another on the same images: every change with its interval and p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from equiprune import pairing, records
from equiprune.audit import MIN_SUPPORT, Audit, audit, check_groups, check_options, infer_privileged
from equiprune.auditfile import Attribute, Estimate, Gap
from equiprune.comparefile import (
    SCHEMA,
    BaselineGap,
    Change,
    CompareConventions,
    Comparison,
    GapChange,
    GroupSize,
    ModelComparison,
    ParetoPoint,
)
from equiprune.comparewords import Judged, Told, fairness, notices, quality
from equiprune.errors import Problem, UsageError, nearest
from equiprune.metrics import gaps, paired, testing
from equiprune.metrics.counts import count
from equiprune.metrics.estimates import FIGURES, GAPS, shared_classes
from equiprune.metrics.gaps import Pairs, Policy
from equiprune.metrics.notices import NO_UNITS, constant
from equiprune.metrics.pairedscores import score_changes, sums
from equiprune.metrics.tradeoff import CRITERIA, mean_f1, pareto
from equiprune.predictions import Predictions
from equiprune.records import known

__all__ = ["Comparison", "Rules", "compare"]

Found = dict[str, tuple[paired.Changes, paired.Fates]]
"""By model, the baseline left out."""


@dataclass(frozen=True)
class Rules:
    """What is compared, where the literature is not of one mind.

    Args:
        criterion: the gap that the verdict rests on; choose it before looking at the figures.
        eodd: which Eodd; see `metrics.gaps.eodd`.
        zero_support: what a class without support in a group counts as; see `metrics.gaps`.
        min_support: positives that a group needs to be called worst, or to be in a worst pair; as in `audit`.
    """

    criterion: str = "eopp1"
    eodd: gaps.Eodd = "half_mean"
    zero_support: gaps.ZeroSupport = "skip"
    min_support: int = MIN_SUPPORT


def compare(
    baseline: Predictions,
    others: Mapping[str, Predictions],
    *,
    name: str = "baseline",
    privileged: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
    rules: Rules | None = None,
) -> Comparison:
    """The change of every figure and gap from a baseline to other models, on the same images.

    Rows are paired by image id where both models have ids, else by position.

    Args:
        baseline: what the others are compared with.
        others: by name.
        name: of the baseline.
        privileged: the privileged group; None takes the one with the baseline's higher macro F1 on these rows.
        replicates: bootstrap resamples, and exchanges of the randomisation test.
        seed: the result is the same for the same seed, whichever other models are compared.
        rules: the conventions; None takes the defaults.

    Raises:
        DataError: the models are not of the same images, or fewer than two groups or classes have rows.
        UsageError: no other model, two of one name, a group or convention or number that does not exist.

    Example:
        >>> rows = {"label": [0, 1] * 8, "group": [0] * 8 + [1] * 8, "classes": ["nevus", "melanoma"]}
        >>> right, wrong = [[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.6, 0.4]]
        >>> old = Predictions(score=right * 6 + wrong * 2, groups=["light", "dark"], **rows)
        >>> new = Predictions(score=right * 8, groups=["light", "dark"], **rows)
        >>> found = compare(old, {"new": new}, replicates=200).comparisons["new"]
        >>> found.gaps["eopp1"].change, found.by_group["dark"]["accuracy"].change, found.by_group["light"]["f1"].change
        (-0.5, 0.5, 0.0)
    """
    chosen = rules or Rules()
    _check(others, name, chosen)
    check_options(chosen.eodd, chosen.zero_support, replicates, chosen.min_support, seed)
    models = pairing.paired(baseline, others, name)
    check_groups(models[name], privileged)
    counts = count(models[name]).take(slice(-1))
    supported = records.supported(counts, chosen.min_support)
    bench = _Bench(
        models=models,
        name=name,
        privileged=infer_privileged(models[name]) if privileged is None else privileged,
        supported=dict(zip(baseline.groups, supported.tolist(), strict=True)),
        among=records.compared_pairs(counts, supported),
        rules=chosen,
        replicates=replicates,
        seed=seed,
    )
    by_image = all(pairing.by_image(baseline, other) for other in others.values())
    return bench.comparison(by_image=by_image)


BY_POSITION = "a model has no image ids, so rows are paired by their order: the tables must list the same images alike"


def _check(others: Mapping[str, Predictions], name: str, rules: Rules) -> None:
    problems = []
    if not others:
        problems.append(Problem("there is no other model to compare with the baseline"))
    if name in others:
        problems.append(Problem(f"two models are called {name!r}", hint="Give the baseline another name"))
    if rules.criterion not in GAPS:
        what = f"there is no gap {rules.criterion!r} for verdicts to rest on"
        problems.append(Problem(what, hint=nearest(rules.criterion, GAPS)))
    if problems:
        raise UsageError(problems)


@dataclass(frozen=True, eq=False)
class _Bench:
    """All models on the same rows, and how they are compared."""

    models: dict[str, Predictions]
    name: str
    privileged: str
    supported: dict[str, bool]
    among: Pairs
    rules: Rules
    replicates: int
    seed: int

    @property
    def baseline(self) -> Predictions:
        return self.models[self.name]

    @cached_property
    def audits(self) -> dict[str, Audit]:
        """Of each model alone."""
        return {
            model: audit(
                predictions,
                privileged=self.privileged,
                replicates=self.replicates,
                seed=self.seed,
                eodd=self.rules.eodd,
                zero_support=self.rules.zero_support,
                min_support=self.rules.min_support,
            )
            for model, predictions in self.models.items()
        }

    @property
    def others(self) -> list[str]:
        return [model for model in self.models if model != self.name]

    @property
    def policy(self) -> Policy:
        return Policy(self.rules.eodd, self.rules.zero_support)

    def comparison(self, *, by_image: bool) -> Comparison:
        """The records."""
        p = self.baseline
        found = self._found()
        told = self._told(found)
        chance = self._chance()
        comparisons = {model: self._model(model, told[model], fates) for model, (_, fates) in found.items()}
        return Comparison(
            schema=SCHEMA,
            task=p.task,
            n=len(p),
            n_units=None if p.unit is None else int(p.unit_code.max()) + 1,
            classes=p.classes,
            attribute=Attribute(
                name=p.attribute, groups=p.groups, privileged=self.privileged, unknown=int((p.group < 0).sum())
            ),
            groups={
                group: GroupSize(n=int((p.group == g).sum()), supported=self.supported[group])
                for g, group in enumerate(p.groups)
            },
            baseline=self.name,
            models=tuple(self.models),
            criterion=self.rules.criterion,
            baseline_gaps=chance,
            comparisons=comparisons,
            pareto=self._pareto(found),
            conventions=CompareConventions(
                eodd=self.rules.eodd,
                zero_support=self.rules.zero_support,
                min_support=self.rules.min_support,
                replicates=self.replicates,
                seed=self.seed,
                paired_by="image" if by_image else "position",
                drawn="rows" if p.unit is None else "units",
            ),
            notices=(
                *notices(self.rules.criterion, chance, comparisons, self.supported),
                *(f"{model}: {text}" for model, one in self.models.items() for text in constant(one)),
                *((NO_UNITS,) if p.unit is None else ()),
                *(() if by_image else (BY_POSITION,)),
            ),
        )

    def _found(self) -> Found:
        """What every other model changes; all see the same random numbers."""
        shared = shared_classes(count(self.baseline).take(slice(-1)), self.among)
        first = sums(self.baseline, shared)
        result = {}
        reach = {model: reach_of(audited) for model, audited in self.audits.items()}
        for model in self.others:
            other, reaches = self.models[model], (reach[self.name], reach[model])
            by_counts, by_scores = (np.random.default_rng(one) for one in np.random.SeedSequence(self.seed).spawn(2))
            changed, fates = paired.count_changes(
                self.baseline,
                other,
                reaches,
                self.among,
                self.policy,
                self.replicates,
                by_counts,
            )
            scored = score_changes(
                self.baseline,
                (first, sums(other, shared)),
                reaches,
                self.among,
                self.policy,
                self.replicates,
                by_scores,
            )
            result[model] = changed.joined(scored), fates
        return result

    def _told(self, found: Found) -> dict[str, Told]:
        """Changes as records, with p-values adjusted over the models."""
        every = [changed for changed, _ in found.values()]
        by_side = {name: _holm([one.sided[name].p for one in every]) for name in FIGURES}
        by_gap = {name: _holm([one.gaps[name].p for one in every]) for name in GAPS}
        result = {}
        for place, (model, (changed, _)) in enumerate(found.items()):
            sided = [
                {name: Change(**_numbers(changed.sided[name], by_side[name][place], side)) for name in FIGURES}
                for side in range(len(self.baseline.groups) + 1)
            ]
            found_gaps = {}
            for name in GAPS:
                before, after = map(self._worst, changed.pairs[name])
                numbers = _numbers(changed.gaps[name], by_gap[name][place])
                found_gaps[name] = GapChange(**numbers, baseline_pair=before, pair=after)
            by_group = dict(zip(self.baseline.groups, sided, strict=False))  # the last side is all rows
            result[model] = Told(overall=sided[-1], by_group=by_group, gaps=found_gaps)
        return result

    def _model(self, model: str, told: Told, fates: paired.Fates) -> ModelComparison:
        other = int(pairing.decisions_changed(self.baseline, self.models[model]).sum())
        eligible = [group for group, enough in self.supported.items() if enough] or list(self.supported)
        judged = Judged(told, self.rules.criterion, other, self.privileged, eligible, len(self.others))
        return ModelComparison(
            decisions_changed=other,
            fairness=fairness(judged),
            quality=quality(judged),
            overall=told.overall,
            by_group=told.by_group,
            gaps=told.gaps,
            fate={
                name: Estimate(value=known(value), low=known(low), high=known(high))
                for name, (value, low, high) in fates.items()
            },
        )

    def _chance(self) -> dict[str, BaselineGap]:
        """Whether chance explains the baseline's gaps, as its audit says."""
        gaps = self.audits[self.name].gaps
        return {name: BaselineGap(value=gaps[name].value, p_value=gaps[name].p_value) for name in GAPS}

    def _pareto(self, found: Found) -> tuple[ParetoPoint, ...]:
        """Every model's F1 as FATE takes it, and its gaps."""
        changed, _ = next(iter(found.values()))
        parts = [(changed.sided["f1"].before, {name: changed.gaps[name].before for name in CRITERIA})]
        parts += [
            (one.sided["f1"].after, {name: one.gaps[name].after for name in CRITERIA}) for one, _ in found.values()
        ]
        f1 = np.array([float(mean_f1(by_side[:-1])) for by_side, _ in parts])
        gap = {name: np.array([float(values[name]) for _, values in parts]) for name in CRITERIA}
        front = {name: pareto(f1, gap[name]) for name in CRITERIA}
        return tuple(
            ParetoPoint.model_validate(
                {
                    "model": model,
                    "f1": known(f1[i]),
                    **{name: known(gap[name][i]) for name in CRITERIA},
                    "front": tuple(name for name in CRITERIA if front[name][i]),
                }
            )
            for i, model in enumerate(self.models)
        )

    def _worst(self, by_pair: Float[np.ndarray, " pair"]) -> tuple[str, str] | None:
        if np.isnan(by_pair).all():
            return None
        first, second = self.among[int(np.nanargmax(by_pair))]
        return self.baseline.groups[first], self.baseline.groups[second]


def reach_of(found: Audit) -> paired.Reach:
    """The ends of a model's intervals."""
    ece = [*(one.ece for one in found.by_group.values()), found.overall["ece"]]

    def ends(one: Estimate | Gap) -> tuple[float, float]:
        return (np.nan, np.nan) if one.low is None or one.high is None else (one.low, one.high)

    return paired.Reach({name: ends(gap) for name, gap in found.gaps.items()}, np.array([ends(one) for one in ece]))


def _holm(p: Sequence[Float[np.ndarray, "*axes"]]) -> Float[np.ndarray, "*axes"]:
    """P-values adjusted over the models, for each figure alone."""
    together = np.stack(p)
    flat = together.reshape(len(p), -1)
    return np.stack([testing.holm(column) for column in flat.T], axis=1).reshape(together.shape)


def _numbers(change: paired.Change, adjusted: Float[np.ndarray, "*side"], *place: int) -> dict[str, float | None]:
    parts = {
        "baseline": change.before,
        "value": change.after,
        "change": change.value,
        "low": change.low,
        "high": change.high,
        "p_value": change.p,
        "p_holm": adjusted,
    }
    return {name: known(float(part[place])) for name, part in parts.items()}
