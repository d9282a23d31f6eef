"""Plotly figures of curves that have their own places each: ROC, calibration, FATE of several steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equiprune.report.draw import DASHES, Series, Spec, axis, label, layout, six

UNIT = [-0.02, 1.02]


@dataclass(frozen=True)
class Curve:
    """A line through points of its own.

    Args:
        series: its name, colour and shape, and the heights as dots, with whiskers where they have intervals.
        at: where on the x-axis each dot stands.
        markers: whether the points are marked; a curve of many points needs no marks.
        joined: whether a line goes through the points.
    """

    series: Series
    at: tuple[float, ...]
    markers: bool = True
    joined: bool = True


def curves(found: Sequence[Curve], x: str, y: str, *, unit: bool = False) -> Spec:
    """Curves on shared axes.

    Args:
        found: in the order of the legend.
        x: title of the x-axis.
        y: title of the y-axis.
        unit: both axes run from 0 to 1, and the diagonal is drawn.
    """
    traces = [_diagonal()] if unit else []
    traces += [_trace(curve) for curve in found]
    scale: Spec = {"range": UNIT} if unit else {}
    return {"data": traces, "layout": layout(360, axis(x) | scale | {"zeroline": False}, axis(y) | scale)}


def _trace(curve: Curve) -> Spec:
    one = curve.series
    trace: Spec = {
        "type": "scatter",
        "mode": ("lines+markers" if curve.joined else "markers") if curve.markers else "lines",
        "name": label(one.name),
        "x": [six(place) for place in curve.at],
        "y": [six(dot.value) for dot in one.dots],
        "line": {"color": one.colour, "width": 2, "dash": DASHES[one.index % len(DASHES)]},
        "marker": {"color": one.colour, "symbol": one.symbol, "size": 8},
    }
    if any(dot.hover for dot in one.dots):
        trace |= {"text": [label(dot.hover, 160) for dot in one.dots], "hoverinfo": "text"}
    if any(dot.low is not None for dot in one.dots):
        ends = [(dot.value or 0.0, dot.low or 0.0, dot.high or 0.0) for dot in one.dots]
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [six(high - value) for value, _, high in ends],
            "arrayminus": [six(value - low) for value, low, _ in ends],
            "color": one.colour,
            "thickness": 1.2,
            "width": 3,
        }
    return trace


def _diagonal() -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": "muted", "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
