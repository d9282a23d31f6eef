from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from equiprune.audit import audit
from equiprune.commands.schemas import main, schemas
from equiprune.comparing import compare
from equiprune.predictions import Predictions

DOCS = Path(__file__).resolve().parents[1] / "docs" / "schemas"


def predictions(seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=120)
    score = np.exp(rng.normal(size=(120, 3)) + (label[:, None] == np.arange(3)))
    group = np.arange(120) // 40
    return Predictions(label * 0 + np.arange(120) % 3, score / score.sum(axis=1, keepdims=True), group, list("abc"))


def test_the_schemas_in_the_docs_are_those_of_the_code(tmp_path: Path) -> None:
    main(tmp_path)
    for name in schemas():
        assert (tmp_path / name).read_text() == (DOCS / name).read_text(), f"run `make schemas`: {name} has changed"


def test_the_page_of_settings_is_that_of_the_code() -> None:
    pytest.importorskip("torch")
    from equiprune.commands.settings_page import page
    from equiprune.methods import METHODS

    text = (DOCS.parent / "settings.md").read_text()
    assert page() == text, "run `make schemas`: a setting has changed"
    assert all(f"## `{name}`" in text for name in METHODS)
    assert "| `beta` | 0.33 | ≥ 0 |" in text


def test_what_is_written_follows_the_schema(tmp_path: Path) -> None:
    first, second = predictions(0), predictions(1)
    audit(first, replicates=20).write(tmp_path / "audit.json")
    compare(first, {"other": second}, replicates=20).write(tmp_path / "compare.json")
    for name in ("audit", "compare"):
        content = json.loads((tmp_path / f"{name}.json").read_text())
        schema = schemas()[f"{name}.schema.json"]
        jsonschema.validate(content, schema)
        del content["schema"]
        with pytest.raises(jsonschema.ValidationError, match="'schema' is a required property"):
            jsonschema.validate(content, schema)
