"""What only the user can say of a model: a TOML file of sentences, each field optional."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from equiprune.errors import DataError, Problem, UsageError
from equiprune.sections import checked


class ModelCard(BaseModel):
    """The fields of a card. A report shows NOT PROVIDED where one is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, strict=True)

    name: str | None = Field(None, description="Name and version of the model.")
    owner: str | None = Field(None, description="Who made it, and whom to ask.")
    licence: str | None = Field(None, description="Under what terms model, code and data can be had.")
    intended_use: str | None = Field(None, description="For which decision, in whom, at which place in care.")
    intended_users: str | None = Field(None, description="Who is to use it, and with what training.")
    out_of_scope: str | None = Field(None, description="What it must not be used for.")
    known_inequalities: str | None = Field(None, description="Inequalities in health that are known in this field.")
    data_source: str | None = Field(None, description="Where the images are from: sites, devices, years.")
    collection: str | None = Field(None, description="Why and how they were collected, and who is missing from them.")
    eligibility: str | None = Field(None, description="Which patients and images were included and excluded.")
    reference_standard: str | None = Field(None, description="How and by whom the labels were made.")
    missing_data: str | None = Field(None, description="What is missing, why, and what was done about it.")
    attribute_source: str | None = Field(None, description="How the attribute was obtained: asked, recorded, inferred.")
    attribute_meaning: str | None = Field(None, description="What the groups stand for, and whom they leave out.")
    group_choice: str | None = Field(None, description="Why these groups, and whether chosen before the results.")
    sample_size: str | None = Field(None, description="Why so many patients, overall and in each group.")
    ethics: str | None = Field(None, description="Approval, consent and protection of data.")
    patients_involved: str | None = Field(None, description="How patients and the public took part.")
    mitigation_choice: str | None = Field(None, description="Why unfairness was treated in this way.")
    external_validation: str | None = Field(None, description="Where else the model was tested.")
    limitations: str | None = Field(None, description="What its makers hold against it.")
    harms: str | None = Field(None, description="What may go wrong, for whom, and how bad that is.")
    monitoring: str | None = Field(None, description="What is watched in use, by group, and who acts on it.")
    updating: str | None = Field(None, description="When the model is changed or withdrawn.")
    funding: str | None = Field(None, description="Who paid, and what they had a say in.")
    conflicts: str | None = Field(None, description="Interests of those who made it.")

    def given(self) -> dict[str, str]:
        """The fields that say something."""
        return {key: value for key, value in self.model_dump().items() if value}

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Reads a card.

        Raises:
            DataError: the file cannot be read, or is no TOML.
            UsageError: unknown fields, each with the nearest spelling, or values that are no text.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = None if path.suffix == ".toml" else "A card is a TOML file"
            raise DataError(Problem(f"cannot be read: {error}", file=str(path), hint=hint)) from None
        problems: list[Problem] = []
        found = checked(cls, raw, str(path), problems)
        if found is None:
            raise UsageError(problems)
        return found
