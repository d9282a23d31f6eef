"""The figures of channel pruning: scores before and after (SCP, Figure 1), and FATE of all steps (Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiprune.report.content import Page, StepPage
from equiprune.report.curve import Curve, curves
from equiprune.report.draw import Dot, Series
from equiprune.report.figures import Figure, Panel
from equiprune.report.numbers import counted, known, number, share, signed
from equiprune.report.tables import GAPS, Table

MOST_LAYERS = 4
FATE_GAPS = ("eopp1", "eopp0", "eodd")
BEFORE, AFTER, CUT = 0, 2, 1
SCP = "scp"


def scores(step: StepPage, index: int) -> Figure | None:
    """Every channel's score before pruning and after, sorted; None where channels were not scored."""
    records = [record for record in step.log if record.get("scores")]
    kept = step.facts.get("kept_iteration")
    last = next((record for record in records if record["iteration"] == kept), None)
    if not records or last is None:
        return None
    until = [record for record in records if record["iteration"] <= last["iteration"]]
    gone = {layer: _gone(until, layer) for layer in records[0]["scores"]}
    layers = sorted(gone, key=lambda layer: -len(gone[layer]))[:MOST_LAYERS]
    panels = tuple(
        Panel(f"scores-{index}-{place}", layer, _drawn(records[0]["scores"][layer], last["scores"][layer], gone[layer]))
        for place, layer in enumerate(layers)
    )
    rows = tuple(
        (layer, str(channel), f"{value:.4g}", "cut" if channel in gone[layer] else "left")
        for layer in layers
        for channel, value in enumerate(records[0]["scores"][layer])
    )
    table = Table(("Layer", "Channel", "Score before", "In the model kept"), rows)
    title = f"{step.name}: scores of the channels, sorted"
    return Figure(f"scores-{index}", title, _finding(step.method, records[0], last, gone), panels, table)


def _gone(until: Sequence[Mapping[str, Any]], layer: str) -> frozenset[int]:
    """The channels cut up to an iteration, as the first one numbers them; none where earlier steps had cut some too.

    The log numbers channels as they were before any cut, the scores those that were left at its start. Both are the
    same only where nothing had been cut before: then every score is of a channel of its place.
    """
    found = frozenset(channel for record in until for channel in (record.get("cut") or {}).get(layer, ()))
    first = (until[1].get("cut") or {}).get(layer, ()) if len(until) > 1 else ()
    values = until[0]["scores"][layer]
    lowest = sorted(values)[: len(first)]
    if any(channel >= len(values) for channel in found) or sorted(values[channel] for channel in first) != lowest:
        return frozenset()
    return found


def _drawn(before: Sequence[float], after: Sequence[float], gone: frozenset[int]) -> Any:  # noqa: ANN401 - a Spec
    order = sorted(range(len(before)), key=lambda channel: (before[channel], channel))
    ranks = {channel: rank for rank, channel in enumerate(order, 1)}
    cut = [channel for channel in order if channel in gone]
    found = [
        Curve(
            _series("before", BEFORE, [before[at] for at in order]), tuple(map(float, range(1, len(order) + 1))), False
        ),
        Curve(_series("after", AFTER, sorted(after)), tuple(map(float, range(1, len(after) + 1))), False),
    ]
    if cut:
        marks = Series("cut", CUT, tuple(Dot(before[at], hover=f"channel {at}: {before[at]:.4g}, cut") for at in cut))
        found.append(Curve(marks, tuple(float(ranks[at]) for at in cut)))
    spec = curves(found, "channels, lowest score first", "score")
    for trace in spec["data"][2:]:
        trace["mode"] = "markers"
    return spec


def _series(name: str, index: int, values: Sequence[float]) -> Series:
    return Series(name, index, tuple(Dot(known(value), hover=f"{name}: {value:.4g}") for value in values))


def _finding(method: str, first: Mapping[str, Any], last: Mapping[str, Any], gone: Mapping[str, frozenset[int]]) -> str:
    lost = sum(len(values) - len(last["scores"][layer]) for layer, values in first["scores"].items())
    if not lost:
        return "No channel is missing from the model that was kept."
    cut = [first["scores"][layer][channel] for layer, channels in gone.items() for channel in channels]
    left = [
        value
        for layer, values in first["scores"].items()
        for channel, value in enumerate(values)
        if channel not in gone[layer]
    ]
    told = f"Of {sum(map(len, first['scores'].values())):,} channels, {lost:,} were cut"
    if not cut:
        return f"{told}. Earlier steps had cut channels too, so those cut here are not marked."
    meaning = " A low score means that the channel keeps the groups apart." if method == SCP else ""
    return (
        f"{told}: before pruning their mean score was {sum(cut) / len(cut):.4g}, that of the others "
        f"{sum(left) / len(left):.4g}.{meaning}"
    )


def fate_together(page: Page) -> Figure | None:
    """FATE on validation over the share removed, all pruning steps in one; None where fewer than two have it."""
    found = [(at, step, _records(step)) for at, step in enumerate(page.steps)]
    pruned = [(at, step, records) for at, step, records in found if len(records) > 1]
    if len(pruned) < 2:
        return None
    panels = tuple(
        Panel(
            f"fate-{gap}",
            f"FATE ({GAPS[gap]}) on validation",
            curves(
                [_curve(place, step, records, gap) for place, (_, step, records) in enumerate(pruned)], "removed, %", ""
            ),
        )
        for gap in FATE_GAPS
    )
    rows = tuple(
        (step.name, str(record["iteration"]), share(record["removed"], 1), *(_fate(record, gap) for gap in FATE_GAPS))
        for _, step, records in pruned
        for record in records
    )
    table = Table(("Step", "Iteration", "Removed", *(f"FATE ({GAPS[gap]})" for gap in FATE_GAPS)), rows)
    every = [(step, record) for _, step, records in pruned for record in records[1:]]
    return Figure("fate", "FATE while pruning, side by side", _best(every, len(pruned)), panels, table)


def _best(every: Sequence[tuple[StepPage, Mapping[str, Any]]], steps: int) -> str:
    own = "Each step is held against its own model before pruning."
    values = [known(record["fate"].get("eopp1")) for _, record in every]
    above = [(value, at) for at, value in enumerate(values) if value is not None and value > 0]
    if not above:
        return f"In {counted(steps, 'pruning step')}, no iteration has a FATE above 0 on Eopp1. {own}"
    value, at = max(above)
    step, record = every[at]
    removed = share(record["removed"], 1)
    return f"FATE on Eopp1 is highest in {step.name}, {number(value)} with {removed} removed. {own}"


def _records(step: StepPage) -> list[Mapping[str, Any]]:
    return [record for record in step.log if "iteration" in record and record.get("fate")]


def _fate(record: Mapping[str, Any], gap: str) -> str:
    return signed(record["fate"].get(gap), undefined="undefined")


def _curve(place: int, step: StepPage, records: Sequence[Mapping[str, Any]], gap: str) -> Curve:
    dots = tuple(
        Dot(known(record["fate"].get(gap)), hover=f"{step.name}: {_fate(record, gap)} at {share(record['removed'], 1)}")
        for record in records
    )
    return Curve(Series(step.name, place, dots), tuple(100 * float(record["removed"]) for record in records))
