"""What a report is made from: plain data, so that any run, or none, can fill it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equiprune.report.published import Beside


@dataclass(frozen=True)
class StepPage:
    """One model of the run: how it was made, and what its audit says.

    Args:
        name: the step's folder, such as `01-vanilla`.
        method: a name of `methods.METHODS`, or `given`.
        settings: the method's settings as the recipe has them.
        audit: the content of `audit.json`, on test; may hold `fate` against the first step.
        log: the records of `log.jsonl`: training epochs (`epoch`) or pruning iterations
            (`iteration`, 0 = before pruning), both measured on validation.
        saliency: ½ h θ² per weight of the first layer and its quantiles per layer, by group;
            None where the step scored no weights.
        facts: parameters, prunable, zeros, file_bytes, seconds, flops, latency_ms (by batch size),
            privileged, unprivileged, kept_iteration, stopped.
        predicted: what its predictions on test say by group, see `predicted.summary`; None where they are not at hand.
        after: the step that it began with; blank where it began with the model of the recipe.
        leads_on: whether another step of its run began with this model; if not, a branch of the run ends here.
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    audit: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    saliency: Mapping[str, Any] | None
    facts: Mapping[str, Any]
    predicted: Mapping[str, Any] | None = None
    after: str = ""
    leads_on: bool = False


@dataclass(frozen=True)
class Model:
    """One model among many, as the trade-off explorer shows it.

    Args:
        name: told apart from all others on the page.
        method: what made it, which gives its colour and shape.
        settings: in a few words, such as `beta 0.33, ratio 0.35`; may be blank.
        audit: `overall`, `by_group`, `gaps` and `fate` of its `audit.json`, on the same images as all others.
    """

    name: str
    method: str
    settings: str
    audit: Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A test image that the page shows.

    Args:
        file: its name.
        group: whose image it is.
        kind: what became of the answer.
        what: the truth, and what was said.
        picture: an address that holds the picture itself.
    """

    file: str
    group: str
    kind: str
    what: str
    picture: str


@dataclass(frozen=True)
class Tried:
    """A point of a sweep that was carried out.

    Args:
        name: of its folder.
        choice: the value of every axis.
        steps: figures of every step on validation, as `point.json` has them, the baseline first.
    """

    name: str
    choice: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Seen:
    """A taken point's figures on test, before and after.

    Args:
        seed: of the point.
        before: f1, f1_by_group, eopp0, eopp1 and eodd of its first step.
        after: the same of its last step.
    """

    seed: Any
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class SweepPage:
    """What a sweep tried, on validation, and what became of the choice.

    Args:
        axes: how each axis is called, by its name in a point's choice.
        points: those that are done.
        gap: that the choice is to make small.
        budget: of macro F1; None as long as there was no choice.
        failed: why points could not be carried out, by their names.
        left: points that are neither done nor failed.
        among: points that were done when the choice was made; None as long as there was none.
        taken: the value of every axis but the seed; None where nothing is taken.
        seen: the taken points on test, by seed; none where they are not audited yet.
        looked: points that are not taken and have test figures all the same, from an earlier choice.
    """

    axes: Mapping[str, str]
    points: tuple[Tried, ...]
    gap: str
    budget: float | None
    failed: Mapping[str, tuple[str, ...]]
    left: int
    among: int | None
    taken: Mapping[str, Any] | None
    seen: tuple[Seen, ...]
    looked: int


@dataclass(frozen=True)
class Page:
    """Everything on one page.

    Args:
        title: the heading.
        data: manifest, sha256, images, units, unit, attribute, task, image_size, splits, skipped, classes.
        environment: versions, seed, threads, device, started, command.
        steps: the models in the order they were made; the first is the baseline.
        notices: facts worth telling that stopped nothing.
        facts: `facts.json`, what the data hold and whether they leak; None where it was not written.
        others: models that are only in the trade-off explorer, such as those of a sweep.
        left_out: runs that were named and are not on the page, each with the reason.
        card: what the user wrote of the model, see `modelcard.ModelCard`; only the fields that were given.

        examples: test images whose answer changed; only where the user asked for pictures.
        published: the published table that the recipe names, and ours beside it.
        split: that the audits are of; `validation` only for a sweep of which nothing is taken.
        sweep: all that was tried; None for a page of runs.

    Raises:
        ValueError: there is no step.
    """

    title: str
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    steps: tuple[StepPage, ...]
    notices: tuple[str, ...]
    facts: Mapping[str, Any] | None = None
    others: tuple[Model, ...] = ()
    left_out: tuple[str, ...] = ()
    card: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    published: Beside | None = None
    split: str = "test"
    sweep: SweepPage | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a report needs at least one step")

    @property
    def first(self) -> StepPage:
        """The baseline every other step is compared with."""
        return self.steps[0]

    @property
    def last(self) -> StepPage:
        """The model that the run ends with."""
        return self.steps[-1]

    @property
    def ends(self) -> tuple[StepPage, ...]:
        """The models that are held against the baseline: those that runs, or branches of a run, end with."""
        return tuple(step for step in self.steps[1:] if not step.leads_on)

    @property
    def models(self) -> tuple[Model, ...]:
        """The steps and all others, the baseline first."""
        return (*(Model(step.name, step.method, "", step.audit) for step in self.steps), *self.others)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the attribute, in the audit's order."""
        return tuple(self.last.audit["attribute"]["groups"])
