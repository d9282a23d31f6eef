"""docs/settings.md, written from the records that check the settings.

`python -m equiprune.commands.settings_page FILE` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from equiprune.data.settings import DataSettings
from equiprune.files import write_text
from equiprune.methods import METHODS
from equiprune.recipe import AuditSettings, ModelSettings
from equiprune.training.settings import TrainingSettings

SECTIONS: dict[str, type[BaseModel]] = {
    "[data]": DataSettings,
    "[model]": ModelSettings,
    "[training], or of one step": TrainingSettings,
    "[audit]": AuditSettings,
}
HEAD = """# Every setting

Written from the program itself (`make schemas`). In a recipe a method's settings stand under its `[[step]]`; on the
command line they are given with `--set KEY=VALUE`. `from` of a step names the step whose model it starts from, by its
number or method. The settings of [data] are options of their own, such as `--image-size 64`; `fractions` and
`split_seed` stand in recipes only, as does `published` (papers.md), which stands above all sections. A list is
given as `--set milestones="[0.5, 0.8]"`, layers also as `--set layers=conv1,conv2`.
"""
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    parts += [_section(name, record) for name, record in SECTIONS.items()]
    parts += [_section(f"`{name}`", record) for name, record in METHODS.items()]
    return "\n".join(parts)


def _section(name: str, record: type[BaseModel]) -> str:
    first = (record.__doc__ or "").strip().splitlines()[0]
    lines = [f"## {name}", "", first, ""]
    rows = list(_rows(record))
    if rows:
        lines += ["| setting | default | allowed | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _rows(record: type[BaseModel]) -> Iterator[str]:
    for name, field in record.model_fields.items():
        cells = (f"`{name}`", _default(field), _allowed(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "needed"
    value: Any = field.default
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _allowed(field: FieldInfo) -> str:
    words = [str(value) for part in (field.annotation, *get_args(field.annotation)) for value in _literals(part)]
    limits = [f"{sign} {value:g}" for one in field.metadata for sign, value in _limits(one)]
    return ", ".join([*words, *limits])


def _literals(annotation: object) -> tuple[Any, ...]:
    literal = "Literal" in str(get_origin(annotation))
    return get_args(annotation) if literal else ()


def _limits(bound: object) -> Iterator[tuple[str, float]]:
    for name, sign in SIGNS.items():
        value = getattr(bound, name, None)
        if value is not None:
            yield sign, value


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), page())
