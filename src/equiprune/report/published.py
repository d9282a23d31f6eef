"""Runs beside the published table that their recipe names, and which of its cells are marked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equiprune.choosing import half_width
from equiprune.metrics.tradeoff import CRITERIA, fate, mean_f1
from equiprune.published import ROW, Row, Table, table
from equiprune.report.content import Page
from equiprune.report.numbers import interval, known, places, visible
from equiprune.report.papertable import LATEX, NONE
from equiprune.rundir import RunFolder, StepFolder

TITLES = {
    "f1": "F1", "eopp0": "Eopp0", "eopp1": "Eopp1", "eodd": "Eodd",
    "fate_eopp0": "FATE, Eopp0", "fate_eopp1": "FATE, Eopp1", "fate_eodd": "FATE, Eodd",
    "tpr": "ΔTPR", "fpr": "ΔFPR", "ppv": "ΔPPV",
}  # fmt: skip
SIGNS = ("†", "‡", "§", "¶", "‖")
ABSENT = "not at hand"
NOT_RUN = "not run"
UNDEFINED = "not estimable"
CHANCE = "Chance"
FATE = "fate_"


@dataclass(frozen=True)
class Cell:
    """A measure of one method.

    Args:
        measure: f1, eopp1, fate_eopp1, ...
        printed: as the source has it; None where it is not at hand.
        signs: of the footnotes that the printed value has.
        values: ours, one a run; nan is not estimable. None where no run has such a model.
        bounds: of one run's value, in brackets; blank where it has none, or there are several runs.
        void: the measure has no meaning here: FATE of the baseline against itself.
    """

    measure: str
    printed: str | None
    signs: str
    values: tuple[float, ...] | None
    bounds: str = ""
    void: bool = False

    @property
    def mean(self) -> float | None:
        """Of ours over runs; None where one is not estimable."""
        return None if self.values is None else known(float(np.mean(self.values)))

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval over runs."""
        return None if self.values is None else known(half_width(self.values))

    @property
    def theirs(self) -> str:
        """What is printed, with its signs."""
        found = ABSENT if self.printed is None else self.printed.replace("-", "−")
        return NONE if self.void else found + self.signs

    @property
    def ours(self) -> str:
        """Ours in words."""
        if self.void or self.values is None:
            return NONE if self.void else NOT_RUN
        if self.mean is None:
            return UNDEFINED
        digits = places(self.mean)
        told = f"{self.mean:.{digits}f}".replace("-", "−")
        told += "" if self.half is None else f" ± {self.half:.{digits}f}"
        return f"{told} {self.bounds}".rstrip()


@dataclass(frozen=True)
class Line:
    """A method of the table, and the signs of the footnotes on all of it."""

    name: str
    signs: str
    cells: tuple[Cell, ...]

    @property
    def absent(self) -> bool:
        """Whether nothing of what is printed is at hand, or marked."""
        return all(cell.printed is None and not cell.signs for cell in self.cells)


@dataclass(frozen=True)
class Beside:
    """The section of the page.

    Args:
        title: of the table.
        sentences: what stands beside what, and how far the two can be compared.
        measures: the columns.
        lines: a method each, the baseline first.
        chance: our noise floor of each measure, nan where it has none.
        footnotes: sign and text.
        runs: how many of ours the figures rest on.
    """

    title: str
    sentences: tuple[str, ...]
    measures: tuple[str, ...]
    lines: tuple[Line, ...]
    chance: tuple[float, ...]
    footnotes: tuple[tuple[str, str], ...]
    runs: int

    @property
    def head(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(TITLES[measure] for measure in self.measures)

    @property
    def floors(self) -> tuple[str, ...]:
        """The noise floors in words."""
        return tuple("" if math.isnan(value) else f"{value:.{places(value)}f}" for value in self.chance)


def with_published(page: Page, runs: Sequence[RunFolder]) -> Page:
    """The page with that section, where the first run's recipe names a published table.

    Args:
        page: of the runs.
        runs: in the order of the page; those that are not complete are not on it.
    """
    whole = [run for run in runs if run.complete] or list(runs)
    if not names_table(whole[0]):
        return page
    recipe = whole[0].read()["recipe"]
    alike = [run for run in whole if _but_seed(run) == _but_seed(whole[0])]
    audits = {model.name: model.audit for model in page.models}
    found = []
    for run in alike:
        prefix = "" if len(whole) == 1 else f"{run.path.resolve().name}/"
        found.append({made: audits[prefix + step.name] for step, made in _made(run) if prefix + step.name in audits})
    return replace(page, published=_beside(table(recipe["published"]), found, page, recipe, len(whole) - len(alike)))


def names_table(run: RunFolder) -> bool:
    """Whether a run's recipe names a published table."""
    return bool(run.read()["recipe"].get("published"))


def _but_seed(run: RunFolder) -> dict[str, Any]:
    return {key: value for key, value in run.read()["recipe"].items() if key != "seed"}


def _made(run: RunFolder) -> Iterator[tuple[StepFolder, tuple[str, ...]]]:
    """Every step with the methods that made its model, its own last."""
    chains: dict[int, tuple[str, ...]] = {0: ()}
    for step in run.steps():
        number, record = int(step.name.partition("-")[0]), step.read()
        if number:  # 0 is a model that was given: which methods made it is not known
            chains[number] = (*chains.get(record.get("start", number - 1), ()), record["method"])
            yield step, chains[number]


def _beside(
    printed: Table,
    found: Sequence[Mapping[tuple[str, ...], Mapping[str, Any]]],
    page: Page,
    recipe: Mapping[str, Any],
    others: int,
) -> Beside:
    texts = list(dict.fromkeys(why for _, _, why in printed.marked()))
    signs = {why: SIGNS[at % len(SIGNS)] * (1 + at // len(SIGNS)) for at, why in enumerate(texts)}
    marks: dict[tuple[str, str], str] = {}
    for row, measure, why in printed.marked():
        marks[row.name, measure] = marks.get((row.name, measure), "") + signs[why]
    first = printed.row[0].made
    lines = []
    for row in printed.row:
        ours = [(audits[row.made], audits.get(first)) for audits in found if row.made in audits]
        cells = tuple(_cell(row, measure, marks.get((row.name, measure), ""), ours) for measure in printed.measures)
        if row is printed.row[0]:
            cells = tuple(replace(cell, void=cell.measure.startswith(FATE)) for cell in cells)
        lines.append(Line(row.name, marks.get((row.name, ROW), ""), cells))
    bases = [audits[first] for audits in found if first in audits]
    return Beside(
        title=printed.title,
        sentences=tuple(_sentences(printed, len(found), page, recipe, others)),
        measures=printed.measures,
        lines=tuple(lines),
        chance=tuple(_floor(bases, measure) for measure in printed.measures),
        footnotes=tuple((signs[why], why) for why in texts),
        runs=len(found),
    )


def _cell(
    row: Row, measure: str, signs: str, ours: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]
) -> Cell:
    printed = row.cells.get(measure)
    if not ours:
        return Cell(measure, printed, signs, None)
    values = tuple(_value(audit, base, measure) for audit, base in ours)
    alone = len(ours) == 1 and measure in CRITERIA
    return Cell(measure, printed, signs, values, interval(ours[0][0]["gaps"][measure]) if alone else "")


def _value(audit: Mapping[str, Any], base: Mapping[str, Any] | None, measure: str) -> float:
    """Of one run's model; FATE against the same run's baseline."""
    if measure == "f1":
        return _f1(audit)
    if measure.startswith(FATE):
        gap = measure.removeprefix(FATE)
        if base is None:
            return math.nan
        return fate(_f1(audit), _f1(base), _number(audit, gap, "value"), _number(base, gap, "value"))
    return _number(audit, measure, "value" if measure in CRITERIA else "signed")


def _f1(audit: Mapping[str, Any]) -> float:
    found = [known(figures["f1"]["value"]) for figures in audit["by_group"].values()]
    return float(mean_f1(np.array([math.nan if value is None else value for value in found])))


def _number(audit: Mapping[str, Any], gap: str, key: str) -> float:
    found = known(audit["gaps"][gap].get(key))
    return math.nan if found is None else found


def _floor(bases: Sequence[Mapping[str, Any]], measure: str) -> float:
    if measure not in CRITERIA or not bases:
        return math.nan
    return float(np.mean([_number(audit, measure, "floor") for audit in bases]))


def _sentences(printed: Table, runs: int, page: Page, recipe: Mapping[str, Any], others: int) -> Iterator[str]:
    if recipe.get("smoke"):
        yield "This is a smoke run: our figures are of synthetic images and mean nothing beside these."
    yield f"Printed: {printed.source}. {printed.data}."
    if runs > 1:
        yield (
            f"Ours: mean of {runs} runs that differ in nothing but the seed, ± half of the 95 % interval over them. "
            "That is chance in training alone: the test images are the same."
        )
    else:
        yield "Ours: one run, gaps with their 95 % interval. FATE is against the run's own baseline."
    agree = "The two need not agree: the split, the seeds, and what the source does not say are ours."
    if set(CRITERIA) & set(printed.measures):
        agree += (
            f" On a test set of {page.last.audit['n']:,} images a perfectly fair model shows gaps as in the line "
            f"“{CHANCE}”; differences between gaps below that say nothing."
        )
    yield agree
    yield from printed.notes
    if others:
        yield f"{others} of the runs have other settings than the first and are not in this table."


def as_csv(found: Beside) -> str:
    """A line a method and measure, numbers in full; blank where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "measure", "printed", "marks", "row_marks", "ours", "half_interval", "runs", "chance"))
    for line in found.lines:
        for cell, floor in zip(line.cells, found.chance, strict=True):
            numbers = ["" if cell.void or value is None else repr(value) for value in (cell.mean, cell.half)]
            count = 0 if cell.values is None else len(cell.values)
            chance = "" if math.isnan(floor) else repr(floor)
            writer.writerow(
                (line.name, cell.measure, cell.printed or "", cell.signs, line.signs, *numbers, count, chance)
            )
    return text.getvalue()


def _rows(found: Beside) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for line in found.lines:
        yield line.name + line.signs, "printed", tuple(cell.theirs for cell in line.cells)
        yield "", "ours", tuple(cell.ours for cell in line.cells)
    if any(found.floors):
        yield CHANCE, "ours", found.floors


def as_markdown(found: Beside) -> str:
    """Two lines a method, what is printed and ours; the footnotes below."""
    rows = [("Method", "", *found.head), ("---", "---", *("---:" for _ in found.head))]
    rows += [(name, kind, *cells) for name, kind, cells in _rows(found)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    below = [*found.sentences, *(f"{sign} {text}" for sign, text in found.footnotes)]
    return "\n\n".join(["\n".join(lines), *below]) + "\n"


SYMBOLS = {
    **LATEX, "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\|$",
    "±": r"$\pm$", "−": "$-$", "–": "--", "Δ": r"$\Delta$",
}  # fmt: skip


def as_latex(found: Beside) -> str:
    """A `tabular` for the package booktabs; what stands below the table is in comments."""
    rows = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{ll{'c' * len(found.head)}}}",
        "\\toprule",
        " & ".join(("Method", "", *map(_latex, found.head))) + r" \\",
    ]
    for name, kind, cells in _rows(found):
        rows += ["\\midrule"] if name else []
        rows.append(" & ".join(map(_latex, (name, kind, *cells))) + r" \\")
    rows += ["\\bottomrule", "\\end{tabular}"]
    rows += [f"% {text}" for text in (*found.sentences, *(f"{sign} {text}" for sign, text in found.footnotes))]
    return "\n".join(rows) + "\n"


def _latex(text: str) -> str:
    return "".join(SYMBOLS.get(sign, sign) for sign in visible(text))


def files(found: Beside) -> dict[str, str]:
    """What `--tables` writes of it, by name."""
    texts = {"csv": as_csv(found), "tex": as_latex(found), "md": as_markdown(found)}
    return {f"published.{ending}": text for ending, text in texts.items()}
