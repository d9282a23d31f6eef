"""What can go wrong, said in one to a few lines, with the exit code the command ends with.

A `Problem` is one fact about the user's input; an error carries every problem that was
found, so that one run of a command shows all that has to be mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

SHOWN = 40


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what the user gave, and where it stands.

    Args:
        what: the fact and what was expected, as a sentence without a full stop.
        file: the file it stands in.
        row: the line of that file, counted from 1 with the header as line 1.
        column: the column or key.
        hint: what to do about it.

    Example:
        >>> print(Problem("label is blank", file="m.csv", row=7, column="dx"))
        m.csv, row 7, column 'dx': label is blank
    """

    what: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        row = None if self.row is None else f"row {self.row}"
        column = None if self.column is None else f"column {self.column!r}"
        where = ", ".join(part for part in (self.file, row, column) if part)
        text = f"{where}: {self.what}" if where else self.what
        return f"{text}. {self.hint}" if self.hint else text


class EquipruneError(Exception):
    """An error that is told to the user as it stands, without a traceback.

    Args:
        problems: a sentence, one `Problem`, or all of them.
    """

    exit_code = 1

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(listed(self.problems))


class UsageError(EquipruneError):
    """Wrong use of a command, or a wrong setting."""

    exit_code = 2


class DataError(EquipruneError):
    """The manifest, the images or the predictions are not usable as they are."""

    exit_code = 3


class ModelError(EquipruneError):
    """A model, its weights or its factory are not usable as they are."""

    exit_code = 4


class LimitExceeded(EquipruneError):  # noqa: N818 - no fault: a limit the user set
    """A `--fail-on` limit was exceeded: the audit itself went well."""

    exit_code = 5


class Interrupted(EquipruneError):  # noqa: N818 - no fault either
    """Stopped at a safe point; the same command carries on."""

    exit_code = 6


def listed(problems: Sequence[Problem]) -> str:
    """The problems, one a line; past the first 40 only their number.

    Example:
        >>> listed([Problem("no rows", file="m.csv")])
        'm.csv: no rows'
    """
    lines = [str(problem) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"... and {len(problems) - SHOWN} more")
    return "\n".join(lines)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A hint that names the nearest right spelling, or else everything allowed.

    Example:
        >>> nearest("lable", ["label", "sex"])
        "Did you mean 'label'?"
        >>> nearest("zzz", ["label", "sex"])
        "Allowed: 'label', 'sex'"
    """
    choices = list(allowed)
    found = get_close_matches(word, choices, n=1, cutoff=0.6)
    if not found:
        lower = {choice.lower(): choice for choice in choices}
        found = [lower[near] for near in get_close_matches(word.lower(), lower, n=1, cutoff=0.6)]
    if found:
        return f"Did you mean {found[0]!r}?"
    return "Allowed: " + ", ".join(repr(choice) for choice in choices)
