"""What a reader must know before leaning on the figures of an audit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from equiprune.metrics.counts import Counts
from equiprune.predictions import Predictions
from equiprune.reading.attribute import look_alikes, looks_missing

FEW = 10
NO_UNITS = "no unit ids: rows count as independent; several images of one patient make the intervals too narrow"
SHOWN = 8


def notices(
    predictions: Predictions, groups: Counts, supported: Bool[np.ndarray, " group"], least: int
) -> tuple[str, ...]:
    """Sentences on groups and classes without support, on few positives, and on rows that hang together.

    Args:
        predictions: the test set.
        groups: its counts by group.
        supported: the groups that may be called worst.
        least: the positives that they need.
    """
    small = _unsupported(predictions, groups, supported, least)
    return (
        *constant(predictions),
        *_names(predictions),
        *small,
        *_support(predictions, groups),
        *_rows(predictions),
    )


def _names(predictions: Predictions) -> Iterator[str]:
    names = predictions.groups
    strange = [name for name in names if looks_missing(name)]
    if strange:
        listed = ", ".join(map(repr, strange))
        yield f"{listed} counts as a group; if it means unknown, list it under missing (--missing)"
    for same in look_alikes(names):
        yield f"groups {', '.join(map(repr, same))} differ only in case or spacing: are they one?"


def _unsupported(
    predictions: Predictions, groups: Counts, supported: Bool[np.ndarray, " group"], least: int
) -> Iterator[str]:
    rows = groups.positive.sum(axis=-1)
    small = [predictions.groups[g] for g in np.flatnonzero(~supported & (rows > 0))]
    if not small:
        return
    names = ", ".join(map(repr, small[:SHOWN])) + (f" and {len(small) - SHOWN} more" if len(small) > SHOWN else "")
    what = "are compared all the same, there being no two others" if supported.sum() < 2 else "are never called worst"
    yield f"groups with fewer than {least} positives ({names}) {what}"


def constant(predictions: Predictions) -> Iterator[str]:
    """A sentence on a model that says the same of every row."""
    called = predictions.predicted
    if (called == called[:1]).all():
        what = "the same" if predictions.task == "multilabel" else repr(predictions.classes[int(called[0])])
        yield f"the model says {what} of every row: it tells nothing apart, and its gaps of 0 are no fairness"


def _support(predictions: Predictions, groups: Counts) -> Iterator[str]:
    for g, name in enumerate(predictions.groups):
        positive = groups.positive[g]
        if not (positive + groups.negative[g]).any():
            yield f"group {name!r} has no rows: its figures and gaps are not estimable"
            continue
        none, few = positive == 0, (positive > 0) & (positive < FEW)
        if none.any():
            text = f"group {name!r} has no row of {_named(predictions, none)}: no rate of theirs can be compared"
            called = none & (groups.called[g] > 0)
            if called.any():
                text += f"; called all the same, {_named(predictions, called)} counts 0 in its precision, recall and F1"
            yield text
        if few.any() and len(predictions.groups) <= SHOWN:
            yield f"group {name!r} has fewer than {FEW} rows of {_named(predictions, few)}: their rates are anecdotes"
    sparse = ((groups.positive > 0) & (groups.positive < FEW)).any(axis=1)
    if len(predictions.groups) > SHOWN and sparse.any():
        yield f"{int(sparse.sum())} groups have fewer than {FEW} rows of some class: its rate there is an anecdote"


def _named(predictions: Predictions, chosen: Bool[np.ndarray, " class"]) -> str:
    names = [repr(predictions.classes[k]) for k in np.flatnonzero(chosen)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _rows(predictions: Predictions) -> Iterator[str]:
    unknown = int((predictions.group < 0).sum())
    if unknown:
        yield f"{unknown:,} rows of unknown {predictions.attribute} count in the overall figures only"
    if predictions.unit is None:
        yield NO_UNITS
    else:
        known = predictions.group >= 0
        code = predictions.unit_code[known]
        pairs = np.unique(np.stack([code, predictions.group[known]]), axis=1)
        across = int((np.bincount(pairs[0]) > 1).sum()) if len(code) else 0
        if across:
            yield f"{across:,} units have rows in more than one group"
    if predictions.image is not None:
        ids = predictions.image[predictions.image != ""]
        again = len(ids) - len(np.unique(ids))
        if again:
            rows = "1 row repeats" if again == 1 else f"{again:,} rows repeat"
            yield f"{rows} the id of another image: rows are not independent"
