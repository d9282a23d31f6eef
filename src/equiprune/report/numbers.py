"""How numbers are written on the page: never more certain than they are, and never nan."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

UNDEFINED = "not estimable"
HIDDEN = "\ufffd"


def known(value: object) -> float | None:
    """The value as a finite float, or None where it is absent, nan or infinite.

    Example:
        >>> known(0.5), known(float("nan")), known(None)
        (0.5, None, None)
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def places(*values: float | None) -> int:
    """Decimals that show two significant digits of the largest value, at least three and at most seven."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 3 if largest == 0 else min(7, max(3, 1 - math.floor(math.log10(largest))))


def number(value: object, undefined: str = UNDEFINED) -> str:
    """A rate or gap with enough decimals to be told from zero.

    Example:
        >>> number(0.51), number(0.00132), number(None)
        ('0.510', '0.0013', 'not estimable')
    """
    found = known(value)
    return undefined if found is None else f"{found:.{places(found)}f}"


def signed(value: object, undefined: str = UNDEFINED) -> str:
    """A change, with its sign.

    Example:
        >>> signed(-0.012), signed(0.1)
        ('−0.012', '+0.100')
    """
    found = known(value)
    if found is None:
        return undefined
    return f"{found:+.{places(found)}f}".replace("-", "−")


def moved_by(change: Mapping[str, Any]) -> str:
    """A change with its interval, where it has one.

    Example:
        >>> moved_by({"value": -0.1, "low": -0.15, "high": -0.05}), moved_by({"value": 0.1})
        ('−0.100 [−0.150, −0.050]', '+0.100')
    """
    low, high = known(change.get("low")), known(change.get("high"))
    told = signed(change.get("value"))
    return told if low is None or high is None else f"{told} [{signed(low)}, {signed(high)}]"


def p_value(value: object) -> str:
    """A p-value with its sign of relation.

    Example:
        >>> p_value(0.0004), p_value(0.2), p_value(None)
        ('p < 0.001', 'p = 0.200', 'p not estimable')
    """
    found = known(value)
    if found is None:
        return f"p {UNDEFINED}"
    return "p < 0.001" if found < 0.001 else f"p = {found:.3f}"


def interval(estimate: Mapping[str, Any]) -> str:
    """The bounds of an estimate in brackets, or nothing where there are none.

    Example:
        >>> interval({"value": 0.5, "low": 0.41, "high": 0.6})
        '[0.410, 0.600]'
    """
    low, high = known(estimate.get("low")), known(estimate.get("high"))
    if low is None or high is None:
        return ""
    digits = places(known(estimate.get("value")), high)
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def measured(estimate: Mapping[str, Any]) -> str:
    """An estimate with its interval, as it stands in a sentence.

    Example:
        >>> measured({"value": 0.5, "low": 0.41, "high": 0.6})
        '0.500 [0.410, 0.600]'
    """
    return f"{number(estimate.get('value'))} {interval(estimate)}".strip()


def overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether two intervals share a point; None where a bound is unknown."""
    bounds = [known(estimate.get(end)) for estimate in (one, other) for end in ("low", "high")]
    if any(bound is None for bound in bounds):
        return None
    low, high, other_low, other_high = (bound for bound in bounds if bound is not None)
    return low <= other_high and other_low <= high


def count(value: object) -> str:
    """A whole number with thousands set apart; a dash where there is none.

    Example:
        >>> count(25331), count(None)
        ('25,331', '–')
    """
    return f"{value:,}" if isinstance(value, int) else "–"


def share(part: float, whole: float) -> str:
    """A percentage, or a dash of nothing.

    Example:
        >>> share(35, 100)
        '35.0 %'
        >>> share(0.0003, 1)
        '0.03 %'
    """
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.2g} %" if 0 < percent < 1 else f"{percent:.1f} %"


def counted(number_of: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "image"), counted(1200, "image")
        ('1 image', '1,200 images')
    """
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"


def noun_of(unit: str) -> str:
    """The thing that an id column names.

    Example:
        >>> noun_of("patient_id"), noun_of("lesion")
        ('patient', 'lesion')
    """
    return unit.removesuffix("_id") or unit


def visible(text: str) -> str:
    r"""The text without signs that show nothing or turn what follows around, so that a name cannot reverse a number.

    Example:
        >>> visible("a\u202eb"), visible("two\nlines")
        ('a�b', 'two lines')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if sign in "\t\r\n" else HIDDEN if _hidden(sign) else sign for sign in text)


def _hidden(sign: str) -> bool:
    # The two joiners are Cf as well, and some scripts cannot be written without them.
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs") and sign not in "\u200c\u200d"


def joined(words: tuple[str, ...] | list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> joined(["female", "male", "other"])
        'female, male and other'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
