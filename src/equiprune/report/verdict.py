"""The verdict in words, computed from the numbers and claiming no more than they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equiprune.report.changes import mitigation
from equiprune.report.content import Page, StepPage
from equiprune.report.numbers import (
    counted,
    interval,
    joined,
    known,
    measured,
    noun_of,
    number,
    overlap,
    p_value,
    signed,
)
from equiprune.report.sweepwords import sweep_warnings, swept_sentences
from equiprune.report.tables import GAPS

EVIDENCE = "This report describes evidence; it does not show that a model is fair or fit for clinical use."
LEVEL = 0.05
FEW = 30
TOO_FEW = 10
MOST_ENDS = 3


@dataclass(frozen=True)
class Card:
    """One figure of the verdict strip: a question, its answer, and what it rests on."""

    question: str
    answer: str
    detail: str
    tone: str = "plain"


@dataclass(frozen=True)
class Verdict:
    """What the page says first."""

    audited: str
    cards: tuple[Card, ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def verdict(page: Page) -> Verdict:
    """What was audited, the gap, whether it is chance, who is worse off, and what mitigation changed."""
    shown = page.ends if len(page.ends) <= MOST_ENDS else (page.last,)
    sentences = [] if page.sweep is None else swept_sentences(page.sweep)
    sentences += [gap_sentence(step) for step in (page.first, *shown)]
    sentences += [sentence for step in (page.first, *shown) for sentence in other_gaps(step)]
    sentences += [worst_sentence(step) for step in (shown or (page.first,))]
    sentences += mitigation(page)
    sentences += unknown(page.last)
    return Verdict(audited(page), cards(page), tuple(sentences), warnings(page))


def audited(page: Page) -> str:
    """What was audited: images, units, attribute and groups."""
    audit = page.last.audit
    unit = page.data.get("unit")
    units = f" of {counted(audit['n_units'], noun_of(str(unit)))}" if unit and audit.get("n_units") else ""
    groups = joined([f"{group} ({audit['by_group'][group]['n']:,})" for group in page.groups])
    images = counted(audit["n"], f"{page.split} image")
    return f"{images}{units}, compared by {audit['attribute']['name']}: {groups}."


def distinguishable(gap: Mapping[str, Any]) -> bool | None:
    """Whether a gap this large would be rare were error rates equal; None where the test gives no answer."""
    found = known(gap.get("p_value"))
    return None if found is None else found < LEVEL


def gap_sentence(step: StepPage) -> str:
    """The headline gap of one step, with interval, noise floor, p-value and what they mean."""
    gap = step.audit["gaps"]["eopp1"]
    named = gap.get("pair") or step.audit["attribute"]["groups"]
    pair = joined(list(named)) if len(named) == 2 else "the most distant pair of groups"
    if len(step.audit["attribute"]["groups"]) > 2 and len(named) == 2:
        pair += ", the most distant pair of groups,"
    if known(gap.get("value")) is None:
        return f"{step.name}: the gap in true-positive rate (Eopp1) is not estimable."
    few = [group for group in named if step.audit["by_group"][group]["n"] < TOO_FEW]
    answer = {
        True: "The gap is distinguishable from chance.",
        False: "The gap is not distinguishable from chance: it may be real, but these images do not show it.",
        None: "Whether it is chance cannot be said here.",
    }[None if few else distinguishable(gap)]
    if few:
        answer += f" There are fewer than {TOO_FEW} images of {joined(few)}."
    return (
        f"{step.name}: the true-positive rates of {pair} differ by {measured(gap)} on average over classes (Eopp1). "
        f"Groups with equal error rates would show about {number(gap.get('floor'))} on a sample like this "
        f"({p_value(gap.get('p_value'))}). {answer}"
    )


def other_gaps(step: StepPage) -> list[str]:
    """Gaps beside the headline that are no chance even though several are looked at; nothing where there is none."""
    others = {key: step.audit["gaps"].get(key) or {} for key in GAPS if key != "eopp1"}
    tested = {key: p for key, found in others.items() if (p := known(found.get("p_value"))) is not None}
    told = [
        f"{GAPS[key]} {measured(others[key])} ({p_value(p)})" for key, p in tested.items() if p * len(tested) < LEVEL
    ]
    if not told:
        return []
    return [
        f"{step.name}: of {len(tested)} other gaps, distinguishable from chance even when corrected for their number: "
        f"{joined(told)}."
    ]


def ranked(audit: Mapping[str, Any]) -> list[str]:
    """The groups whose F1 is known, worst first."""
    scores = {group: known(row["f1"]["value"]) for group, row in audit["by_group"].items()}
    return sorted((group for group in scores if scores[group] is not None), key=lambda group: scores[group] or 0.0)


def unknown(step: StepPage) -> list[str]:
    """What these images cannot show: gaps below the one that would be found."""
    gap = step.audit["gaps"]["eopp1"]
    seen = known(gap.get("detectable"))
    if seen is None:
        return []
    return [
        f"What is unknown: a true gap of {number(seen)} would be found on these images in 80 % of cases, a smaller one "
        f"more rarely. So a gap below {number(seen)} may be there unseen."
    ]


def worst_sentence(step: StepPage) -> str:
    """Who is worse off, and whether the intervals set the groups apart."""
    order = ranked(step.audit)
    if len(order) < 2:
        return f"{step.name}: which group is worse off cannot be said."
    low, high = (step.audit["by_group"][group]["f1"] for group in (order[0], order[-1]))
    if low["value"] == high["value"]:
        return f"{step.name}: no group is worse off by F1; all have {measured(low)}."
    apart = {
        True: "; their intervals overlap",
        False: "; their intervals do not overlap",
        None: "",
    }[overlap(low, high)]
    return (
        f"{step.name}: {order[0]} is worse off, with the lowest F1, {measured(low)}; "
        f"{order[-1]} has the highest, {measured(high)}{apart}."
    )


def cards(page: Page) -> tuple[Card, ...]:
    """The questions a reader comes with, each with its answer."""
    last = page.last.audit
    gap, f1 = last["gaps"]["eopp1"], last["overall"]["f1"]
    of = f"; {page.last.name}" if len(page.ends) > 1 else ""
    order = ranked(last)
    worst = Card("Who is worse off?", "Cannot be said", "F1 is known for fewer than two groups")
    if len(order) > 1:
        lowest, highest = (last["by_group"][group]["f1"] for group in (order[0], order[-1]))
        doubt = "; intervals overlap: may be chance" if overlap(lowest, highest) else ""
        worst = Card("Who is worse off?", order[0], f"lowest F1, {measured(lowest)}{doubt}{of}")
    few = [group for group in page.groups if last["by_group"][group]["n"] < TOO_FEW]
    chance = None if few else distinguishable(gap)
    unit = page.data.get("unit")
    units = (
        f"of {counted(last['n_units'], noun_of(str(unit)))}" if unit and last.get("n_units") else "no ids of patients"
    )
    strip = (
        Card(
            f"{page.split.capitalize()} images",
            f"{last['n']:,}",
            f"{units}; {len(page.groups)} groups of {last['attribute']['name']}",
        ),
        worst,
        Card("Gap in true-positive rate", number(gap.get("value")), f"Eopp1 {interval(gap)}{of}"),
        Card(
            "Distinguishable from chance?",
            {True: "Yes", False: "No", None: "Cannot be said"}[chance],
            f"too few images of {joined(few)}"
            if few
            else f"{number(gap.get('floor'))} expected by chance; {p_value(gap.get('p_value'))}{of}",
            "alert" if chance else "plain",  # that nothing is seen is no good news: few images see little
        ),
        Card("Overall F1", number(f1["value"]), f"macro {interval(f1)}{of}"),
    )
    return (*strip, _change_card(page)) if page.ends else strip


def _change_card(page: Page) -> Card:
    title = f"Change since {page.first.name}"
    if len(page.ends) == 1:
        return _one_change(title, page.first.audit, page.ends[0].audit)
    before = known(page.first.audit["gaps"]["eopp1"].get("value"))
    after = [known(step.audit["gaps"]["eopp1"].get("value")) for step in page.ends]
    moves = [value - before for value in after if value is not None and before is not None]
    if not moves:
        return Card(title, "Cannot be said", "gap is not estimable")
    answer = f"{signed(min(moves))} to {signed(max(moves))}"
    return Card(title, answer, f"in Eopp1, over the {len(page.ends)} models in the table below")


def _one_change(title: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Card:
    old, new = (known(audit["gaps"]["eopp1"].get("value")) for audit in (before, after))
    lost, kept = (known(audit["overall"]["f1"].get("value")) for audit in (before, after))
    if old is None or new is None or lost is None or kept is None:
        return Card(title, "Cannot be said", "gap or F1 is not estimable")
    apart = not overlap(before["gaps"]["eopp1"], after["gaps"]["eopp1"])
    doubt = "intervals do not overlap" if apart else "intervals overlap: may be chance"
    went = "larger gap" if new > old else "smaller gap" if new < old else "same gap"
    detail = f"{went} in Eopp1; {doubt}; F1 {signed(kept - lost)}"
    return Card(title, signed(new - old), detail, "alert" if new > old else "plain")


def warnings(page: Page) -> tuple[str, ...]:
    """What a reader must know before leaning on the numbers."""
    audit = page.last.audit
    found: list[str] = [] if page.sweep is None else sweep_warnings(page.sweep)
    for group in page.groups:
        n = audit["by_group"][group]["n"]
        if n < FEW:
            found.append(
                f"Only {counted(n, f'{page.split} image')} of {group}: its figures are little more than anecdotes."
            )
    skipped = skipped_classes(audit["gaps"]["eopp1"])
    if skipped:
        found.append(
            f"{skipped:,} {'class' if skipped == 1 else 'classes'} left out of Eopp1: no images in some group."
        )
    found += [
        f"{step.name} must be told the {page.data['attribute']} of every image at use, and decides by it; "
        "of an image where it is not known it gives the mean over groups."
        for step in page.steps
        if step.facts.get("needs_group")
    ]
    found += [
        f"{step.name}: no pruning iteration beat the model before pruning, which was kept as it was."
        for step in page.steps
        if step.facts.get("kept_iteration") == 0
    ]
    return tuple(map(_sentence, (*found, *(audit.get("notices") or ()), *page.notices)))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def skipped_classes(gap: Mapping[str, Any]) -> int:
    """How many classes a gap leaves out for want of support."""
    skipped = gap.get("classes_skipped") or 0
    return skipped if isinstance(skipped, int) else len(skipped)
