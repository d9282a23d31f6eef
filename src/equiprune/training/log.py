"""`log.jsonl`: one record an epoch or pruning iteration, in step with the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equiprune.files import read_json_lines, write_text

NAME = "log.jsonl"
_followers: list[Callable[[], object]] = []


@contextmanager
def followed(by: Callable[[], object]) -> Iterator[None]:
    """As long as the context lasts, `by` is called after every record of every log."""
    _followers.append(by)
    try:
        yield
    finally:
        _followers.remove(by)


class Log:
    """The records of a step, kept in memory and, where there is a folder, in its `log.jsonl`.

    The file is written anew with every record, so that it is never torn; it stays small.

    Example:
        >>> log = Log(None)
        >>> log.add({"epoch": 1, "f1": 0.5})
        >>> log.records
        [{'epoch': 1, 'f1': 0.5}]
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / NAME
        self.records: list[dict[str, Any]] = [] if folder is None else read_json_lines(folder / NAME)

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a record. Values that are not finite are told as null."""
        self.records.append({key: _finite(value) for key, value in record.items()})
        self._write()
        for follower in _followers:
            follower()

    def keep(self, count: int) -> None:
        """Forgets everything after the first `count` records: a checkpoint was behind the log."""
        if len(self.records) > count:
            del self.records[count:]
            self._write()

    def _write(self) -> None:
        if self.path is not None:
            lines = (json.dumps(record, allow_nan=False, ensure_ascii=False) for record in self.records)
            write_text(self.path, "".join(line + "\n" for line in lines))


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever json takes
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value
