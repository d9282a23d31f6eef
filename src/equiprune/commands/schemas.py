"""The JSON schemas of `audit.json` and `compare.json`, for programs that read them.

`python -m equiprune.commands.schemas FOLDER` writes them; `docs/schemas` of the project holds those of this version.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from equiprune.auditfile import Audit
from equiprune.comparefile import Comparison
from equiprune.files import write_json


def schemas() -> dict[str, dict[str, Any]]:
    """By file name, as JSON Schema (draft 2020-12).

    Example:
        >>> sorted(schemas())
        ['audit.schema.json', 'compare.schema.json']
    """
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    records: dict[str, type[BaseModel]] = {"audit.schema.json": Audit, "compare.schema.json": Comparison}
    return {name: draft | kind.model_json_schema(by_alias=True, mode="serialization") for name, kind in records.items()}


def main(folder: Path) -> None:
    """Writes the schemas into a folder."""
    for name, schema in schemas().items():
        write_json(folder / name, schema)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
