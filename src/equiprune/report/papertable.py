"""The table of methods, laid out as in the papers, for the page and as CSV, LaTeX and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equiprune.report.changes import fate_of
from equiprune.report.content import Model
from equiprune.report.numbers import known, visible

MEASURES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
CRITERIA = {"eopp0": "Eopp0", "eopp1": "Eopp1", "eodd": "Eodd"}
AVG, DIFF = "Avg", "Diff"
PLACES = 3
NONE = "–"


@dataclass(frozen=True)
class Line:
    """A group of one method, or the mean over groups, or their largest difference.

    Args:
        group: the group's name; blank in a sum.
        summary: `Avg`, `Diff`, or blank.
        values: precision, recall and F1; None is not estimable.
    """

    group: str
    summary: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Part:
    """One method: its lines, and its gaps, each with FATE against the baseline.

    Args:
        name: of the model.
        lines: a line a group, then Avg and Diff.
        gaps: Eopp0, Eopp1 and Eodd.
        fates: of the three; None for the baseline and where it is undefined.
    """

    name: str
    lines: tuple[Line, ...]
    gaps: tuple[float | None, ...]
    fates: tuple[float | None, ...]


def parts(models: Sequence[Model]) -> tuple[Part, ...]:
    """Each model's part of the table; the first is the baseline."""
    return tuple(_part(model, baseline=at == 0) for at, model in enumerate(models))


def _part(model: Model, *, baseline: bool) -> Part:
    rows = {
        group: tuple(_value(row.get(measure)) for measure in MEASURES) for group, row in model.audit["by_group"].items()
    }
    columns = [_whole(column) for column in zip(*rows.values(), strict=True)]
    lines = [Line(group, "", values) for group, values in rows.items()]
    lines.append(Line("", AVG, tuple(sum(column) / len(column) if column else None for column in columns)))
    lines.append(Line("", DIFF, tuple(max(column) - min(column) if column else None for column in columns)))
    return Part(
        name=model.name,
        lines=tuple(lines),
        gaps=tuple(_value(model.audit["gaps"].get(gap)) for gap in CRITERIA),
        fates=tuple(None if baseline else fate_of(model.audit, gap) for gap in CRITERIA),
    )


def _value(found: Mapping[str, Any] | None) -> float | None:
    return known((found or {}).get("value"))


def _whole(column: Sequence[float | None]) -> list[float]:
    found = [value for value in column if value is not None]
    return found if len(found) == len(column) else []


def rounded(value: float | None) -> str:
    """As it stands in a paper: three decimals, a dash where there is none.

    Example:
        >>> rounded(0.51049), rounded(None)
        ('0.510', '–')
    """
    return NONE if value is None else f"{value:.{PLACES}f}"


def gap_and_fate(part: Part) -> list[str]:
    """Each gap with FATE behind it.

    Example:
        >>> gap_and_fate(Part("SCP", (), (0.0012, 0.33, None), (0.5, -0.1, None)))
        ['0.001 / 0.500', '0.330 / −0.100', '– / –']
    """
    return [
        f"{rounded(gap)} / {rounded(fate).replace('-', '−')}" for gap, fate in zip(part.gaps, part.fates, strict=True)
    ]


def as_csv(table: Sequence[Part]) -> str:
    """A line a group, with every number in full; blank where there is none. Avg and Diff stand in the column `row`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fates = [f"fate_{gap}" for gap in CRITERIA]
    writer.writerow(("method", "row", "group", *MEASURES, *CRITERIA, *fates))
    for part in table:
        for line in part.lines:
            values = [*line.values, *part.gaps, *part.fates]
            numbers = ["" if value is None else repr(value) for value in values]
            kind = line.summary.lower() or "group"
            writer.writerow((visible(part.name), kind, visible(line.group), *numbers))
    return text.getvalue()


def as_markdown(table: Sequence[Part]) -> str:
    """A table for a README or a supplement."""
    head = ("Method", "Group", *MEASURES.values(), *(f"{title} / FATE" for title in CRITERIA.values()))
    rows = [_line(head), _line(["---"] * 2 + ["---:"] * (len(head) - 2))]
    for part in table:
        gaps = gap_and_fate(part)
        for at, line in enumerate(part.lines):
            name = _plain(part.name) if at == 0 else ""
            cells = (name, line.summary or _plain(line.group), *map(rounded, line.values))
            rows.append(_line((*cells, *(gaps if at == 0 else [""] * len(gaps)))))
    return "\n".join(rows) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: its signs escaped, and no HTML."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+!|~$" else sign for sign in shown)


LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def as_latex(table: Sequence[Part]) -> str:
    """A `tabular` for the packages booktabs and multirow."""
    head = [
        "Method",
        "Group",
        *MEASURES.values(),
        *(f"{title} $\\downarrow$ / FATE $\\uparrow$" for title in CRITERIA.values()),
    ]
    rows = [
        "% needs \\usepackage{booktabs,multirow}",
        f"\\begin{{tabular}}{{ll{'c' * (len(head) - 2)}}}",
        "\\toprule",
        " & ".join(head) + r" \\",
    ]
    for part in table:
        rows.append("\\midrule")
        count = len(part.lines)
        for at, line in enumerate(part.lines):
            name = _spanning(count, _latex(part.name)) if at == 0 else ""
            gaps = [_spanning(count, _latex(cell)) if at == 0 else "" for cell in gap_and_fate(part)]
            group = {AVG: r"Avg $\uparrow$", DIFF: r"Diff $\downarrow$"}.get(line.summary) or _latex(line.group)
            rows.append(" & ".join((name, group, *(_latex(rounded(value)) for value in line.values), *gaps)) + r" \\")
    return "\n".join([*rows, "\\bottomrule", "\\end{tabular}", ""])


def _spanning(rows: int, text: str) -> str:
    return f"\\multirow{{{rows}}}{{*}}{{{text}}}"


def _latex(text: str) -> str:
    shown = "".join(LATEX.get(sign, sign) for sign in visible(text))
    return shown.replace("–", "--").replace("−", "$-$")
