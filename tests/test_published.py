"""Published tables as data: what is in them, and the marks that are found rather than typed."""

from __future__ import annotations

import math

import pytest

from equiprune.errors import UsageError
from equiprune.methods import METHODS
from equiprune.metrics.tradeoff import CRITERIA, fate
from equiprune.published import FATE_DIFFERS, TABLES, Row, Table, follows, table

FIRST = Row(name="Vanilla", cells={"f1": "0.510", "eopp1": "0.361"})


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_read_and_its_cells_are_numbers(name: str) -> None:
    found = table(name)
    names = [row.name for row in found.row]
    assert len(set(names)) == len(names)
    for row in found.row:
        assert set(row.cells) <= set(found.measures)
        assert set(row.marks) <= {*found.measures, "row"}
        assert set(row.made) <= set(METHODS)
        assert all(math.isfinite(float(cell)) for cell in row.cells.values())


def test_the_cells_of_the_fitzpatrick_table_are_those_whose_fate_is_exact() -> None:
    found = table("scp-fitzpatrick17k")
    first = found.row[0]
    cells = [(row, gap) for row in found.row for gap in CRITERIA if f"fate_{gap}" in row.cells]
    assert len(cells) == 21
    for row, gap in cells:
        values = [row.value("f1"), first.value("f1"), row.value(gap), first.value(gap)]
        known = [value for value in values if value is not None]
        assert fate(*known) == pytest.approx(row.value(f"fate_{gap}"), abs=0.5001e-4)
    assert FATE_DIFFERS not in [why for _, _, why in found.marked()]


def test_a_fate_that_does_not_follow_is_marked_unless_a_reason_is_typed() -> None:
    wrong = {"f1": "0.483", "eopp1": "0.330", "fate_eopp1": "0.329"}
    rows = (FIRST, Row(name="A", cells=wrong), Row(name="B", cells=wrong, marks={"fate_eopp1": "a slip"}))
    made = Table(title="t", source="s", data="d", measures=("f1", "eopp1", "fate_eopp1"), row=rows)
    assert [(row.name, measure, why) for row, measure, why in made.marked()] == [
        ("A", "fate_eopp1", FATE_DIFFERS),
        ("B", "fate_eopp1", "a slip"),
    ]


def test_what_is_not_at_hand_cannot_be_wrong() -> None:
    assert follows(Row(name="A", cells={"f1": "0.483", "fate_eopp1": "9"}), FIRST, "eopp1")
    assert FIRST.value("eodd") is None


def test_an_unknown_table_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="scp-isic2019"):
        table("scp-isic2018")
