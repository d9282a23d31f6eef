"""The content of `audit.json`, as records that are checked when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from equiprune import files
from equiprune.errors import DataError, Problem
from equiprune.metrics.gaps import Eodd, ZeroSupport

SCHEMA = "equiprune-audit/1"
_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


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
    low: float | None = Field(description="Lower end of the 95 % interval; 0 where chance alone explains the gap.")
    high: float | None = Field(description="Upper end of the 95 % interval.")
    floor: float | None = Field(description="The gap that equal error rates would show on this test set, on average.")
    p_value: float | None = Field(description="How often equal error rates would show at least this gap.")
    classes_used: int = Field(description="Classes that the gap rests on.")
    classes_skipped: int = Field(description="Classes left out, having no denominator in a group of the pair.")
    pair: tuple[str, str] | None = Field(None, description="The two groups that differ most.")
    signed: float | None = Field(
        None, description="Single rates: mean over classes of the privileged group's rate minus that of the other."
    )


class GroupFigures(BaseModel):
    """The performance in one group."""

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
    replicates: int = Field(description="Bootstrap draws, and permutations of the noise floor.")
    seed: int
    score_replicates: int = Field(description="Bootstrap draws of AUROC, ECE and Brier.")
    floor_replicates: int = Field(description="Permutations of the gaps of counts.")
    auroc_floor_replicates: int = Field(description="Permutations of the AUROC gap.")
    worst: str = "largest gap over pairs of groups"
    floor: str = "mean gap when the attribute is permuted within each true class"
    accuracy: str
    auroc: str = "one against the rest, over classes with positives and negatives; its gap over those in every group"
    ece: str
    brier: str


class Audit(BaseModel):
    """The result of `audit`: `audit.json` is exactly this, with null for what is undefined."""

    model_config = _RECORD

    schema_: str = Field(SCHEMA, alias="schema", description="Name and version of this form.")
    task: Literal["multiclass", "multilabel"]
    n: int = Field(description="Rows.")
    n_units: int | None = Field(description="Patients or lesions; null without ids.")
    classes: tuple[str, ...]
    attribute: Attribute
    overall: dict[str, Estimate] = Field(description="accuracy, precision, recall, f1, auroc, ece, brier.")
    by_group: dict[str, GroupFigures]
    gaps: dict[str, Gap] = Field(description="eopp0, eopp1, eodd, tpr, fpr, ppv, fnr, f1, auroc.")
    by_class: tuple[ClassRates, ...]
    conventions: Conventions
    fate: dict[str, str | float | None] | None = Field(
        None, description="FATE on eopp0, eopp1 and eodd against the model named `baseline`."
    )
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
        try:
            return cls.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(Problem(f"cannot be read ({error.strerror})", file=str(path))) from error
        except ValidationError as error:
            raise DataError(
                Problem(f"is no {SCHEMA}: {fault['msg']}", file=str(path), column=".".join(map(str, fault["loc"])))
                for fault in error.errors()
            ) from error
        except ValueError as error:
            raise DataError(Problem(f"is no JSON ({error})", file=str(path))) from error
