"""What the verdict says of several models that branches or runs end with."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from equiprune.report.changes import mitigation, preferences, smaller, who_paid
from equiprune.report.page import Page, StepPage, render
from equiprune.report.standards import standards
from equiprune.report.tables import ends
from equiprune.report.verdict import verdict


def made(step: StepPage, name: str, gap: float, f1: float, **parts: Any) -> StepPage:  # noqa: ANN401
    """The step with another Eopp1 and another F1, overall and in every group; intervals are 0.01 on either side."""
    audit = json.loads(json.dumps(step.audit))
    audit["gaps"]["eopp1"] |= {"value": gap, "low": gap - 0.01, "high": gap + 0.01, "floor": 0.01}
    for row in (audit["overall"], *audit["by_group"].values()):
        row["f1"] = {"value": f1, "low": f1 - 0.01, "high": f1 + 0.01}
    return dataclasses.replace(step, name=name, audit=audit, **parts)


@pytest.fixture
def branched(page: Page) -> Page:
    """As recipes/cxr.toml: a baseline, pruned from it; an adversarial model, and pruned from that."""
    return dataclasses.replace(
        page,
        steps=(
            made(page.first, "01-vanilla", 0.20, 0.60, leads_on=True),
            made(page.last, "02-layer_pruning", 0.10, 0.55, after="01-vanilla"),
            made(page.last, "03-gradient_reversal", 0.05, 0.50, leads_on=True),
            made(page.last, "04-layer_pruning", 0.215, 0.60, after="03-gradient_reversal"),
        ),
    )


def test_each_branch_is_held_against_the_baseline(branched: Page) -> None:
    assert [step.name for step in branched.ends] == ["02-layer_pruning", "04-layer_pruning"]
    said = " ".join(verdict(branched).sentences)
    assert "Eopp1 changed by −0.100 in 02-layer_pruning and +0.015 in 04-layer_pruning." in said
    assert "do not overlap with the baseline's in 02-layer_pruning; each is one training run" in said
    assert (
        "02-layer_pruning: F1 by group moved: female −0.050 and male −0.050. The gap shrank and no group gained" in said
    )
    assert "From 01-vanilla to" not in said
    assert "02-layer_pruning: the true-positive rates" in said
    assert "03-gradient_reversal: the" not in said


def test_the_table_has_each_branch_and_where_it_came_from(branched: Page) -> None:
    rows = ends(branched).rows
    assert [row[0] for row in rows] == ["02-layer_pruning", "04-layer_pruning, from 03-gradient_reversal"]
    assert rows[0][3] == "−0.100; intervals do not overlap"
    assert rows[0][4] == "female −0.050 and male −0.050; levelling down"
    assert rows[1][3] == "+0.015; intervals overlap"
    html = render(branched)
    assert "Each model that a branch or a run ends with, against 01-vanilla" in html
    assert ">Verdict</h2>" in html


def test_the_boxes_say_which_model_they_are_of(branched: Page) -> None:
    cards = {card.question: card for card in verdict(branched).cards}
    assert cards["Overall F1"].detail.endswith("; 04-layer_pruning")
    assert cards["Change since 01-vanilla"].answer == "−0.100 to +0.015"
    told = {item.question: item.answer for item in standards(branched)}
    assert "(vanilla); 02-layer_pruning (" in told["What was trained, and what was done about unfairness?"]


def test_one_end_is_told_as_before(page: Page) -> None:
    assert ends(page).rows == ()
    assert "Verdict on 02-fairprune" in render(page)
    assert "From 01-vanilla to 02-fairprune" in " ".join(mitigation(page))
    assert mitigation(dataclasses.replace(page, steps=page.steps[:1])) == []


def test_of_many_ends_only_the_extremes_are_named(page: Page) -> None:
    many = [made(page.last, f"run{at}/02-fairprune", 0.19 - 0.02 * at, 0.59) for at in range(7)]
    wide = dataclasses.replace(page, steps=(made(page.first, "a/01-vanilla", 0.2, 0.6), *many))
    said = " ".join(mitigation(wide))
    assert "Eopp1 changed by −0.130 in run6/02-fairprune to −0.010 in run0/02-fairprune; the table has each." in said
    assert "levelling down, in run0/02-fairprune, run1/02-fairprune" in said
    assert "and 2 more." in said
    assert len(ends(wide).rows) == 7
    assert len(verdict(wide).sentences) < 20


def test_what_is_not_estimable_in_a_branch_is_said(branched: Page) -> None:
    def without(step: StepPage) -> StepPage:
        audit = json.loads(json.dumps(step.audit))
        nothing = {"value": None, "low": None, "high": None, "floor": None, "p_value": None}
        audit["gaps"]["eopp1"] = nothing
        audit["by_group"]["female"]["f1"] = nothing
        return dataclasses.replace(step, audit=audit)

    bare = dataclasses.replace(branched, steps=(branched.first, *map(without, branched.steps[1:])))
    assert ends(bare).rows[0][3:5] == ("not estimable", "not estimable")
    assert verdict(bare).cards[-1].answer == "Cannot be said"
    assert "Eopp1 changed by not estimable in 02-layer_pruning" in " ".join(mitigation(bare))
    many = [dataclasses.replace(without(branched.last), name=str(at)) for at in range(6)]
    assert "Eopp1: no change is estimable." in mitigation(dataclasses.replace(bare, steps=(branched.first, *many)))
    assert who_paid(branched.first.audit, bare.last.audit) is None
    assert preferences(branched.first, bare.ends) == []
    assert smaller(branched.first, dataclasses.replace(branched.last, facts={})) is None


def test_gaps_that_are_all_at_the_floor_are_no_evidence(page: Page) -> None:
    steps = [made(page.last, f"0{at}-x", 0.005, 0.6) for at in range(3)]
    said = mitigation(dataclasses.replace(page, steps=tuple(steps)))
    assert any("none is evidence of a change" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("gap", "f1", "told"),
    [
        (0.1, 0.6, "a smaller gap and no change of F1 that could not be chance, as far as"),
        (0.1, 0.6, "That speaks for 02-x."),
        (0.1, 0.5, "Which of them weighs more is for people to decide."),
        (0.2, 0.5, "less F1, as far as intervals that do not overlap show it. That speaks for 01-vanilla."),
        (0.2, 0.7, "more F1, as far as intervals that do not overlap show it. That speaks for 02-x."),
        (0.3, 0.6, "a larger gap"),
        (0.195, 0.605, "These images do not set them apart"),
    ],
)
def test_which_to_choose_is_said_as_far_as_the_images_say_it(page: Page, gap: float, f1: float, told: str) -> None:
    first, end = made(page.first, "01-vanilla", 0.2, 0.6), made(page.last, "02-x", gap, f1)
    (sentence,) = preferences(first, [end])
    assert told in sentence
    assert sentence in mitigation(dataclasses.replace(page, steps=(first, end)))


def test_models_of_which_the_same_is_said_are_named_together(page: Page) -> None:
    first = made(page.first, "01-vanilla", 0.2, 0.6)
    others = [made(page.last, name, gap, 0.6) for name, gap in (("a", 0.2), ("b", 0.1), ("c", 0.195))]
    said = preferences(first, others)
    assert [sentence.partition(" have no ")[0].partition(" has a ")[0] for sentence in said] == [
        "Which model to choose? Against 01-vanilla, a and c",
        "Which model to choose? Against 01-vanilla, b",
    ]
