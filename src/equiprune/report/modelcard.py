"""What only the user can say of a model: a file of sentences in TOML or YAML, each field optional."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
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
        """Reads a card: YAML where its name ends in .yaml or .yml, else TOML.

        Raises:
            DataError: the file cannot be read, or is no TOML or no YAML.
            UsageError: unknown fields, each with the nearest spelling, fields that stand twice, or values that are no
                text.
        """
        read = _yaml if path.suffix in YAML else _toml
        try:
            raw = read(path.read_text(encoding="utf-8"), str(path))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            hint = None if path.suffix in (".toml", *YAML) else "A card is a TOML file, or YAML with .yaml in its name"
            raise DataError(Problem(f"cannot be read: {_told(error)}", file=str(path), hint=hint)) from None
        problems: list[Problem] = []
        found = checked(cls, raw, str(path), problems)
        if found is None:
            raise UsageError(problems)
        return found


YAML = (".yaml", ".yml")


def _toml(text: str, _where: str) -> dict[str, Any]:
    return tomllib.loads(text)


def _yaml(text: str, where: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """The content; fields that stand twice or hold more than a text are told with their line.

    They are looked for before anything is made of the file: YAML itself takes the last of two in silence, and a few
    lines of it can stand for more values than a machine holds.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return {} if node is None else []  # a list, as anything else, is told to be no table
    times = Counter(str(key.value) for key, _ in node.value)
    problems = [
        Problem(what, file=where, row=key.start_mark.line + 1, column=str(key.value))
        for key, value in node.value
        for what, wrong in (
            ("stands twice", times[str(key.value)] > 1),
            ("expected a text", not isinstance(value, yaml.ScalarNode)),
        )
        if wrong
    ]
    if problems:
        raise UsageError(problems)
    return yaml.safe_load(text)


def _told(error: Exception) -> str:
    """A fault in one line; YAML's own takes several, and shows them with an arrow."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem or error.context}, line {error.problem_mark.line + 1}"
    return str(error)
