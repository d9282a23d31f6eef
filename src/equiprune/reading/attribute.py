"""Sensitive attributes: cells to groups, by value, by a regrouping, or as intersections of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from jaxtyping import Int

from equiprune.errors import Problem, UsageError, nearest
from equiprune.reading.table import Faults, ranges

EXAMPLE = 'Write it as "light=1,2,3;dark=4,5,6"'
REGROUPING = '"light=1-3;dark=4,5,6"; of several, "skin: light=1-3;dark=4-6 | age: young=0-39;old=40-120"'
OF_SEVERAL = 'Write it as "skin: light=1,2,3; dark=4,5,6 | age: young=0-39; old=40-120"'
UNKNOWN = -1
INTERSECTION = " & "
_LOOKS_MISSING = {"na", "n/a", "nan", "null", "none", "unknown", "-1", "?", "-", "missing", "not available"}
_WIDEST = 1000
_SHOWN = 5
RANGES = 'Ranges hold whole numbers: "young=0-39;old=40-120"'


def natural(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in the order a person expects: by number where all are whole numbers, else by text.

    Example:
        >>> natural(["10", "9"]), natural(["b", "a", "10"])
        (('9', '10'), ('10', 'a', 'b'))
    """
    distinct = sorted(set(names))
    try:
        return tuple(sorted(distinct, key=int))
    except ValueError:
        return tuple(distinct)


def regrouping(text: str | None, attributes: Sequence[str]) -> dict[str, dict[str, str]]:
    """The regrouping of each attribute, by its name: group by value; empty where values are their own groups.

    With several attributes a part names its own ("skin: light=1,2,3; dark=4,5,6"), and "|" parts the attributes.

    Raises:
        UsageError: the text is no regrouping of these attributes, with everything wrong in it.

    Example:
        >>> regrouping("low=1,2; high=3", ["skin"])
        {'skin': {'1': 'low', '2': 'low', '3': 'high'}}
        >>> regrouping("skin: low=1,2; high=3", ["sex", "skin"])
        {'sex': {}, 'skin': {'1': 'low', '2': 'low', '3': 'high'}}
    """
    found: dict[str, dict[str, str]] = {name: {} for name in attributes}
    problems: list[Problem] = []
    for part in text.split("|") if text is not None else ():
        name, sign, rest = (piece.strip() for piece in part.partition(":"))
        if len(attributes) == 1 and name != attributes[0]:
            name, sign, rest = attributes[0], ":", part
        if not sign:
            what = f"{part.strip()!r} does not say which attribute it regroups"
            problems.append(Problem(what, file="groups", hint=OF_SEVERAL))
        elif name not in found:
            what = f"there is no attribute {name!r} to regroup"
            problems.append(Problem(what, file="groups", hint=nearest(name, attributes) or OF_SEVERAL))
        elif found[name]:
            problems.append(Problem(f"the attribute {name!r} is regrouped twice", file="groups", hint=OF_SEVERAL))
        else:
            try:
                found[name] = parse_groups(rest)
            except UsageError as error:
                problems += error.problems
    if problems:
        raise UsageError(problems)
    return found


def parse_groups(text: str | None) -> dict[str, str]:
    """The regrouping of an attribute: group by value, groups in the order written.

    A range of whole numbers stands for all of them ("young=0-39;old=40-120"), and for itself, should it be a value.

    Raises:
        UsageError: the text is no regrouping, with everything wrong in it.

    Example:
        >>> parse_groups("light=1,2; dark=3-3")
        {'1': 'light', '2': 'light', '3-3': 'dark', '3': 'dark', '3.0': 'dark'}
    """
    if text is None:
        return {}
    pairs: list[tuple[str, str]] = []
    names: list[str] = []
    wrong: list[str] = []
    for part in filter(None, map(str.strip, text.split(";"))):
        name, _, listed = (piece.strip() for piece in part.partition("="))
        values = [value.strip() for value in listed.split(",")]
        if name and all(values):
            names.append(name)
            pairs += [(one, name) for value in values for one in _expanded(value)]
        else:
            wrong.append(f"{part!r} is not NAME=VALUE,VALUE")
    wrong += [f"the range {value} runs backwards" for value in _backwards([value for value, _ in pairs])]
    wrong += [f"group {name!r} is named twice" for name in _twice(names)]
    wrong += [f"value {value!r} is listed twice" for value in _twice([value for value, _ in pairs])]
    if not wrong and len(names) < 2:
        wrong.append("fewer than two groups are named")
    if wrong:
        raise UsageError([Problem(what, file="groups", hint=EXAMPLE) for what in wrong])
    return dict(pairs)


def _expanded(value: str) -> list[str]:
    first, sign, last = value.partition("-")
    if sign and first.isdecimal() and last.isdecimal() and int(first) <= int(last) < int(first) + _WIDEST:
        whole = range(int(first), int(last) + 1)
        return [value, *map(str, whole), *(f"{number}.0" for number in whole)]  # some programs write 63 as 63.0
    return [value]


def _backwards(values: list[str]) -> list[str]:
    ends = {value: value.partition("-") for value in values}
    return [
        value
        for value, (first, _, last) in ends.items()
        if first.isdecimal() and last.isdecimal() and int(first) > int(last)
    ]


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def group_rows(
    cells: Sequence[str], rows: Sequence[int], column: str, group_of: dict[str, str], missing: set[str], faults: Faults
) -> list[str]:
    """The group's name in each row, "" where unknown; values that belong to no group go to `faults`.

    Args:
        cells: the attribute as written.
        rows: the line of each cell.
        column: the attribute's name.
        group_of: a regrouping, empty for each value being its own group.
        missing: values that mean unknown, besides blank.
        faults: where problems are noted.
    """
    if not group_of:
        return ["" if cell in missing else cell for cell in cells]
    strays: dict[str, list[int]] = {}
    unused = sorted(set(group_of) - set(cells))
    for cell, row in zip(cells, rows, strict=True):
        if cell and cell not in group_of and cell not in missing:
            strays.setdefault(cell, []).append(row)
    for value, lines in list(strays.items())[:_SHOWN]:
        spoken = f"{len(lines):,} {'row' if len(lines) == 1 else 'rows'}: {ranges(lines)}"
        listed = unused if get_close_matches(value, unused, n=1) else group_of  # what no row has is misspelt
        near = "" if value[:1].isdigit() else f"{nearest(value, listed)} "
        hint = f"{near}List it in a group, or under missing"
        what = f"value {value!r} belongs to no group ({spoken})"
        faults.add(f"stray {value}", what, row=lines[0], column=column, hint=hint)
    if (more := len(strays) - _SHOWN) > 0:
        faults.add("strays", f"{more:,} more values belong to no group", column=column, hint=RANGES)
    return ["" if cell in missing else group_of.get(cell, "") for cell in cells]


def grouped(
    columns: Mapping[str, Sequence[str]],
    rows: Sequence[int],
    group_of: Mapping[str, dict[str, str]],
    missing: set[str],
    faults: Faults,
) -> tuple[list[str], tuple[str, ...]]:
    """Every row's group, "" where any attribute is unknown, and the groups: as written, else by number or name.

    Several attributes make intersections ("female & dark"): the groups are then those that rows have.

    Args:
        columns: the cells of each attribute.
        rows: the line of each cell.
        group_of: `regrouping`.
        missing: values that mean unknown, besides blank.
        faults: where problems are noted.

    Example:
        >>> grouped({"sex": ["m", "f"], "skin": ["1", ""]}, [2, 3], {"sex": {}, "skin": {}}, set(), Faults("t.csv"))
        (['m & 1', ''], ('m & 1',))
    """
    named = {name: group_of.get(name, {}) for name in columns}  # an intersection read back is a column of its own
    parts = [group_rows(cells, rows, name, named[name], missing, faults) for name, cells in columns.items()]
    orders = [
        tuple(dict.fromkeys(named[name].values())) or natural(filter(None, part))
        for name, part in zip(columns, parts, strict=True)
    ]
    if len(parts) == 1:
        return parts[0], orders[0]
    place = [{name: index for index, name in enumerate(order)} for order in orders]
    both = [row if all(row) else None for row in zip(*parts, strict=True)]
    ordered = sorted(set(both) - {None}, key=lambda row: [place[i][name] for i, name in enumerate(row or ())])
    return [INTERSECTION.join(row or ()) for row in both], tuple(INTERSECTION.join(row or ()) for row in ordered)


def coded(names: Sequence[str], order: tuple[str, ...]) -> Int[np.ndarray, " row"]:
    """Index of each name in `order`; -1 for a name that is not in it.

    Example:
        >>> coded(["b", "", "a"], ("a", "b")).tolist()
        [1, -1, 0]
    """
    place = {name: index for index, name in enumerate(order)}
    return np.array([place.get(name, UNKNOWN) for name in names], dtype=np.int64)


def looks_missing(name: str) -> bool:
    """Whether a value looks as if it meant unknown; only the user can say so.

    Example:
        >>> looks_missing("Unknown"), looks_missing("female")
        (True, False)
    """
    return name.strip().casefold() in _LOOKS_MISSING


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in case or spacing.

    Example:
        >>> look_alikes(["F", "f", "M"])
        [['F', 'f']]
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [same for same in alike.values() if len(same) > 1]
