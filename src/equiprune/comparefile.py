"""The content of `compare.json`, as records that are checked when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from equiprune import files
from equiprune.auditfile import Attribute, Estimate
from equiprune.metrics.gaps import Eodd, ZeroSupport
from equiprune.recordfile import read_record

SCHEMA = "equiprune-compare/1"
_RECORD = ConfigDict(
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    serialize_by_alias=True,
    json_schema_serialization_defaults_required=True,  # every field is written
)

Code = Literal["fairer", "levelling_down", "less_fair", "no_change", "identical", "undefined"]
Quality = Literal["better", "worse", "no_change", "identical", "undefined"]


class Change(BaseModel):
    """How a figure differs from the baseline's, on the same rows; null where it is undefined."""

    model_config = _RECORD

    baseline: float | None = Field(description="The baseline's value.")
    value: float | None = Field(description="This model's value.")
    change: float | None = Field(description="value - baseline.")
    low: float | None = Field(description="Lower end of the change's 95 % interval.")
    high: float | None = Field(description="Upper end of the change's 95 % interval.")
    p_value: float | None = Field(description="Paired randomisation test, two-sided, mid-p; for this figure alone.")
    p_holm: float | None = Field(description="Adjusted over the models compared (Holm), not over the figures.")


class GapChange(BaseModel):
    """How a gap differs from the baseline's: each model's gap is that of its own worst pair."""

    model_config = _RECORD

    baseline: float | None = Field(description="The baseline's gap; 0 is fair.")
    value: float | None = Field(description="This model's gap.")
    change: float | None = Field(description="value - baseline; below 0 the gap is smaller.")
    low: float | None = Field(description="Lower end of the change's 95 % interval.")
    high: float | None = Field(description="Upper end of the change's 95 % interval.")
    p_value: float | None = Field(
        description="The larger p of a paired randomisation test (mid-p) and of a bootstrap test; for this gap alone."
    )
    p_holm: float | None = Field(description="Adjusted over the models compared (Holm), not over the gaps.")
    baseline_pair: tuple[str, str] | None = Field(description="The two groups that differ most in the baseline.")
    pair: tuple[str, str] | None = Field(description="The two groups that differ most in this model.")


class FairnessVerdict(BaseModel):
    """What changed between the groups."""

    model_config = _RECORD

    code: Code = Field(
        description="fairer: the gap is smaller, and not only because somebody fell. levelling_down: it is smaller, "
        "but the better group's or the worst group's F1 fell and the worst group gained nothing. less_fair: it is "
        "larger. no_change: not told from chance. identical: every decision is the same. undefined: no gap."
    )
    text: str = Field(description="The same in words, with figures.")
    worst_group: str = Field(description="The supported group with the lowest F1 in the baseline, privileged aside.")
    better_group: str = Field(description="The privileged group.")


class QualityVerdict(BaseModel):
    """Whether macro F1 over all rows changed."""

    model_config = _RECORD

    code: Quality
    text: str


class ModelComparison(BaseModel):
    """One model against the baseline."""

    model_config = _RECORD

    decisions_changed: int = Field(description="Rows with another decision (multi-label: in any finding).")
    fairness: FairnessVerdict
    quality: QualityVerdict
    overall: dict[str, Change]
    by_group: dict[str, dict[str, Change]]
    gaps: dict[str, GapChange]
    fate: dict[str, Estimate] = Field(description="FATE on eopp0, eopp1 and eodd; above 0 the trade is good.")


class GroupSize(BaseModel):
    """A group of the test set."""

    model_config = _RECORD

    n: int
    supported: bool = Field(description="Has at least `min_support` positives.")


class ParetoPoint(BaseModel):
    """A model's accuracy and fairness."""

    model_config = _RECORD

    model: str
    f1: float | None = Field(description="Mean over groups of macro F1.")
    eopp0: float | None
    eopp1: float | None
    eodd: float | None
    front: tuple[str, ...] = Field(description="Gaps in whose front the model is: no other has as good a F1 and gap.")


class BaselineGap(BaseModel):
    """A gap of the baseline, and whether chance explains it."""

    model_config = _RECORD

    value: float | None
    p_value: float | None = Field(description="As the audit has it: how often equal error rates show this gap.")


class CompareConventions(BaseModel):
    """How it was computed."""

    model_config = _RECORD

    eodd: Eodd
    zero_support: ZeroSupport
    min_support: int
    replicates: int = Field(description="Resamples and exchanges that were asked for.")
    seed: int
    paired_by: Literal["image", "position"]
    drawn: Literal["rows", "units"] = Field(description="What is resampled and exchanged.")
    level: float = 0.05
    interval: str = (
        "95 %, paired bootstrap within groups: the same rows (or units) for both models; percentiles moved by twice "
        "the median bias; sums of scores from normal draws where there are many rows. Gaps, ECE and FATE: put together "
        "from the intervals of both models' audits and the bootstrap's correlation (MOVER)"
    )
    p_value: str = (
        "two models exchanged row by row (or unit by unit) with probability 1/2; equal changes count half; of gaps and "
        "ECE the larger of this and of the bootstrap's test of no change"
    )
    multiplicity: str = (
        "p_holm is adjusted over the models compared, for each figure alone; nothing is adjusted for the number of "
        "figures: of 20 figures that did not change, about one has p < 0.05"
    )
    fate: str = "F1 is the mean over groups; (F1 - F1_b) / F1_b - (gap - gap_b) / gap_b"


class Comparison(BaseModel):
    """The result of `compare`: `compare.json` is exactly this, with null for what is undefined."""

    model_config = _RECORD

    schema_: str = Field(SCHEMA, alias="schema", description="Name and version of this form.")
    task: Literal["multiclass", "multilabel"]
    n: int = Field(description="Rows.")
    n_units: int | None = Field(description="Patients or lesions; null without ids.")
    classes: tuple[str, ...]
    attribute: Attribute
    groups: dict[str, GroupSize]
    baseline: str = Field(description="The model that the others are compared with.")
    models: tuple[str, ...] = Field(description="All models, the baseline first.")
    criterion: str = Field(description="The gap that the verdicts rest on.")
    baseline_gaps: dict[str, BaselineGap]
    comparisons: dict[str, ModelComparison] = Field(description="By model, the baseline left out.")
    pareto: tuple[ParetoPoint, ...] = Field(description="Every model, the baseline first.")
    conventions: CompareConventions
    notices: tuple[str, ...] = Field((), description="What a reader must know before leaning on the figures.")

    def to_dict(self) -> dict[str, Any]:
        """The content of `compare.json`."""
        return self.model_dump(mode="json", by_alias=True)

    def write(self, path: str | Path) -> None:
        """Writes `compare.json`, whole or not at all."""
        files.write_json(Path(path), self.to_dict())

    @classmethod
    def read(cls, path: str | Path) -> Comparison:
        """Reads what `write` wrote.

        Raises:
            DataError: no such file, or it is no comparison.
        """
        return read_record(cls, Path(path), SCHEMA)
