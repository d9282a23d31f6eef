"""A plot of accuracy against gap, one mark a model or setting, that the page's script lets the reader change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equiprune.metrics.tradeoff import pareto
from equiprune.report.draw import COLOURS, SYMBOLS, Spec, axis, label, layout, six
from equiprune.report.numbers import joined
from equiprune.report.tables import Table

MANY_MARKS = 100
LEAST_MARGIN = 0.01
SOME = 5

Estimate = Mapping[str, Any]
Ends = dict[str, list[float | None]]


@dataclass(frozen=True)
class Mark:
    """What stands at one place of the plot.

    Args:
        name: told apart from all others.
        kind: what gives it colour and shape, as the legend calls it.
        metrics: each metric's value, with its interval where it has one.
        gaps: each gap's.
        details: settings in a sentence, and the cells of the tables of groups and gaps, for when it is chosen.
        barred: it is on no front, whatever its figures.
    """

    name: str
    kind: str
    metrics: Mapping[str, Estimate]
    gaps: Mapping[str, Estimate]
    details: Mapping[str, Any]
    barred: bool = False


@dataclass(frozen=True)
class Stars:
    """Marks that are marked.

    Args:
        baselines: each with a star; the line of FATE = 0 goes through one that is alone.
        taken: with a diamond; None where nothing is taken.
        chosen: whose details are shown first.
    """

    baselines: tuple[int, ...]
    taken: int | None
    chosen: int


@dataclass(frozen=True)
class Explorer:
    """The figure, its choices, and what the page's script needs to change it.

    Args:
        title: of the section.
        hint: over the plot.
        note: under it.
        finding: what it shows, in sentences.
        advice: the part of it that the verdict needs.
        spec: as it is first drawn.
        metrics: what can stand on the y-axis, by key.
        gaps: what can stand on the x-axis, by key.
        names: of the marks.
        chosen: the one whose details are shown first.
        data: see `drawn`.
        heads: of the two tables of details.
        table: all marks.
    """

    title: str
    hint: str
    note: str
    finding: str
    advice: str
    spec: Spec
    metrics: Mapping[str, str]
    gaps: Mapping[str, str]
    names: tuple[str, ...]
    chosen: int
    data: Mapping[str, Any]
    heads: tuple[tuple[str, ...], tuple[str, ...]]
    table: Table


def drawn(
    marks: Sequence[Mark], metrics: Mapping[str, str], gaps: Mapping[str, str], stars: Stars, *, bars: bool
) -> tuple[Spec, dict[str, Any]]:
    """The plot of the first metric and the first gap, and what the script needs for all others.

    The data hold for every metric and gap the values and interval ends of all marks, for every pair of them the front,
    the line of FATE = 0 and the ranges of the axes, and for every mark the cells of its details.

    Args:
        marks: all of them.
        metrics: titles of the metrics, by key.
        gaps: titles of the gaps, by key.
        stars: which marks are marked.
        bars: whether every mark has its error bars; if not, only the chosen one.
    """
    ends = {
        "metrics": {key: _ends([mark.metrics.get(key) or {} for mark in marks]) for key in metrics},
        "gaps": {key: _ends([mark.gaps.get(key) or {} for mark in marks]) for key in gaps},
    }
    barred = np.array([mark.barred for mark in marks])
    pairs = {
        f"{metric} {gap}": _pair(ends["metrics"][metric], ends["gaps"][gap], barred, stars, bars=bars)
        for metric in metrics
        for gap in gaps
    }
    data = {**ends, "pairs": pairs, "details": [mark.details for mark in marks], "chosen": stars.chosen}
    first = (next(iter(metrics)), next(iter(gaps)))
    return _spec(marks, data, first, (metrics[first[0]], gaps[first[1]]), stars, bars=bars), data


def some(marks: Sequence[Mark], titles: Mapping[str, str], section: str) -> dict[str, str]:
    """The titles of what at least one mark has a value of."""
    return {
        key: title
        for key, title in titles.items()
        if any(six((getattr(mark, section).get(key) or {}).get("value")) is not None for mark in marks)
    }


def front_sentence(marks: Sequence[Mark], front: Sequence[int], metric: str, gap: str, what: str) -> str:
    """Which marks no other beats, as the end of a sentence that says on which images."""
    if not front:
        return f"{metric} and {gap} are not estimable together for any of them."
    named = joined([marks[at].name for at in front[:SOME]])
    more = f" and {len(front) - SOME} more" if len(front) > SOME else ""
    return (
        f"on the front, where no other is better in {metric} without being worse in {gap}: {named}{more}, "
        f"{len(front)} of {len(marks)} {what}."
    )


def _ends(found: Sequence[Mapping[str, Any]]) -> Ends:
    return {end: [six(one.get(end)) for one in found] for end in ("value", "low", "high")}


def _pair(metric: Ends, gap: Ends, barred: np.ndarray[Any, Any], stars: Stars, *, bars: bool) -> dict[str, Any]:
    gains, lacks = _array(metric["value"]), _array(gap["value"])
    front = np.flatnonzero(pareto(np.where(barred, np.nan, gains), lacks))
    alone = stars.baselines[0] if len(stars.baselines) == 1 else None
    return {
        "front": front[np.lexsort((gains[front], lacks[front]))].tolist(),
        "fate": [[], []] if alone is None else _fate_line(gains, lacks, alone),
        "x": _range(gap, bars=bars, zero=True),
        "y": _range(metric, bars=bars, zero=False),
    }


def _array(values: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _fate_line(gains: np.ndarray[Any, Any], lacks: np.ndarray[Any, Any], baseline: int) -> list[list[float | None]]:
    """FATE is 0 where metric and gap changed in the same ratio: on the line from the origin through the baseline."""
    gain, lack = gains[baseline], lacks[baseline]
    if not (lack > 0 and gain > 0):
        return [[], []]
    most = float(np.nanmax(lacks)) * 1.2
    return [[0.0, six(most)], [0.0, six(most * gain / lack)]]


def _range(found: Ends, *, bars: bool, zero: bool) -> list[float]:
    used = [value for end in (("value", "low", "high") if bars else ("value",)) for value in found[end]]
    whole = [value for value in used if value is not None]
    low, high = (0.0 if zero else min(whole)), max(whole)
    margin = max(0.06 * (high - low), LEAST_MARGIN)
    return [round(low - margin / (3 if zero else 1), 5), round(high + margin, 5)]


def _spec(
    marks: Sequence[Mark],
    data: Mapping[str, Any],
    keys: tuple[str, str],
    titles: tuple[str, str],
    stars: Stars,
    *,
    bars: bool,
) -> Spec:
    pair = data["pairs"][" ".join(keys)]
    metric, gap = data["metrics"][keys[0]], data["gaps"][keys[1]]
    size = 11 if len(marks) <= MANY_MARKS else 8
    kinds = list(dict.fromkeys(mark.kind for mark in marks))
    traces = [
        _line("FATE = 0", "fate", pair["fate"], "dash"),
        _line("front", "front", [_at(gap, pair["front"]), _at(metric, pair["front"])], "solid")
        | {"customdata": pair["front"]},
    ]
    for place, kind in enumerate(kinds):
        own = [at for at, mark in enumerate(marks) if mark.kind == kind]
        marker = {"color": f"series{place % COLOURS}", "symbol": SYMBOLS[place % len(SYMBOLS)], "size": size}
        trace = _points(kind, marks, own, marker, (gap, metric), bars=bars)
        starred = set(own) <= set(stars.baselines)  # the legend's star says what they are, and is short on a telephone
        traces.append(trace | {"showlegend": False} if starred else trace)
    star = {"color": "ink", "symbol": "star-open", "size": 19, "line": {"width": 2, "color": "ink"}}
    ring = {"color": "ink", "symbol": "circle-open", "size": 22, "line": {"width": 2.5, "color": "ink"}}
    traces.append(_points("baseline", marks, stars.baselines, star, (gap, metric), bars=False))
    if stars.taken is not None:
        diamond = star | {"symbol": "diamond-tall-open", "size": 24}
        traces.append(_points("taken", marks, [stars.taken], diamond, (gap, metric), bars=False))
    chosen = _points("chosen", marks, [stars.chosen], ring, (gap, metric), bars=True)
    traces.append(chosen | {"meta": "chosen"})
    x, y = axis(f"{titles[1]} (lower is better)"), axis(f"{titles[0]} (higher is better)")
    return {"data": traces, "layout": layout(460, x | {"range": pair["x"]}, y | {"range": pair["y"]})}


def _at(ends: Ends, places: Sequence[int]) -> list[float | None]:
    return [ends["value"][place] for place in places]


def _line(name: str, meta: str, ends: Sequence[Sequence[float | None]], dash: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "meta": meta,
        "x": list(ends[0]),
        "y": list(ends[1]),
        "hoverinfo": "skip",
        "line": {"color": "muted", "width": 1.5, "dash": dash},
    }


def _points(
    name: str, marks: Sequence[Mark], own: Sequence[int], marker: Spec, ends: tuple[Ends, Ends], *, bars: bool
) -> Spec:
    trace: Spec = {
        "type": "scatter",
        "mode": "markers",
        "name": label(name),
        "customdata": list(own),
        "x": _at(ends[0], own),
        "y": _at(ends[1], own),
        "text": [label(marks[at].name, 80) for at in own],
        "hovertemplate": "%{text}: %{x:.3g}, %{y:.3f}<extra></extra>",
        "marker": marker,
    }
    if bars:
        for key, found in zip(("error_x", "error_y"), ends, strict=True):
            trace[key] = _bars(found, own) | {"color": marker["color"]}
    return trace


def _bars(ends: Ends, own: Sequence[int]) -> Spec:
    # The interval of a gap need not hold the gap: a bar has no length then on that side.
    def length(at: int, end: str) -> float:
        far, value = ends[end][at], ends["value"][at]
        if far is None or value is None:
            return 0.0
        return six(max(0.0, far - value if end == "high" else value - far)) or 0.0

    return {
        "type": "data",
        "symmetric": False,
        "array": [length(at, "high") for at in own],
        "arrayminus": [length(at, "low") for at in own],
        "thickness": 1,
        "width": 0,
    }
