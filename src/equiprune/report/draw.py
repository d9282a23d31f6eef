"""Plotly figures as plain dictionaries: dots with intervals, lines, and mirrored bars.

Colours stand as names of the palette; the page's script puts in the light or the dark ones. Every
text from the user passes `label`, since plotly reads a kind of HTML in all its labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from equiprune.report.numbers import known, visible

# Okabe and Ito's colours, which stay apart for colour-blind readers, lightened for the dark theme;
# their yellow is too faint on white and becomes a brown.
PALETTE: dict[str, dict[str, str]] = {
    "light": {
        "series0": "#0072b2", "series1": "#d55e00", "series2": "#009e73", "series3": "#b5578f",
        "series4": "#56616b", "series5": "#c98a00", "series6": "#3d9bd1", "series7": "#7a5c00",
        "ink": "#1c2430", "muted": "#5b6675", "grid": "#e1e6ec", "clear": "rgba(0,0,0,0)", "paper": "#ffffff",
        "less": "#8cc0e3", "more": "#f2a878",
    },
    "dark": {
        "series0": "#5bb8f0", "series1": "#ff9a52", "series2": "#3fd0a4", "series3": "#f0a6ce",
        "series4": "#c3ccd5", "series5": "#ffd166", "series6": "#a5d8ff", "series7": "#e0c878",
        "ink": "#e8edf3", "muted": "#a3afbd", "grid": "#323c49", "clear": "rgba(0,0,0,0)", "paper": "#18202b",
        "less": "#1f6091", "more": "#9c4c16",
    },
}  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "hexagon", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")
COLOURS = 8
REFERENCE = -1
LONGEST = 40

Spec = dict[str, Any]
Scale = Literal["near", "from zero", "log"]
LOGARITHMIC: Spec = {"type": "log", "exponentformat": "power", "dtick": 1}


@dataclass(frozen=True)
class Dot:
    """A value with its interval; None where it is not estimable. A faint one rests on too few images."""

    value: float | None
    low: float | None = None
    high: float | None = None
    hover: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Series:
    """One group's dots or line, told apart by colour and by shape.

    Args:
        name: as the legend shows it.
        index: its place among its like, which gives colour and shape; `REFERENCE` for what the others are held against.
        dots: one a row or place.
    """

    name: str
    index: int
    dots: tuple[Dot, ...]

    @property
    def colour(self) -> str:
        """The palette's name of its colour."""
        if self.index == REFERENCE:
            return "muted"
        return f"series{self.index % COLOURS}"

    @property
    def symbol(self) -> str:
        """Its marker's shape; shapes and colours run out at different counts, so 72 pairs differ."""
        if self.index == REFERENCE:
            return "line-ns-open"
        return SYMBOLS[self.index % len(SYMBOLS)]


def label(text: object, longest: int = LONGEST) -> str:
    """A user's text as plotly shows it unchanged: no markup, no control or direction signs, not endless.

    Example:
        >>> label("<b>A&B</b>")
        '&lt;b&gt;A&amp;B&lt;/b&gt;'
    """
    shown = visible(str(text))
    if len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def six(value: object) -> float | None:
    """Six significant digits are more than a screen can show, and keep the page small."""
    found = known(value)
    return None if found is None else float(f"{found:.6g}")


def axis(title: str = "") -> Spec:
    """The look that all axes share."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": "grid",
        "linecolor": "grid",
        "zerolinecolor": "muted",
        "zerolinewidth": 1,
        "automargin": True,
        "fixedrange": True,
    }


def layout(height: int, x: Spec, y: Spec) -> Spec:
    """The look that all panels share."""
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 12, "r": 16, "t": 34, "b": 44},
        "paper_bgcolor": "clear",
        "plot_bgcolor": "clear",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "ink"},
        "legend": {"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "traceorder": "normal"},
        "hoverlabel": {"bgcolor": "paper", "bordercolor": "muted", "font": {"color": "ink"}},
        "hovermode": "closest",
        "xaxis": x,
        "yaxis": y,
    }


def dots(rows: Sequence[str], series: Sequence[Series], title: str, *, scale: Scale = "near") -> Spec:
    """Rows of dots with intervals: one row a step or layer, one dot a series, set apart within the row.

    Args:
        rows: what stands at the left of every row.
        series: as many dots each as there are rows.
        title: of the axis of values.
        scale: `near` shows the values' own range, `from zero` has zero at the left, `log` is logarithmic.
    """
    gap = 0.62 / max(1, len(series))
    traces: list[Spec] = []
    for place, one in enumerate(series):
        height = [row + (place - (len(series) - 1) / 2) * gap for row in range(len(rows))]
        traces += [_whiskers(one, height), _markers(one, height)]
    y = axis() | {
        "tickvals": list(range(len(rows))),
        "ticktext": [label(row) for row in rows],
        "range": [len(rows) - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
    }
    x = axis(title) | (_logarithmic(series) if scale == "log" else {"range": _room(series, scale)})
    return {"data": traces, "layout": layout(110 + len(rows) * (20 + 15 * len(series)), x, y)}


def _logarithmic(series: Sequence[Series]) -> Spec:
    """An axis whose labels do not run into each other on a telephone."""
    ends = [end for one in series for dot in one.dots for end in (dot.value, dot.low, dot.high) if end]
    decades = math.log10(max(ends)) - math.log10(min(ends)) if ends else 0
    return LOGARITHMIC | {"dtick": max(1, math.ceil(decades / 3)), "tickangle": 0}


def _room(series: Sequence[Series], scale: Scale) -> list[float]:
    ends = [end for one in series for dot in one.dots for end in (dot.value, dot.low, dot.high) if end is not None]
    low = 0.0 if scale == "from zero" else min(ends, default=0.0)
    high = max(ends, default=1.0)
    margin = 0.04 * (high - low) or 0.01
    return [round(low - margin, 6), round(high + margin, 6)]


def _whiskers(one: Series, height: Sequence[float]) -> Spec:
    # Drawn as lines and not as error bars: the percentile interval of a gap can miss its own estimate.
    x: list[float | None] = []
    y: list[float | None] = []
    for dot, at in zip(one.dots, height, strict=True):
        if dot.low is not None and dot.high is not None:
            x += [six(dot.low), six(dot.high), None]
            y += [at, at, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": one.colour, "width": 2},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _markers(one: Series, height: Sequence[float]) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(one.name),
        "x": [six(dot.value) for dot in one.dots],
        "y": list(height),
        "text": [label(dot.hover, 160) for dot in one.dots],
        "hoverinfo": "text",
        "marker": {
            "color": ["muted" if dot.faint else one.colour for dot in one.dots],
            "opacity": [0.5 if dot.faint else 1 for dot in one.dots],
            "symbol": one.symbol,
            "size": 11,
            "line": {"color": one.colour, "width": 2},
        },
    }


def lines(at: Sequence[float], series: Sequence[Series], x_title: str, *, marked: float | None, mark: str = "") -> Spec:
    """Lines with markers over a shared axis, such as epochs, with one place of it marked."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label(one.name),
            "x": [six(place) for place in at],
            "y": [six(dot.value) for dot in one.dots],
            "text": [label(dot.hover, 160) for dot in one.dots],
            "hoverinfo": "text",
            "line": {"color": one.colour, "width": 2, "dash": DASHES[one.index % len(DASHES)]},
            "marker": {"color": one.colour, "symbol": one.symbol, "size": 8},
        }
        for one in series
    ]
    figure: Spec = {"data": traces, "layout": layout(330, axis(x_title) | {"zeroline": False}, axis())}
    if marked is not None:
        figure["layout"] |= _mark(marked, mark)
    return figure


def _mark(at: float, text: str) -> Spec:
    line = {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    note = {
        "x": at,
        "yref": "paper",
        "y": 0.01,
        "yanchor": "bottom",
        "xanchor": "auto",
        "showarrow": False,
        "text": text,
    }
    return {
        "shapes": [line | {"line": {"color": "muted", "width": 1.5, "dash": "dot"}}],
        "annotations": [note | {"font": {"color": "ink"}, "bgcolor": "paper"}],
    }


def mirrored(upper: Series, lower: Series, x_title: str, y_title: str) -> Spec:
    """Bars of two series on logarithmic axes, one upwards and one downwards from a shared line."""
    span = _decades([*upper.dots, *lower.dots])
    scale = axis() | LOGARITHMIC | {"dtick": max(1, (span[1] - span[0]) // 3)}
    figure: Spec = {
        "data": [_bars(upper, "y"), _bars(lower, "y2")],
        "layout": layout(
            420,
            axis(x_title) | {"anchor": "y2", "showgrid": False, "zeroline": False},
            scale | {"domain": [0.54, 1], "range": span, "title": {"text": y_title}},
        ),
    }
    figure["layout"] |= {"yaxis2": scale | {"domain": [0, 0.46], "range": span[::-1]}, "bargap": 0}
    return figure


def _bars(one: Series, axis_name: str) -> Spec:
    return {
        "type": "bar",
        "name": label(one.name),
        "x": list(range(1, len(one.dots) + 1)),
        "y": [six(dot.value) if dot.value else None for dot in one.dots],
        "yaxis": axis_name,
        "text": [label(dot.hover, 160) for dot in one.dots],
        "textposition": "none",
        "hoverinfo": "text",
        "marker": {"color": one.colour, "line": {"width": 0}},
    }


def _decades(every: Sequence[Dot]) -> list[int]:
    powers = [math.log10(dot.value) for dot in every if dot.value]
    if not powers:
        return [-1, 0]
    # A few weights of nearly no saliency would otherwise squeeze all others into the top of the axis.
    lowest = max(math.floor(min(powers)), math.floor(max(powers)) - 7)
    return [lowest, math.floor(max(powers)) + 1]
