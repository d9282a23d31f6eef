"""The content of `audit.json`, as records that are checked when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from equiprune import files
from equiprune.metrics.gaps import Eodd, ZeroSupport
from equiprune.recordfile import read_record

SCHEMA = "equiprune-audit/1"
_RECORD = ConfigDict(
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    serialize_by_alias=True,
    json_schema_serialization_defaults_required=True,  # every field is written
)


class Estimate(BaseModel):
    """A figure and its 95 % interval; null where it is undefined."""

    model_config = _RECORD

    value: float | None = Field(description="The figure at full precision.")
    low: float | None = Field(description="Lower end of the 95 % interval.")
    high: float | None = Field(description="Upper end of the 95 % interval.")


class Gap(BaseModel):
    """A gap between groups, of the worst pair where there are more than two."""

    model_config = _RECORD

    value: float | None = Field(description="The gap; 0 is fair.")
    low: float | None = Field(
        description="Lower end of the 95 % interval; 0 where chance alone explains the gap, and not the case mix."
    )
    high: float | None = Field(description="Upper end of the 95 % interval.")
    floor: float | None = Field(description="The gap that equal error rates would show on this test set, on average.")
    p_value: float | None = Field(description="How often equal error rates would show at least this gap (mid-p).")
    classes_used: int = Field(description="Classes that the gap rests on.")
    classes_skipped: int = Field(description="Classes left out, having no denominator in a group of the pair.")
    pair: tuple[str, str] | None = Field(None, description="The two groups that differ most.")
    signed: float | None = Field(
        None, description="Single rates: mean over classes of the privileged group's rate minus that of the other."
    )
    floor_high: float | None = Field(None, description="What equal error rates would pass in one of 20 test sets.")
    detectable: float | None = Field(
        None, description="Smallest true gap that would be found (p < 0.05) with 80 % power; null: none would."
    )
    ratio: float | None = Field(None, description="The smaller over the larger, mean over classes; 1 is fair.")
    deviation: float | None = Field(None, description="Mean absolute deviation of the groups from the overall value.")


class PairGap(BaseModel):
    """A gap between two of more than two groups."""

    model_config = _RECORD

    gap: str = Field(description="Key of `gaps`.")
    pair: tuple[str, str]
    value: float | None
    low: float | None
    high: float | None


class ClassGap(BaseModel):
    """The gap of one rate in one class, of the worst pair where there are more than two groups."""

    model_config = _RECORD

    class_: str = Field(alias="class", description="The class or finding.")
    rate: str = Field(description="tpr, fpr, ppv, fnr or selection_rate.")
    pair: tuple[str, str] | None = Field(description="The groups compared; null where no two can be.")
    value: float | None
    low: float | None
    high: float | None
    signed: float | None = Field(description="The privileged group's rate minus that of the other.")
    floor: float | None = Field(None, description="What equal rates in the two groups would show on average, exactly.")
    p_value: float | None = Field(description="Fisher's exact test, mid-p, times the number of pairs.")
    p_holm: float | None = Field(description="Adjusted over the classes of this rate (Holm).")
    p_bh: float | None = Field(description="Adjusted over the classes of this rate (Benjamini and Hochberg).")
    supported: bool = Field(description="Both groups have at least `min_support` rows of the class.")


class Worst(BaseModel):
    """The group that a figure is worst in, among those with support."""

    model_config = _RECORD

    group: str
    value: float


class Thresholds(BaseModel):
    """Operating points."""

    model_config = _RECORD

    rule: str = Field(description="fixed, youden or sensitivity, with its number.")
    chosen_on: int | None = Field(description="Rows of the validation split they were chosen on; null: none.")
    values: dict[str, float] = Field(description="By class or finding: called from this score on.")


class GroupFigures(BaseModel):
    """The performance in one group; null in files of an older version."""

    model_config = _RECORD

    n: int = Field(description="Rows.")
    n_units: int | None = Field(description="Patients or lesions; null without ids.")
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auroc: Estimate
    ece: Estimate
    brier: Estimate
    balanced_accuracy: Estimate | None = None
    average_precision: Estimate | None = None
    calibration_intercept: Estimate | None = None
    calibration_slope: Estimate | None = None
    supported: bool = Field(True, description="Has at least `min_support` positives; else it is never called worst.")


class ClassRates(BaseModel):
    """One class against the rest, in one group."""

    model_config = _RECORD

    class_: str = Field(alias="class", description="The class or finding.")
    group: str = Field(description="The group.")
    n: int = Field(description="Rows of the group that are of the class.")
    tpr: Estimate
    fpr: Estimate
    ppv: Estimate
    fnr: Estimate
    tnr: Estimate | None = None
    selection_rate: Estimate | None = None
    f1: Estimate | None = None
    auroc: Estimate | None = None
    average_precision: Estimate | None = None


class Attribute(BaseModel):
    """The sensitive attribute."""

    model_config = _RECORD

    name: str
    groups: tuple[str, ...]
    privileged: str = Field(description="Named by the user, or else the group with the higher macro F1.")
    unknown: int = Field(description="Rows whose attribute is not known: they count in `overall` only.")


class Conventions(BaseModel):
    """What the figures mean where the literature is not of one mind, and how chance was judged."""

    model_config = _RECORD

    eodd: Eodd
    zero_support: ZeroSupport
    average: str = "macro"
    interval: str = Field(description="How the 95 % intervals were made.")
    replicates: int = Field(description="Bootstrap draws and permutations that were asked for.")
    seed: int
    min_support: int = Field(
        10, description="Positives below which a group, or a group's class, is never called worst."
    )
    count_replicates: int | None = Field(None, description="Bootstrap draws of counts that were made.")
    score_replicates: int = Field(0, description="Draws behind the intervals of figures of scores; 0: formulae.")
    floor_replicates: int = Field(description="Permutations of the gaps of counts.")
    auroc_floor_replicates: int = Field(description="Permutations, or normal draws, of the gaps of scores.")
    worst: str = "largest gap over pairs of groups that have support; its interval holds for all pairs (Bonferroni)"
    floor: str = "mean gap when the attribute is permuted within each true class"
    p_value: str = "mid-p: permutations with an equal gap count half"
    multiplicity: str = (
        "gaps_by_class: p_holm and p_bh are adjusted over the classes of one rate; p-values in gaps are not adjusted"
    )
    detectable: str = "80 % power at p < 0.05, the same difference in every class"
    accuracy: str
    auroc: str = "one against the rest, over classes with positives and negatives; its gap over those in every group"
    average_precision: str = "step-wise, over the same classes; it depends on how common a class is in the group"
    ece: str
    brier: str
    calibration: str = "logistic regression on the logit of the probability that ece uses; intercept with slope 1"


class Source(BaseModel):
    """Where the predictions came from and how they were read, so that an audit can be traced and made again."""

    model_config = _RECORD

    version: str = Field(description="Of equiprune.")
    file: str = Field(description="The table or run, as it was named.")
    sha256: str | None = Field(description="Of the table's bytes; null for a run, which records its own.")
    split: str | None = Field(description="The rows that were taken; null: all.")
    unit: str | None = Field(description="The column of unit ids that was named.")
    groups: str | None = Field(description="The regrouping.")
    missing: str | None = Field(description="Values of the attribute that mean unknown, besides blank.")


class Cost(BaseModel):
    """What a model takes to keep and to run."""

    model_config = _RECORD

    parameters: int
    zeros: int = Field(description="Weights held at zero: they save neither time nor space.")
    file_bytes: int
    flops: int = Field(description="Operations an image; a multiplication and an addition are two.")
    latency_ms: dict[str, float] = Field(
        description="Milliseconds a batch, by its size: medians, on the run's machine."
    )


class Audit(BaseModel):
    """The result of `audit`: `audit.json` is exactly this, with null for what is undefined."""

    model_config = _RECORD

    schema_: str = Field(SCHEMA, alias="schema", description="Name and version of this form.")
    task: Literal["multiclass", "multilabel"]
    n: int = Field(description="Rows.")
    n_units: int | None = Field(description="Patients or lesions; null without ids.")
    classes: tuple[str, ...]
    attribute: Attribute
    overall: dict[str, Estimate] = Field(
        description="accuracy, balanced_accuracy, precision, recall, f1, auroc, average_precision, ece, brier, "
        "calibration_intercept, calibration_slope."
    )
    by_group: dict[str, GroupFigures]
    gaps: dict[str, Gap] = Field(
        description="eopp0, eopp1, eodd, tpr, fpr, ppv, fnr, selection_rate (demographic parity), and every figure "
        "of `overall`."
    )
    by_class: tuple[ClassRates, ...]
    conventions: Conventions
    worst_group: dict[str, Worst] = Field(default_factory=dict, description="By figure of `overall`.")
    pairs: tuple[PairGap, ...] = Field((), description="Every pair's gaps, where there are 3 to 10 groups.")
    gaps_by_class: tuple[ClassGap, ...] = Field((), description="The gap of every rate in every class.")
    thresholds: Thresholds | None = Field(None, description="Operating points, where classes are called by them.")
    fate: dict[str, str | float | None] | None = Field(
        None, description="FATE on eopp0, eopp1 and eodd against the model named `baseline`."
    )
    cost: dict[Literal["before", "after"], Cost] | None = Field(
        None, description="Of a run: the first step's model and the last's, measured in turns."
    )
    needs_attribute: bool | None = Field(
        None, description="Of a run: whether the model must be told the attribute of every image at use."
    )
    source: Source | None = Field(None, description="Of an audit made by the command; null where arrays were audited.")
    notices: tuple[str, ...] = Field((), description="What a reader must know before leaning on the figures.")

    def to_dict(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        return self.model_dump(mode="json", by_alias=True)

    def write(self, path: str | Path) -> None:
        """Writes `audit.json`, whole or not at all."""
        files.write_json(Path(path), self.to_dict())

    @classmethod
    def read(cls, path: str | Path) -> Audit:
        """Reads what `write` wrote.

        Raises:
            DataError: no such file, or it is no audit.
        """
        return read_record(cls, Path(path), SCHEMA)
