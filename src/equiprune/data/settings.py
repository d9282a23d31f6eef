"""The `[data]` section of a recipe: which table, which columns, how images become pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from equiprune.errors import Problem, UsageError
from equiprune.reading.attribute import REGROUPING
from equiprune.sections import checked

Fit = Literal["crop", "pad", "stretch"]


class DataSettings(BaseModel):
    """How a manifest is read. The field descriptions are the help of the commands.

    Example:
        >>> DataSettings(manifest="m.csv", label="dx", attribute=("sex",)).image_size
        128
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: str = Field(description="CSV with one row an image, UTF-8, comma-separated.")
    label: str | None = Field(None, description="Column of class names.")
    labels: tuple[str, ...] = Field((), description="Columns of 0/1/blank/-1, one a finding (multi-label).")
    attribute: tuple[str, ...] = Field(description="Column of the sensitive attribute; several make intersections.")
    groups: str | None = Field(None, description=f"Regroups the attribute: {REGROUPING}.")
    unit: str | None = Field(None, description="Column of patient or lesion ids; no id is in two splits.")
    image: str = Field("image", description="Column of image paths, relative to the manifest.")
    split: str | None = Field(
        "split", description="Column of train / validation / test; drawn afresh where the manifest has none."
    )
    missing: tuple[str, ...] = Field((), description="Attribute values that mean unknown. Blank always does.")
    uncertain: Literal["ignore", "zeros", "ones"] = Field("ignore", description="What -1 means in multi-label columns.")
    min_positives: int = Field(0, ge=0, description="Findings with fewer positive rows are left out, and named.")
    fractions: tuple[float, float, float] = Field(
        (0.6, 0.2, 0.2), description="Shares of train, validation and test where splits are drawn."
    )
    split_seed: int | None = Field(
        None, ge=0, description="Of drawn splits, so that runs of several seeds have the same; by default the seed."
    )
    image_size: int = Field(128, ge=8, le=4096, description="Side of the square the model sees, in pixels.")
    channels: Literal[1, 3] = Field(3, description="1 for greyscale, 3 for colour; grey images are repeated.")
    fit: Fit = Field("crop", description="crop: shorter side scaled, centre kept; pad: whole image; stretch.")
    decode: Literal["exact", "fast"] = Field(
        "exact", description="fast lets the JPEG decoder scale: quicker, pixels differ by up to 3 levels."
    )
    on_bad_image: Literal["stop", "skip"] = Field("stop", description="What to do with images that cannot be read.")
    allow_outside: bool = Field(False, description="Allows image paths that leave the manifest's folder.")

    @field_validator("attribute", "labels", "missing", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("manifest", mode="before")
    @classmethod
    def _path_or_text(cls, value: object) -> object:
        return str(value) if isinstance(value, PurePath) else value

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> DataSettings:
        if (self.label is None) == (not self.labels):
            raise ValueError("give either label (one column of class names) or labels (0/1 columns)")
        if not self.attribute:
            raise ValueError("name at least one attribute column")
        if any(f <= 0 for f in self.fractions) or abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError("fractions must be three positive shares that sum to 1")
        return self


def data_settings(raw: Mapping[str, Any], where: str) -> DataSettings:
    """The `[data]` section alone, checked.

    Raises:
        UsageError: with every wrong key and value.
    """
    problems: list[Problem] = []
    data = checked(DataSettings, raw, where, problems)
    if data is None:
        raise UsageError(problems)
    return data
