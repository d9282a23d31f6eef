"""Options that several commands share, as records: each field is one option of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from equiprune.data.settings import DataSettings, Fit
from equiprune.errors import Problem, UsageError
from equiprune.reading.attribute import REGROUPING

if TYPE_CHECKING:
    from equiprune.predictions import Predictions

DATA = Group("Data", sort_key=1)
MEANING = Group("What the figures mean", sort_key=2)
WORK = Group("How to run", sort_key=3)


def _told(name: str) -> Parameter:
    """An option whose help is the description of the setting it sets."""
    field = DataSettings.model_fields[name]
    return Parameter(help=field.description, group=DATA, negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """Which columns of the manifest mean what, and how its images become pixels."""

    label: Annotated[str | None, _told("label")] = None
    labels: Annotated[str | None, Parameter(help="Columns of 0/1/blank/-1, comma-separated.", group=DATA)] = None
    attribute: Annotated[tuple[str, ...], _told("attribute")] = ()
    groups: Annotated[str | None, _told("groups")] = None
    unit: Annotated[str | None, _told("unit")] = None
    image: Annotated[str | None, _told("image")] = None
    split: Annotated[str | None, _told("split")] = None
    missing: Annotated[
        str | None, Parameter(help="Attribute values that mean unknown, comma-separated.", group=DATA)
    ] = None
    uncertain: Annotated[Literal["ignore", "zeros", "ones"] | None, _told("uncertain")] = None
    min_positives: Annotated[int | None, _told("min_positives")] = None
    image_size: Annotated[int | None, _told("image_size")] = None
    channels: Annotated[Literal[1, 3] | None, _told("channels")] = None
    fit: Annotated[Fit | None, _told("fit")] = None
    decode: Annotated[Literal["exact", "fast"] | None, _told("decode")] = None
    on_bad_image: Annotated[Literal["stop", "skip"] | None, _told("on_bad_image")] = None
    allow_outside: Annotated[bool, _told("allow_outside")] = False

    def given(self) -> dict[str, Any]:
        """The settings the user gave, as the `[data]` section of a recipe has them."""
        found = {key: value for key, value in asdict(self).items() if value not in (None, (), False)}
        for key in ("labels", "missing"):
            if key in found:
                found[key] = tuple(part.strip() for part in found[key].split(","))
        return found


@Parameter(name="*")
@dataclass(frozen=True)
class WorkOptions:
    """Where and how a command works."""

    seed: Annotated[int | None, Parameter(help="Of everything drawn at random.", group=WORK)] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Parameter(help="auto is CUDA where there is one.", group=WORK)
    ] = "auto"
    cache: Annotated[
        Path | None, Parameter(help="Folder for decoded images; by default beside the run.", group=WORK)
    ] = None
    log_to: Annotated[
        tuple[Literal["tensorboard", "mlflow"], ...],
        Parameter(help="Where else the log is sent; each needs its extra.", group=WORK, negative=()),
    ] = ()
    json: Annotated[bool, Parameter(help="Prints the result as JSON.", group=WORK, negative=())] = False


@Parameter(name="*")
@dataclass(frozen=True)
class TableOptions:
    """How a table of predictions is read, and how the result is told."""

    label: Annotated[str | None, Parameter(help="Column of the true classes; `label` by default.", group=DATA)] = None
    missing: Annotated[
        str | None, Parameter(help="Attribute values that mean unknown, comma-separated.", group=DATA)
    ] = None
    groups: Annotated[str | None, Parameter(help=f"Regroups the attribute: {REGROUPING}.", group=DATA)] = None
    seed: Annotated[int, Parameter(help="Of bootstrap and permutations.", group=WORK)] = 0
    json: Annotated[bool, Parameter(help="Prints the result as JSON.", group=WORK, negative=())] = False

    def read(self, path: Path, attribute: Sequence[str], split: str | None, unit: str | None) -> Predictions:
        """The predictions in a table.

        Raises:
            UsageError: no attribute is named.
            DataError: the table cannot be used.
        """
        from equiprune.predictions import Predictions

        if not attribute:
            raise UsageError("name the sensitive attribute: --attribute COLUMN")
        return Predictions.read(
            path,
            attribute=attribute,
            split=split,
            unit=unit,
            label=self.label or "label",
            missing=self.missing or (),
            groups=self.groups,
        )

    def refuse(self, attribute: Sequence[str], unit: str | None) -> None:
        """Refuses to name columns where there are only runs, which have their own.

        Raises:
            UsageError: one is named.
        """
        given = {"--attribute": attribute, "--unit": unit, "--label": self.label, "--missing": self.missing}
        given["--groups"] = self.groups
        named = [option for option, value in given.items() if value]
        if named:
            hint = "For another attribute, make a table of predictions that has it"
            raise UsageError(Problem(f"a run has its own columns; {', '.join(named)} cannot be given", hint=hint))


@Parameter(name="*")
@dataclass(frozen=True)
class RowOptions:
    """Which rows are compared, and by which columns: of tables; runs have their own columns."""

    attribute: Annotated[
        tuple[str, ...], Parameter(help="Tables: column of the sensitive attribute.", group=DATA, negative=())
    ] = ()
    unit: Annotated[str | None, Parameter(help="Tables: column of patient or lesion ids.", group=DATA)] = None
    split: Annotated[
        Literal["train", "validation", "test"] | None, Parameter(help="Of a run, test by default.", group=DATA)
    ] = None
    privileged: Annotated[
        str | None, Parameter(help="The better-served group; else as the run's audit has it.", group=DATA)
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class MeaningOptions:
    """Conventions of the gaps, and the support that a group needs."""

    eodd: Annotated[
        Literal["half_mean", "sum", "separate"], Parameter(help="Which of the published Eodd.", group=MEANING)
    ] = "half_mean"
    zero_support: Annotated[
        Literal["skip", "as_zero"],
        Parameter(help="A class without rows in a group: left out, or its rate counts as 0.", group=MEANING),
    ] = "skip"
    min_support: Annotated[int, Parameter(help="Positives that a group needs to be called worst.", group=MEANING)] = 10
