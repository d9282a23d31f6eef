"""What a report is made from: plain data, so that any run, or none, can fill it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    audit: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    saliency: Mapping[str, Any] | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """Everything on one page.

    Args:
        title: the heading.
        data: manifest, sha256, images, units, unit, attribute, task, image_size, splits, skipped, classes.
        environment: versions, seed, threads, device, started, command.
        steps: the models in the order they were made; the first is the baseline.
        notices: facts worth telling that stopped nothing.

    Raises:
        ValueError: there is no step.
    """

    title: str
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    steps: tuple[StepPage, ...]
    notices: tuple[str, ...]

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
    def groups(self) -> tuple[str, ...]:
        """The groups of the attribute, in the audit's order."""
        return tuple(self.last.audit["attribute"]["groups"])
