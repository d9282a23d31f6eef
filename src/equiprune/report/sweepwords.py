"""What a sweep tried, what was taken and what that is worth, in words."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from equiprune.choosing import SEED
from equiprune.report.content import SweepPage
from equiprune.report.numbers import UNDEFINED, counted, joined, known, moved_by, number
from equiprune.report.tables import GAPS, Table
from equiprune.report.tried import in_words, mean, over_seeds, seeds, tried_axes, without_seed


def tried_sentence(sweep: SweepPage) -> str:
    """How many settings and runs there were, failed, and are left."""
    many, own = len({repr(without_seed(point)) for point in sweep.points}), seeds(sweep)
    axes = joined([sweep.axes[axis] for axis in tried_axes(sweep)])
    over = f" over {counted(len(own), 'seed')}" if len(own) > 1 else ""
    of = f" of {axes}" if axes else ""
    were = "was" if many == 1 else "were"
    told = f"{counted(many, 'setting')}{of} {were} tried{over}: {counted(len(sweep.points), 'run')}"
    if sweep.failed:
        told += f", and {len(sweep.failed):,} more could not be carried out"
    if sweep.left:
        told += f"; {sweep.left:,} are left, so this is what is there so far"
    return f"{told}."


def choice_sentence(sweep: SweepPage) -> str:
    """What was taken, by what rule, and what that makes of its figures."""
    gap = GAPS[sweep.gap]
    if sweep.budget is None:
        return "No choice has been made yet. Everything here is on validation; no test figure exists."
    rule = f"the smallest {gap} that loses at most {sweep.budget:g} of macro F1 against its first step"
    if sweep.taken is None:
        return (
            f"None was taken: no setting loses at most {sweep.budget:g} of macro F1 against its first step, has a gap "
            "and does not say the same of every image. Everything here is on validation; no test figure exists."
        )
    if not any(axis != SEED for axis in sweep.axes):
        return "There is one setting, so nothing was chosen: all seeds are audited on test."
    shown = "are shown" if sweep.looked else "exist"
    test = f" Test figures {shown} for the taken one only." if sweep.seen else ""
    return (
        f"One was taken, by validation alone: {in_words(sweep, sweep.taken) or 'the only setting'}, {rule}. What is "
        f"picked among many looks better on validation than it is.{test}"
    )


def swept_sentences(sweep: SweepPage) -> list[str]:
    """What the verdict says first of a sweep."""
    return [tried_sentence(sweep), choice_sentence(sweep), *_kept_promise(sweep), *_late(sweep)]


def _kept_promise(sweep: SweepPage) -> list[str]:
    """The taken setting, on validation and on test."""
    if not sweep.seen:
        return (
            []
            if sweep.taken is None
            else ["The taken setting is not audited on test yet: the same `equiprune sweep` does it."]
        )
    own = [point.steps[-1] for point in sweep.points if without_seed(point) == sweep.taken]
    shown = " Shown in detail is the first seed." if len(sweep.seen) > 1 else ""
    over = f", means over {counted(len(sweep.seen), 'seed')}" if len(sweep.seen) > 1 else ""
    told = []
    for key, title in (("f1", "macro F1"), (sweep.gap, GAPS[sweep.gap])):
        there = over_seeds(own, itemgetter(key))["value"]
        before, after = (
            over_seeds([getattr(one, end) for one in sweep.seen], itemgetter(key))["value"]
            for end in ("before", "after")
        )
        told.append(f"{title} {number(there)} on validation and {number(after)} on test (baseline {number(before)})")
    return [f"The taken setting has {joined(told)}{over}.{shown}"]


def _late(sweep: SweepPage) -> list[str]:
    more = len(sweep.points) - (sweep.among or len(sweep.points))
    return [f"{counted(more, 'run')} came in after the choice, and had no part in it."] if more > 0 else []


def sweep_warnings(sweep: SweepPage) -> list[str]:
    """What a reader must know of how this was chosen."""
    found = []
    if sweep.seen and len(sweep.seen) == 1:
        found.append("The setting was taken by one training run each; another seed may take another.")
    if sweep.looked:
        found.append(
            f"{counted(sweep.looked, 'other run')} of this sweep {'has' if sweep.looked == 1 else 'have'} test figures "
            "too, from an earlier choice: who has seen them has not chosen blindly."
        )
    if not sweep.seen:
        found.append(
            "All figures on this page are on validation images, which also chose epochs and iterations: they look "
            "better here than on new images."
        )
    return found


def on_test(sweep: SweepPage) -> Table:
    """The taken setting on test, seed by seed, before and after; no rows of a single seed."""
    gap = sweep.gap
    head = ("Seed", "Overall F1 before", "after", "Change", f"{GAPS[gap]} before", "after", "Change")
    if len(sweep.seen) < 2:
        return Table(head, ())
    rows = [(str(one.seed), *_pair(one.before["f1"], one.after["f1"]), *_pair(one.before[gap], one.after[gap]))
            for one in sweep.seen]  # fmt: skip
    means = [*_means(sweep, "f1"), *_means(sweep, gap)]
    return Table(head, (*rows, ("Mean", *means)))


def _pair(before: object, after: object) -> tuple[str, str, str]:
    old, new = known(before), known(after)
    return number(old), number(new), UNDEFINED if old is None or new is None else moved_by(mean([new - old]))


def _means(sweep: SweepPage, key: str) -> Sequence[str]:
    pairs = [(known(one.before[key]), known(one.after[key])) for one in sweep.seen]
    moves = [None if old is None or new is None else new - old for old, new in pairs]
    before, after = (mean([pair[end] for pair in pairs], least=0.0)["value"] for end in (0, 1))
    return number(before), number(after), moved_by(mean(moves))
