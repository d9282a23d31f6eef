"""The trade-off explorer: every model as a point, accuracy against gap, and what a chosen one does to each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equiprune.metrics.tradeoff import pareto
from equiprune.report.content import Model, Page
from equiprune.report.draw import COLOURS, SYMBOLS, Spec, axis, label, layout, six
from equiprune.report.numbers import interval, joined, known, measured, number, p_value, signed
from equiprune.report.tables import GAPS, PERFORMANCE, Table
from equiprune.report.verdict import distinguishable, fate_of

MEAN_F1 = "mean_f1"
WORST_F1 = "worst_f1"
METRICS = {
    MEAN_F1: "mean F1 of groups",
    WORST_F1: "F1 of the worst group",
    "f1": "overall F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
}
MANY_MODELS = 100
LEAST_MARGIN = 0.01
SOME = 5
FEW_MODELS = 12
"""Up to so many models each has its error bars; of more, only the chosen one."""

Ends = dict[str, list[float | None]]


@dataclass(frozen=True)
class Explorer:
    """The figure, its choices, and what the page's script needs to change it.

    Args:
        finding: one sentence.
        spec: as it is first drawn.
        metrics: what can stand on the y-axis, by key.
        gaps: what can stand on the x-axis, by key.
        names: of the models.
        chosen: the model whose details are shown first.
        data: see `explorer`.
        heads: of the two tables of details.
        table: all models.
    """

    finding: str
    spec: Spec
    metrics: Mapping[str, str]
    gaps: Mapping[str, str]
    names: tuple[str, ...]
    chosen: int
    data: Mapping[str, Any]
    heads: tuple[tuple[str, ...], tuple[str, ...]]
    table: Table


def explorer(page: Page) -> Explorer | None:
    """All models of the page; None where there is only one.

    `data` holds for every metric and gap the values and interval ends of all models, for every pair of them the front,
    the line of FATE = 0 and the ranges of the axes, and for every model the cells of its details.
    """
    models = page.models
    if len(models) < 2:
        return None
    metrics = {key: title for key, title in METRICS.items() if _some(models, "overall", key)}
    gaps = {key: title for key, title in GAPS.items() if _some(models, "gaps", key)}
    if not gaps or not metrics:
        return None
    ends = {
        "metrics": {key: _ends([_metric(model, key) for model in models]) for key in metrics},
        "gaps": {key: _ends([model.audit["gaps"].get(key) or {} for model in models]) for key in gaps},
    }
    pairs = {
        f"{metric} {gap}": _pair(ends["metrics"][metric], ends["gaps"][gap], bars=len(models) <= FEW_MODELS)
        for metric in metrics
        for gap in gaps
    }
    chosen = len(page.steps) - 1
    first = (next(iter(metrics)), next(iter(gaps)))
    data = {**ends, "pairs": pairs, "details": [_details(model) for model in models], "chosen": chosen}
    return Explorer(
        finding=_finding(models, pairs[" ".join(first)]["front"], metrics[first[0]], gaps[first[1]]),
        spec=_spec(models, data, first, (metrics[first[0]], gaps[first[1]])),
        metrics=metrics,
        gaps=gaps,
        names=tuple(model.name for model in models),
        chosen=chosen,
        data=data,
        heads=(("Group", "n", *PERFORMANCE.values()), ("Gap", "Value", "By chance", "Test", "FATE")),
        table=_table(models, pairs[" ".join(first)]["front"]),
    )


def _some(models: Sequence[Model], section: str, key: str) -> bool:
    found = (_metric(model, key) if section == "overall" else model.audit["gaps"].get(key) or {} for model in models)
    return any(known(one.get("value")) is not None for one in found)


def _metric(model: Model, key: str) -> Mapping[str, Any]:
    if key not in (MEAN_F1, WORST_F1):
        return model.audit["overall"].get(key) or {}
    rows = model.audit["by_group"].values()
    if key == WORST_F1:
        told = [row["f1"] for row in rows if row.get("supported", True) and known(row["f1"]["value"]) is not None]
        return min(told, key=lambda found: float(found["value"]), default={})
    values = [known(row["f1"]["value"]) for row in rows]
    whole = [value for value in values if value is not None]
    return {"value": sum(whole) / len(whole) if whole and len(whole) == len(values) else None}


def _ends(found: Sequence[Mapping[str, Any]]) -> Ends:
    return {end: [six(one.get(end)) for one in found] for end in ("value", "low", "high")}


def _pair(metric: Ends, gap: Ends, *, bars: bool) -> dict[str, Any]:
    gains, lacks = _array(metric["value"]), _array(gap["value"])
    front = np.flatnonzero(pareto(gains, lacks))
    return {
        "front": front[np.lexsort((gains[front], lacks[front]))].tolist(),
        "fate": _fate_line(gains, lacks),
        "x": _range(gap, bars=bars, zero=True),
        "y": _range(metric, bars=bars, zero=False),
    }


def _array(values: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _fate_line(gains: np.ndarray[Any, Any], lacks: np.ndarray[Any, Any]) -> list[list[float | None]]:
    """FATE is 0 where metric and gap changed in the same ratio: on the line from the origin through the baseline."""
    gain, lack = gains[0], lacks[0]
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


def _details(model: Model) -> dict[str, Any]:
    groups = [
        [
            group if row.get("supported", True) else f"{group} (too few)",
            f"{row['n']:,}",
            *(measured(row.get(key) or {}) for key in PERFORMANCE),
        ]
        for group, row in model.audit["by_group"].items()
    ]
    gaps = [
        [
            title,
            measured(found),
            number(found.get("floor")),
            p_value(found.get("p_value")),
            signed(fate_of(model.audit, key), undefined="–"),
        ]
        for key, title in GAPS.items()
        if (found := model.audit["gaps"].get(key))
    ]
    return {"settings": model.settings, "groups": groups, "gaps": gaps}


def _spec(models: Sequence[Model], data: Mapping[str, Any], keys: tuple[str, str], titles: tuple[str, str]) -> Spec:
    pair = data["pairs"][" ".join(keys)]
    metric, gap = data["metrics"][keys[0]], data["gaps"][keys[1]]
    bars = len(models) <= FEW_MODELS
    size = 11 if len(models) <= MANY_MODELS else 8
    methods = list(dict.fromkeys(model.method for model in models))
    traces = [
        _line("FATE = 0", "fate", pair["fate"], "dash"),
        _line("front", "front", [_at(gap, pair["front"]), _at(metric, pair["front"])], "solid")
        | {"customdata": pair["front"]},
    ]
    for place, method in enumerate(methods):
        own = [at for at, model in enumerate(models) if model.method == method]
        marker = {"color": f"series{place % COLOURS}", "symbol": SYMBOLS[place % len(SYMBOLS)], "size": size}
        traces.append(_points(method, models, own, marker, (gap, metric), bars=bars))
    star = {"color": "ink", "symbol": "star-open", "size": 19, "line": {"width": 2, "color": "ink"}}
    ring = {"color": "ink", "symbol": "circle-open", "size": 22, "line": {"width": 2.5, "color": "ink"}}
    traces.append(_points("baseline", models, [0], star, (gap, metric), bars=False))
    chosen = _points("chosen", models, [data["chosen"]], ring, (gap, metric), bars=True)
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
    name: str, models: Sequence[Model], own: Sequence[int], marker: Spec, ends: tuple[Ends, Ends], *, bars: bool
) -> Spec:
    trace: Spec = {
        "type": "scatter",
        "mode": "markers",
        "name": label(name),
        "customdata": list(own),
        "x": _at(ends[0], own),
        "y": _at(ends[1], own),
        "text": [label(models[at].name, 80) for at in own],
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


def _finding(models: Sequence[Model], front: Sequence[int], metric: str, gap: str) -> str:
    if not front:
        return f"{metric} and {gap} are not estimable together for any model."
    named = joined([models[at].name for at in front[:SOME]])
    more = f" and {len(front) - SOME} more" if len(front) > SOME else ""
    base = "The baseline is one of them" if 0 in front else "The baseline is not among them"
    return (
        f"On the front, where no other model is better in {metric} without being worse in {gap}: {named}{more}, "
        f"{len(front)} of {len(models)} models. {base}. {_doubt(models, front, gap)}All of this is on the test images: "
        "a model that is chosen by them looks better here than elsewhere."
    )


def _doubt(models: Sequence[Model], front: Sequence[int], gap: str) -> str:
    key = next(key for key, title in GAPS.items() if title == gap)
    if any(distinguishable(models[at].audit["gaps"][key]) for at in (0, *front)):
        return ""
    return "Neither the baseline's gap nor any of theirs is distinguishable from chance, so their order may be chance. "


def _table(models: Sequence[Model], front: Sequence[int]) -> Table:
    head = ("Model", "Method", "Mean F1 of groups", "Overall F1", "Accuracy", "AUROC", *GAPS.values())
    rows = tuple(
        (
            model.name,
            model.method,
            number(_metric(model, MEAN_F1).get("value")),
            *(number((model.audit["overall"].get(key) or {}).get("value")) for key in ("f1", "accuracy", "auroc")),
            *(_told(model.audit["gaps"].get(key) or {}) for key in GAPS),
            signed(fate_of(model.audit, "eopp1"), undefined="–"),
            "yes" if at in front else "no",
        )
        for at, model in enumerate(models)
    )
    return Table((*head, "FATE (Eopp1)", "On the front"), rows)


def _told(found: Mapping[str, Any]) -> str:
    return f"{number(found.get('value'))} {interval(found)}".strip()
