"""`report.json`: the content of the page as data, for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from equiprune.errors import Problem, UsageError
from equiprune.report.content import Page
from equiprune.report.papertable import parts
from equiprune.report.standards import standards
from equiprune.report.verdict import EVIDENCE, verdict

SCHEMA = "equiprune-report/1"


def document(page: Page) -> dict[str, Any]:
    """The verdict, every model's audit, the steps' logs and predictions by group, the appendix.

    Numbers that are not finite are None, as in `audit.json`.
    """
    found = {
        "schema": SCHEMA,
        "title": page.title,
        "evidence": EVIDENCE,
        "verdict": asdict(verdict(page)),
        "data": page.data,
        "facts": page.facts,
        "environment": page.environment,
        "steps": [asdict(step) for step in page.steps],
        "others": [asdict(model) for model in page.others],
        "methods": [asdict(part) for part in parts(page.models)],
        "standards": [asdict(item) for item in standards(page)],
        "card": page.card,
        "left_out": page.left_out,
        "examples": [
            {"file": one.file, "group": one.group, "kind": one.kind, "what": one.what} for one in page.examples
        ],
        "notices": page.notices,
        "published": None if page.published is None else asdict(page.published),
        "split": page.split,
        "sweep": None if page.sweep is None else asdict(page.sweep),
    }
    return {key: _finite(value) for key, value in found.items()}


def as_text(page: Page) -> str:
    """The document as JSON, the same bytes for the same page."""
    # Half a character pair is no UTF-8: ASCII with escapes holds whatever a name is made of.
    return json.dumps(document(page), allow_nan=False, separators=(",", ":")) + "\n"


def place(page: Path) -> Path:
    """Where the document of a page stands: beside it.

    Raises:
        UsageError: another file is there.
    """
    path = page.with_suffix(".json")
    if path.exists() and not _ours(path):
        hint = "Give the page another name, so that this file stays"
        raise UsageError(
            Problem("the report's data would stand here, in the place of another file", file=str(path), hint=hint)
        )
    return path


def _ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
