"""How public tables write sex, age and skin type, and what is meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from equiprune.errors import Problem, UsageError

OLDEST = 120

SEXES = (
    "Expected male, female, M, F, unknown or blank. "
    'Numbers have no fixed meaning: say it with --sex-codes "1=male;2=female"'
)
AGES = f"Expected years from 0 to {OLDEST}, or blank"
SKIN_TYPES = "Expected 1 to 6; -1 or blank for unknown"
FINDINGS = "Expected 1, 0, -1 (uncertain) or blank"
FLAGS = "Expected True or False"

_SEX = {"male": "male", "m": "male", "female": "female", "f": "female", "unknown": "", "": ""}
_AGE = re.compile(r"(\d{1,4})(?:\.(\d*))?\s*([YMWD]?)", re.IGNORECASE)
_PER_YEAR = {"M": 12, "W": 52, "D": 365}


def sex_of(codes: Mapping[str, str]) -> Callable[[str], str | None]:
    """The reader of a sex.

    Args:
        codes: what numbers mean, if the user said so: see `parse_codes`.

    Example:
        >>> read = sex_of({"1": "male"})
        >>> read("FEMALE"), read("Unknown"), read("1.0"), read("2")
        ('female', '', 'male', None)
    """
    known = {**_SEX, **codes}
    return lambda cell: known.get(cell.casefold().removesuffix(".0"))


def parse_codes(text: str | None) -> dict[str, str]:
    """What numbers mean in a column of sexes.

    Raises:
        UsageError: the text does not say so, with everything wrong in it.

    Example:
        >>> parse_codes("1 = male; 2 = F; 9 = unknown")
        {'1': 'male', '2': 'female', '9': ''}
    """
    codes: dict[str, str] = {}
    problems: list[Problem] = []
    for part in filter(None, map(str.strip, (text or "").split(";"))):
        code, sign, value = (piece.strip() for piece in part.partition("="))
        meant = _SEX.get(value.casefold()) if value else None
        if not sign or not code or meant is None:
            problems.append(Problem(f"{part!r} is not CODE=male, CODE=female or CODE=unknown", file="--sex-codes"))
        elif code in codes:
            problems.append(Problem(f"the code {code!r} stands twice", file="--sex-codes"))
        else:
            codes[code] = meant
    if not codes and not problems and text is not None:
        problems.append(Problem("no code is given", file="--sex-codes", hint='Write it as "1=male;2=female"'))
    if problems:
        raise UsageError(problems)
    return codes


def age(cell: str) -> str | None:
    """Years, without a fraction of zero; 0 is an age.

    Example:
        >>> age("80.0"), age("060Y"), age("018M"), age("0.0"), age(""), age("155"), age("old")
        ('80', '60', '1', '0', '', None, None)
    """
    years = _years(cell)
    return None if years is not None and float(years or 0) > OLDEST else years


def age_in_radiology(cell: str) -> str | None:
    """As `age`, where 0 and what no one lives to mean that it is missing.

    Example:
        >>> age_in_radiology("0"), age_in_radiology("155"), age_in_radiology("060Y"), age_in_radiology("011D")
        ('', '', '60', '0')
    """
    years = _years(cell)
    if years is None:
        return None
    # Of an infant the table gives days or months: there 0 years are an age.
    stated = cell[-1:].upper() in _PER_YEAR
    return "" if not stated and not 0 < float(years or 0) <= OLDEST else years


def _years(cell: str) -> str | None:
    if not cell:
        return ""
    found = _AGE.fullmatch(cell)
    if found is None:
        return None
    whole, part, unit = int(found[1]), (found[2] or "").rstrip("0"), found[3].upper()
    if unit in _PER_YEAR:
        return str(whole // _PER_YEAR[unit])
    return f"{whole}.{part}" if part else str(whole)


def skin_type(cell: str) -> str | None:
    """The Fitzpatrick type, 1 to 6; blank where unknown.

    Example:
        >>> skin_type("3.0"), skin_type("-1"), skin_type(""), skin_type("7")
        ('3', '', '', None)
    """
    bare = cell.removesuffix(".0")
    if bare in ("", "-1"):
        return ""
    return bare if bare in ("1", "2", "3", "4", "5", "6") else None


def finding(cell: str) -> str | None:
    """A finding as the manifest has it: 1, 0, -1 or blank.

    Example:
        >>> finding("1.0"), finding("-1.0"), finding(""), finding("2")
        ('1', '-1', '', None)
    """
    bare = cell.removesuffix(".0")
    return bare if bare in ("", "0", "1", "-1") else None


def place(cell: str) -> str:
    """A part of the body; blank where it reads "unknown"."""
    return "" if cell.casefold() == "unknown" else cell


def flag(cell: str) -> str | None:
    """True or False, however written; blank where unknown.

    Example:
        >>> flag("TRUE"), flag("0"), flag(""), flag("maybe")
        ('true', 'false', '', None)
    """
    return {"true": "true", "1": "true", "false": "false", "0": "false", "": ""}.get(cell.casefold())
