"""Plotly heat maps with the number in every cell, so that nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Sequence

from equiprune.report.draw import Spec, axis, label, layout, six


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    most: float,
    both: bool,
    x: str = "",
    y: str = "",
) -> Spec:
    """A map of rows and columns.

    Args:
        rows: names at the left, top first.
        columns: names at the top.
        values: a row's cells; None is not estimable and stays blank.
        texts: what stands in each cell.
        most: the value of the fullest colour.
        both: whether values lie on both sides of 0, else from 0 up.
        x: what the columns are.
        y: what the rows are.
    """
    scale = [[0, "less"], [0.5, "paper"], [1, "more"]] if both else [[0, "paper"], [1, "more"]]
    trace: Spec = {
        "type": "heatmap",
        # Places and not names: plotly would take two names that are cut to the same text for one row.
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "z": [[six(value) for value in row] for row in values],
        "text": [[label(text) for text in row] for row in texts],
        "texttemplate": "%{text}",
        "hoverinfo": "skip",
        "zmin": -most if both else 0,
        "zmax": most,
        "colorscale": scale,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    across = _named(columns, 16) | {"side": "top", "range": [-0.5, len(columns) - 0.5]}
    down = _named(rows, 28) | {"range": [len(rows) - 0.5, -0.5]}
    across["title"], down["title"] = {"text": x}, {"text": y}
    figure: Spec = {"data": [trace], "layout": layout(110 + 26 * len(rows), across, down)}
    figure["layout"]["margin"] = {"l": 12, "r": 12, "t": 70, "b": 14}
    return figure


def _named(names: Sequence[str], longest: int) -> Spec:
    return axis() | {
        "tickvals": list(range(len(names))),
        "ticktext": [label(name, longest) for name in names],
        "showgrid": False,
        "zeroline": False,
    }
