"""What mitigation changed against the baseline, in words: in one model, or in each that a branch or a run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.numbers import joined, known, number, overlap, signed

RANDOM = "random_channels"
CHANNEL_METHODS = ("scp", "fairprune_channels")
MOST_NAMED = 5
MOST_PAID = 3
LEVELLED = "levelling down"


def mitigation(page: Page) -> list[str]:
    """What changed from the baseline to the end, or to each of several; nothing where there is one model."""
    if not page.ends:
        return []
    several = len(page.ends) > 1
    told = together(page.first, page.ends) if several else changed(page.first, page.ends[0])
    saved = [(step, sentence) for step in page.ends[:MOST_PAID] if (sentence := smaller(page.first, step))]
    return [
        *told,
        *preferences(page.first, page.ends),
        *against_chance(page),
        *(f"{step.name}: {sentence}" if several else sentence for step, sentence in saved),
    ]


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


def together(first: StepPage, ends: Sequence[StepPage]) -> list[str]:
    """What changed in each of several models, against one baseline; no order among them is claimed."""
    sentences = [f"Of {len(ends)} models that branches or runs end with, each is held against {first.name}."]
    sentences += [_moves(what, pairs) for what, pairs in _figures(first, ends).items()]
    apart = [step.name for step in ends if overlap(first.audit["gaps"]["eopp1"], step.audit["gaps"]["eopp1"]) is False]
    sentences.append(
        f"The intervals of Eopp1 do not overlap with the baseline's in {_named(apart)}; each is one training run, and "
        "another seed may differ."
        if apart
        else "No interval of Eopp1 is apart from the baseline's, so each of these changes may be chance."
    )
    if all(at_floor(step.audit["gaps"]["eopp1"]) for step in (first, *ends)):
        sentences.append("All gaps are no larger than what chance alone gives, so none is evidence of a change.")
    paid = [(step, sentence) for step in ends if (sentence := who_paid(first.audit, step.audit))]
    if len(ends) <= MOST_PAID:
        return [*sentences, *(f"{step.name}: {sentence}" for step, sentence in paid)]
    levelled = [step.name for step in ends if levelled_down(first.audit, step.audit)]
    if levelled:
        sentences.append(f"The gap shrank and no group gained, which is {LEVELLED}, in {_named(levelled)}.")
    return sentences


def _figures(first: StepPage, ends: Sequence[StepPage]) -> dict[str, list[tuple[str, float | None]]]:
    def moves(section: str, key: str) -> list[tuple[str, float | None]]:
        before = known(first.audit[section][key].get("value"))
        after = [(step.name, known(step.audit[section][key].get("value"))) for step in ends]
        return [(name, None if value is None or before is None else value - before) for name, value in after]

    return {"Overall F1": moves("overall", "f1"), "Eopp1": moves("gaps", "eopp1")}


def _moves(what: str, moves: Sequence[tuple[str, float | None]]) -> str:
    if len(moves) <= MOST_NAMED:
        return f"{what} changed by {joined([f'{signed(move)} in {name}' for name, move in moves])}."
    whole = [(move, name) for name, move in moves if move is not None]
    if not whole:
        return f"{what}: no change is estimable."
    (low, lowest), (high, highest) = min(whole), max(whole)
    return f"{what} changed by {signed(low)} in {lowest} to {signed(high)} in {highest}; the table has each."


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more if more else joined(list(names))


def who_paid(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """How each group's F1 moved, and who lost most; levelling down is named: a smaller gap, and no group better off."""
    moves = group_moves(before, after)
    if not moves:
        return None
    doubts = [overlap(before["by_group"][group]["f1"], after["by_group"][group]["f1"]) for group in moves]
    told = f"F1 by group moved: {joined([f'{group} {signed(move)}' for group, move in moves.items()])}"
    told += "; each group's intervals overlap." if all(doubts) else "."
    most = min(moves, key=lambda group: moves[group])
    paid = f" Most was lost by {most}." if moves[most] < 0 and len(set(moves.values())) > 1 else ""
    level = f" The gap shrank and no group gained: this is {LEVELLED}." if levelled_down(before, after) else ""
    return f"{told}{paid}{level}"


def group_moves(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """By group the change of F1; empty where that of one is not estimable."""
    moves = {}
    for group, row in after["by_group"].items():
        old, new = known(before["by_group"][group]["f1"]["value"]), known(row["f1"]["value"])
        if old is None or new is None:
            return {}
        moves[group] = new - old
    return moves


def levelled_down(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the gap shrank and no group gained."""
    old, new = (known(audit["gaps"]["eopp1"].get("value")) for audit in (before, after))
    moves = group_moves(before, after)
    return old is not None and new is not None and new < old and bool(moves) and max(moves.values()) <= 0


def preferences(first: StepPage, ends: Sequence[StepPage]) -> list[str]:
    """What these images say for and against models, held against the baseline; nothing of those without intervals."""
    alike: dict[tuple[int, int], list[str]] = {}
    for end in ends:
        fairer = _apart(end.audit["gaps"]["eopp1"], first.audit["gaps"]["eopp1"])
        better = _apart(first.audit["overall"]["f1"], end.audit["overall"]["f1"])
        if fairer is not None and better is not None:
            alike.setdefault((fairer, better), []).append(end.name)
    return [_preference(first.name, names, *found) for found, names in alike.items()]


def _preference(first: str, names: Sequence[str], fairer: int, better: int) -> str:
    gap = {1: "a smaller gap", 0: "no change of the gap that could not be chance", -1: "a larger gap"}[fairer]
    f1 = {1: "more F1", 0: "no change of F1 that could not be chance", -1: "less F1"}[better]
    named = _named(names)
    has = "has" if len(names) == 1 else "have"
    told = (
        f"Which model to choose? Against {first}, {named} {has} {gap} and {f1}, as far as intervals that do not "
        "overlap show it."
    )
    if not fairer and not better:
        return f"{told} These images do not set them apart; `equiprune compare` looks closer, image by image."
    if fairer != -better:
        return f"{told} That speaks for {named if fairer + better > 0 else first}."
    return f"{told} Which of them weighs more is for people to decide."


def _apart(less: Mapping[str, Any], more: Mapping[str, Any]) -> int | None:
    """1 where the first is surely the smaller, -1 where it is surely the larger, 0 where the intervals overlap."""
    same, low, high = overlap(less, more), known(less.get("value")), known(more.get("value"))
    if same is None or low is None or high is None:
        return None
    return 0 if same else 1 if low < high else -1


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


def smaller(start: StepPage, end: StepPage) -> str | None:
    """What pruning saved, in a sentence; None where nothing was measured."""
    first, last = start.facts, end.facts
    before, after = known(first.get("parameters")), known(last.get("parameters"))
    if not before or not after:
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
