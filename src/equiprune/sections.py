"""A section of settings checked against its record: every wrong key and value at once, with what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from equiprune.errors import Problem, nearest

Record = TypeVar("Record", bound=BaseModel)


def checked(record: type[Record], raw: object, where: str, problems: list[Problem]) -> Record | None:
    """The section as a record, or None; what is wrong with it is added to `problems`."""
    if not isinstance(raw, Mapping):
        problems.append(Problem("this section is missing" if raw is None else "expected a table", file=where))
        return None
    try:
        return record.model_validate(dict(raw))
    except ValidationError as error:
        problems += _told(error, record, where)
        return None


def _told(error: ValidationError, record: type[BaseModel], where: str) -> Iterable[Problem]:
    for fault in error.errors():
        key = str(fault["loc"][0]) if fault["loc"] else None
        if fault["type"] == "extra_forbidden" and key is not None:
            yield unknown_key(key, record.model_fields, where)
            continue
        text = "is missing" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        if fault["type"] != "missing" and key is not None:
            text = f"{text[0].lower()}{text[1:]}, not {fault['input']!r}"
        hint = None
        if isinstance(fault["input"], list):
            hint = "A list is a sweep axis: one run takes one value"
        elif fault["type"] == "literal_error" and isinstance(fault["input"], str):
            hint = nearest(fault["input"], fault["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", "))
        yield Problem(text, file=where, column=key, hint=hint)


def unknown_key(key: str, allowed: Iterable[str], where: str) -> Problem:
    """A key that does not exist, with the nearest that does."""
    return Problem("unknown key", file=where, column=key, hint=nearest(key, allowed))
