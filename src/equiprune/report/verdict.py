"""The verdict in words, computed from the numbers and claiming no more than they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

EVIDENCE = "This report describes evidence; it does not show that a model is fair or fit for clinical use."
LEVEL = 0.05
FEW = 30
TOO_FEW = 10
RANDOM = "random_channels"
CHANNEL_METHODS = ("scp", "fairprune_channels")


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
    sentences = [gap_sentence(page.first)]
    if len(page.steps) > 1:
        sentences.append(gap_sentence(page.last))
    sentences.append(worst_sentence(page.last))
    if len(page.steps) > 1:
        sentences += changed(page.first, page.last)
        sentences += against_chance(page)
        saved = smaller(page)
        sentences += [] if saved is None else [saved]
    sentences += unknown(page.last)
    return Verdict(audited(page), cards(page), tuple(sentences), warnings(page))


def audited(page: Page) -> str:
    """What was audited: images, units, attribute and groups."""
    audit = page.last.audit
    unit = page.data.get("unit")
    units = f" of {counted(audit['n_units'], noun_of(str(unit)))}" if unit and audit.get("n_units") else ""
    groups = [f"{group} ({audit['by_group'][group]['n']:,})" for group in page.groups]
    return f"{counted(audit['n'], 'test image')}{units}, compared by {audit['attribute']['name']}: {joined(groups)}."


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
        answer += f" There are fewer than {TOO_FEW} test images of {joined(few)}."
    return (
        f"{step.name}: the true-positive rates of {pair} differ by {measured(gap)} on average over classes (Eopp1). "
        f"Groups with equal error rates would show about {number(gap.get('floor'))} on a sample like this "
        f"({p_value(gap.get('p_value'))}). {answer}"
    )


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


def changed(first: StepPage, last: StepPage) -> list[str]:
    """What mitigation changed, in F1, gap and FATE, with what the data cannot tell."""
    sentences = [moved("overall F1", first.audit["overall"]["f1"], last.audit["overall"]["f1"], first, last)]
    before, after = first.audit["gaps"]["eopp1"], last.audit["gaps"]["eopp1"]
    sentences.append(moved("Eopp1", before, after, first, last))
    if all(at_floor(gap) for gap in (before, after)):
        sentences.append("Both gaps are no larger than what chance alone gives, so neither is evidence of a change.")
    paid = who_paid(first.audit, last.audit)
    if paid:
        sentences.append(paid)
    fate = fate_of(last.audit, "eopp1")
    if fate is not None:
        sentences.append(
            f"FATE on Eopp1 against {first.name} is {signed(fate)}: relative change of F1 minus relative change of the "
            "gap, so above zero is a good trade. It is a point figure without an interval."
        )
    return sentences


def who_paid(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """How each group's F1 moved; levelling down is named: a smaller gap, and no group better off."""
    moves = {}
    for group, row in after["by_group"].items():
        old, new = known(before["by_group"][group]["f1"]["value"]), known(row["f1"]["value"])
        if old is None or new is None:
            return None
        moves[group] = new - old
    told = joined([f"{group} {signed(move)}" for group, move in moves.items()])
    gaps = [known(audit["gaps"]["eopp1"].get("value")) for audit in (before, after)]
    shrank = gaps[0] is not None and gaps[1] is not None and gaps[1] < gaps[0]
    if shrank and max(moves.values()) <= 0:
        return f"F1 by group moved: {told}. The gap shrank and no group gained: this is levelling down."
    return f"F1 by group moved: {told}."


def at_floor(gap: Mapping[str, Any]) -> bool:
    """Whether a gap is within what equal error rates would show."""
    value, floor = known(gap.get("value")), known(gap.get("floor"))
    return value is not None and floor is not None and value <= floor


def moved(what: str, before: Mapping[str, Any], after: Mapping[str, Any], first: StepPage, last: StepPage) -> str:
    """One sentence on how a figure moved between two steps, and whether that may be chance."""
    old, new = known(before.get("value")), known(after.get("value"))
    if old is None or new is None:
        return f"From {first.name} to {last.name}, the change in {what} is not estimable."
    doubt = {
        True: "the intervals overlap, so the change may be chance",
        False: "the intervals do not overlap; this is one training run, and another seed may differ",
        None: "without intervals this cannot be told from chance",
    }[overlap(before, after)]
    went = f"{what} went from {number(old)} to {number(new)} ({signed(new - old)})"
    return f"From {first.name} to {last.name}, {went}; {doubt}."


def against_chance(page: Page) -> list[str]:
    """Whether channels cut at random changed the gap as much as a method did; nothing without both."""
    drawn = [step for step in page.steps if step.method == RANDOM]
    chosen = [step for step in page.steps if step.method in CHANNEL_METHODS]
    before = known(page.first.audit["gaps"]["eopp1"].get("value"))
    if not drawn or not chosen or before is None:
        return []
    moves = [known(step.audit["gaps"]["eopp1"].get("value")) for step in drawn]
    control = [move - before for move in moves if move is not None]
    sentences = []
    for step in chosen:
        now = known(step.audit["gaps"]["eopp1"].get("value"))
        if now is None or not control:
            continue
        told = joined([signed(move) for move in control])
        gain, best = now - before, min(control)
        answer = (
            "did not shrink the gap"
            if gain >= 0
            else "shrank it more than every control did; `equiprune compare` tests the difference"
            if gain < best
            else "gained nothing that random channels do not give as well"
        )
        sentences.append(
            f"Control: {step.name} moved Eopp1 by {signed(gain)}, channels cut at random by {told}. "
            f"The method {answer}."
        )
    return sentences


def smaller(page: Page) -> str | None:
    """What pruning saved, in a sentence; None where there is one step, or nothing was measured."""
    first, last = page.first.facts, page.last.facts
    before, after = known(first.get("parameters")), known(last.get("parameters"))
    if len(page.steps) == 1 or not before or not after:
        return None
    zeros = last.get("zeros") or 0
    if after < before:
        told = f"Channels were cut for good: {after / before:.1%} of the parameters are left"
        work = known(first.get("flops")), known(last.get("flops"))
        if work[0] and work[1]:
            told += f", and {work[1] / work[0]:.1%} of the arithmetic"
        return told.replace("%", " %") + ". How much time that saves is measured below."
    if zeros:
        return (
            f"{zeros:,} weights are held at zero. The model is as large and as slow as before: "
            "zeros among weights save neither time nor space on usual hardware."
        )
    return None


def fate_of(audit: Mapping[str, Any], gap: str) -> float | None:
    """FATE against the first step, where the audit has it and it is defined."""
    found = (audit.get("fate") or {}).get(gap)
    return known(found.get("value")) if isinstance(found, Mapping) else known(found)


def cards(page: Page) -> tuple[Card, ...]:
    """The questions a reader comes with, each with its answer."""
    last = page.last.audit
    gap, f1 = last["gaps"]["eopp1"], last["overall"]["f1"]
    order = ranked(last)
    worst = Card("Who is worse off?", "Cannot be said", "F1 is known for fewer than two groups")
    if len(order) > 1:
        lowest, highest = (last["by_group"][group]["f1"] for group in (order[0], order[-1]))
        doubt = "; intervals overlap: may be chance" if overlap(lowest, highest) else ""
        worst = Card("Who is worse off?", order[0], f"lowest F1, {measured(lowest)}{doubt}")
    few = [group for group in page.groups if last["by_group"][group]["n"] < TOO_FEW]
    chance = None if few else distinguishable(gap)
    unit = page.data.get("unit")
    units = (
        f"of {counted(last['n_units'], noun_of(str(unit)))}" if unit and last.get("n_units") else "no ids of patients"
    )
    strip = (
        Card("Test images", f"{last['n']:,}", f"{units}; {len(page.groups)} groups of {last['attribute']['name']}"),
        worst,
        Card("Gap in true-positive rate", number(gap.get("value")), f"Eopp1 {interval(gap)}"),
        Card(
            "Distinguishable from chance?",
            {True: "Yes", False: "No", None: "Cannot be said"}[chance],
            f"too few test images of {joined(few)}"
            if few
            else f"{number(gap.get('floor'))} expected by chance; {p_value(gap.get('p_value'))}",
            {True: "alert", False: "calm", None: "plain"}[chance],
        ),
        Card("Overall F1", number(f1["value"]), f"macro {interval(f1)}"),
    )
    return strip if len(page.steps) == 1 else (*strip, _change_card(page))


def _change_card(page: Page) -> Card:
    pairs = [(step.audit["overall"]["f1"], step.audit["gaps"]["eopp1"]) for step in (page.first, page.last)]
    (f1_before, gap_before), (f1_after, gap_after) = pairs
    old, new = known(gap_before.get("value")), known(gap_after.get("value"))
    lost, kept = known(f1_before.get("value")), known(f1_after.get("value"))
    if old is None or new is None or lost is None or kept is None:
        return Card(f"Change since {page.first.name}", "Cannot be said", "gap or F1 is not estimable")
    doubt = "intervals overlap: may be chance" if overlap(gap_before, gap_after) else "intervals do not overlap"
    went = "larger gap" if new > old else "smaller gap" if new < old else "same gap"
    detail = f"{went} in Eopp1; {doubt}; F1 {signed(kept - lost)}"
    return Card(f"Change since {page.first.name}", signed(new - old), detail, "alert" if new > old else "plain")


def warnings(page: Page) -> tuple[str, ...]:
    """What a reader must know before leaning on the numbers."""
    audit = page.last.audit
    found: list[str] = []
    for group in page.groups:
        n = audit["by_group"][group]["n"]
        if n < FEW:
            found.append(f"Only {counted(n, 'test image')} of {group}: its figures are little more than anecdotes.")
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
