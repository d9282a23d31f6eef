"""Reading a record that was written as JSON, with every fault told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from equiprune.errors import DataError, Problem

Record = TypeVar("Record", bound=BaseModel)


def read_record(kind: type[Record], path: Path, schema: str) -> Record:
    """The record in a file.

    Args:
        kind: of record.
        path: of the file.
        schema: name and version of its form, for messages.

    Raises:
        DataError: no such file, or it is no such record.
    """
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(Problem(f"cannot be read ({error.strerror})", file=str(path))) from error
    except ValidationError as error:
        raise DataError(
            Problem(f"is no {schema}: {fault['msg']}", file=str(path), column=".".join(map(str, fault["loc"])))
            for fault in error.errors()
        ) from error
    except ValueError as error:
        raise DataError(Problem(f"is no JSON ({error})", file=str(path))) from error
