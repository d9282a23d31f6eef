from __future__ import annotations

import pytest

from equiprune.errors import (
    DataError,
    EquipruneError,
    Interrupted,
    LimitExceeded,
    ModelError,
    Problem,
    UsageError,
    listed,
    nearest,
)


def test_a_problem_says_where_what_and_what_to_do() -> None:
    problem = Problem("label is blank", file="m.csv", row=3, column="dx", hint="Fill it in")
    assert str(problem) == "m.csv, row 3, column 'dx': label is blank. Fill it in"


def test_all_problems_are_told_and_many_are_counted() -> None:
    problems = [Problem(f"fault {number}") for number in range(50)]
    text = listed(problems)
    assert text.splitlines()[0] == "fault 0"
    assert text.splitlines()[-1] == "... and 10 more"
    assert DataError(problems).problems == tuple(problems)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(EquipruneError, 1), (UsageError, 2), (DataError, 3), (ModelError, 4), (LimitExceeded, 5), (Interrupted, 6)],
)
def test_exit_codes_are_those_of_the_contract(kind: type[EquipruneError], code: int) -> None:
    assert kind("x").exit_code == code


def test_nearest_ignores_case() -> None:
    assert nearest("LABEL", ["label", "sex"]) == "Did you mean 'label'?"
